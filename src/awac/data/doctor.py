"""`awac doctor`: is a data set fit to train on? One verdict per line, with its meaning.

`examine` reads the file by the same rules as training and checks all of it. `quick` checks rows that are in memory
already and takes well under a second; training runs it and logs its warnings.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces

from awac.config import AlgoConfig
from awac.data.checks import Finding, check_bounds, check_rows
from awac.data.columns import PHYSICS, Loaded, load, named
from awac.data.ends import time_limit
from awac.data.physics import check_physics
from awac.data.sources.key_order import by_keys
from awac.data.sources.registry import Recording, Request, known_ids
from awac.data.sources.resolve import find, stand_in_of
from awac.data.transitions import BOUND_TOLERANCE, Transitions
from awac.envs.actions import environment_action_space
from awac.envs.make import make_env
from awac.envs.tasks import Task
from awac.errors import AWACError, DataError


def doctor(
    dataset: str,
    task: str | Task | None = None,
    download: bool = False,
    action_unit: str = "auto",
    alone: dict | None = None,
) -> int:
    """Prints the report; returns the exit code: 0 for fit (warnings included), 1 if a check fails."""
    findings = []
    for finding in examine(dataset, task, download, action_unit, alone):
        findings.append(finding)
        print(finding, flush=True)
    verdict, counts = summary(findings)
    print(f"Verdict: {verdict} ({counts})")
    return 1 if any(finding.verdict == "fail" for finding in findings) else 0


def summary(findings: list[Finding]) -> tuple[str, str]:
    """The verdict on a data set, and how many findings are of each kind, in words."""
    counts = collections.Counter(finding.verdict for finding in findings)
    verdict = "not fit to train on" if counts["fail"] else "fit, with warnings" if counts["warn"] else "fit"
    return verdict, f"{counts['ok']} ok, {counts['warn']} warn, {counts['fail']} fail"


def examine(
    dataset: str,
    task: str | Task | None = None,
    download: bool = False,
    action_unit: str = "auto",
    alone: dict | None = None,
) -> Iterator[Finding]:
    """Yields the findings for a data set id or file; a failed check ends it only if no other check is possible.

    Args:
        dataset: id or path.
        task: environment to check the rows against; None takes it from the id or from D4RL's file name.
        download: fetch D4RL's file if it is not on the machine.
        action_unit: as in `load_dataset`.
        alone: check it for a run with `no_env`: the `low`, `high` and `limit` of `resolve_alone`.
    """
    try:
        recording = find(dataset, Request(download, extra=PHYSICS))
        size = os.path.getsize(recording.path) / 1e6
        yield Finding("ok", "file", f"{recording.detail}, {size:.1f} MB")
        yield from _check_keys(recording)
        values = list(_check_finite(recording))
        yield from values
        if any(finding.verdict == "fail" for finding in values):
            return
        if alone is not None:
            yield from _check_alone(recording, action_unit, alone)
            return
        task = _guess_task(dataset, recording.path) if task is None else Task.parse(task)
        if task is None:
            loaded = load(recording.columns, str(recording.path), action_unit=action_unit)
            text = "unknown, so sizes, bounds and physics are not checked against it; give --task ID or --no_env"
            yield from (
                *_check_reading(recording, loaded),
                *check_rows(loaded.data, returns=loaded.returns, lengths=loaded.lengths, scaled=False),
            )
            yield Finding("warn", "task", text)
            return
    except DataError as error:
        yield Finding("fail", "file", str(error))
        return
    try:
        env = make_env(task)
    except AWACError as error:
        yield Finding("fail", "task", str(error))
        return
    try:
        yield from _check_with_env(recording, env, task, action_unit)
    except DataError as error:
        yield Finding("fail", "file", str(error))
    finally:
        env.close()


def quick(data: Transitions, env: gymnasium.Env, task: Task) -> list[Finding]:
    """Problems of rows that are about to be trained on; their sizes are checked already."""
    bounds = check_bounds(data, env)
    findings = [*check_rows(data, task, time_limit(env)), *bounds, *check_physics(data, env, task, 50, {})]
    return [finding for finding in findings if finding.verdict != "ok"]


def _check_with_env(recording: Recording, env: gymnasium.Env, task: Task, action_unit: str) -> Iterator[Finding]:
    source, space, fits = str(recording.path), environment_action_space(env), True
    recording, unit = by_keys(recording, env), recording.action_unit
    try:
        loaded = load(recording.columns, source, env=env, action_unit=action_unit, stored_unit=unit)
    except DataError as error:
        fits = False
        loaded = load(recording.columns, source, limit=time_limit(env))  # raises what is no matter of the task
        yield Finding("fail", "task", f"{task.id}: {str(error).removeprefix(f'{source}: ')}")
    yield from _check_reading(recording, loaded)
    yield from check_rows(loaded.data, task, time_limit(env), loaded.returns, fits, loaded.lengths)
    if fits:
        kind = "0..n-1" if isinstance(space, spaces.Discrete) else f"[-1, 1] ± {BOUND_TOLERANCE:g}"
        yield Finding("ok", "task", f"{task.id}: {loaded.data.obs_size} observations, actions in {kind}")
        yield from check_bounds(loaded.data, env)
        yield from check_physics(loaded.data, env, task, 1000, recording.columns)


def _check_alone(recording: Recording, action_unit: str, alone: dict) -> Iterator[Finding]:
    env, note = stand_in_of(recording, action_unit=action_unit, **alone)
    unit = recording.action_unit
    loaded = load(recording.columns, str(recording.path), env=env, action_unit=action_unit, stored_unit=unit)
    yield Finding("ok", "reading", note)
    yield from _check_reading(recording, loaded)
    yield from check_rows(loaded.data, limit=time_limit(env), returns=loaded.returns, lengths=loaded.lengths)


def _guess_task(dataset: str, path: Path) -> Task | None:
    if dataset in known_ids():
        return Task.parse(dataset)
    task = Task.parse(path.stem.replace("_", "-"))
    return task if task.is_d4rl else None


def _check_keys(recording: Recording) -> Iterator[Finding]:
    columns = recording.columns
    for key, values in columns.items():
        if key not in PHYSICS:
            yield Finding("ok", "key", f"{key} {values.shape} {recording.types.get(key, values.dtype)}")
    if "next_observations" not in named(columns):
        text = "no next_observations: the next row's observation is used; rows without one are dropped"
        yield Finding("ok", "key", text)
    if "terminals" in columns and "timeouts" in columns:
        both = int(np.logical_and(columns["terminals"].reshape(-1), columns["timeouts"].reshape(-1)).sum())
        if both:
            yield Finding("warn", "ends", f"{both} rows are terminal and timeout at once; they count as terminal")


def _check_finite(recording: Recording) -> Iterator[Finding]:
    """Next observations are left to `load`: where an episode ends there may be none."""
    successors = named(recording.columns).get("next_observations")
    faults, note = False, ""
    for key, values in recording.columns.items():
        if values.dtype.kind == "f":
            bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            if bad.any() and key == successors:
                note = f"; {int(bad.sum())} rows have no next observation"
            elif bad.any():
                faults = True
                text = f"{key}: {int(bad.sum())} rows with NaN or infinity, first {int(bad.argmax())}; remove them"
                yield Finding("fail", "values", text)
    if not faults:
        yield Finding("ok", "values", f"no NaN, no infinity{note}")


def _check_reading(recording: Recording, loaded: Loaded) -> Iterator[Finding]:
    """How the file was read, in the same words as training's log."""
    for text in (*recording.notes, *loaded.notes):
        yield Finding("ok", "reading", text)
    for text in (*recording.warnings, *loaded.warnings):
        yield Finding("warn", "reading", text)
    used, batch = len(loaded.data), AlgoConfig().batch_size
    if used < batch:
        yield Finding("warn", "rows", f"{used}, fewer than one batch (by default {batch}): little to learn from")
    unused = loaded.rows - used
    if unused:
        yield Finding("ok", "reading", f"{unused} of {loaded.rows} rows have no next observation and are not used")
