"""`awac doctor`: is a data set fit to train on? One verdict a line, with what it means, before hours are spent.

`examine` reads the file and checks all of it. `quick` checks rows that are in memory already and takes well under a
second: training runs it and logs what is not in order.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from awac.data.normalizer import describe_columns, varying_columns
from awac.data.sources.d4rl import resolve_dataset
from awac.data.sources.files import PHYSICS, REQUIRED, load_columns, transitions
from awac.data.sources.generated import GENERATED
from awac.data.transitions import BOUND_TOLERANCE, Transitions
from awac.envs.mujoco_v2 import TIME_LIMIT
from awac.envs.tasks import make_env, normalized_score, parse_d4rl_id
from awac.errors import AWACError, DataError

EXPECTED = (*REQUIRED, "timeouts", "next_observations")
OBSERVATION_TOLERANCE, REWARD_TOLERANCE = 1e-5, 5e-3
"""Median errors up to which rows count as recorded on these physics. Files hold states in float32, which alone gives
observation errors near 1e-6; rewards also hang on where the engine last computed the body positions."""
_SATURATED = 0.999
_SAMPLE = 20_000


class Finding(NamedTuple):
    """One line of the report: `verdict` is ok, warn or fail."""

    verdict: str
    check: str
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:<5}{self.check:<14}{self.text}"


def doctor(dataset: str, task: str | None = None, download: bool = False) -> int:
    """Prints the report; returns the exit code: 0 for fit (warnings included), 1 where a check fails."""
    counts = {"ok": 0, "warn": 0, "fail": 0}
    for finding in examine(dataset, task, download):
        counts[finding.verdict] += 1
        print(finding, flush=True)
    verdict = "not fit to train on" if counts["fail"] else "fit, with warnings" if counts["warn"] else "fit"
    print(f"Verdict: {verdict} ({counts['ok']} ok, {counts['warn']} warn, {counts['fail']} fail)")
    return 1 if counts["fail"] else 0


def examine(dataset: str, task: str | None = None, download: bool = False):
    """Yields the findings for a data set id or file; a check that fails ends it only if nothing can follow.

    Args:
        dataset: D4RL id or path.
        task: environment to hold the rows against; None takes it from the id or from D4RL's file name.
        download: fetch D4RL's file if it is not on the machine.
    """
    try:
        path, origin = _locate(dataset, download)
        yield Finding("ok", "file", origin)
        columns = load_columns(path, (*EXPECTED, *PHYSICS))
        yield from _check_keys(columns)
        faults = list(_check_finite(columns))
        yield from faults or [Finding("ok", "values", "no NaN, no infinity")]
        if faults:
            return
        data = transitions({key: columns[key] for key in EXPECTED if key in columns}, str(path))
    except DataError as error:
        yield Finding("fail", "file", str(error))
        return
    if "timeouts" in columns:
        both = int(np.logical_and(columns["terminals"].reshape(-1), columns["timeouts"].reshape(-1)).sum())
        if both:
            yield Finding("warn", "ends", f"{both} rows are terminal and timeout at once; they count as terminal")
    task = task or _guess_task(dataset, path)
    if task is None:
        text = "unknown, so sizes, bounds and physics are not held against it; give --task ID"
        yield from (*_check_rows(data), Finding("warn", "task", text))
        return
    try:
        env = make_env(task)
    except AWACError as error:
        yield Finding("fail", "task", str(error))
        return
    try:
        yield from _check_rows(data, task)
        fits = list(_check_spaces(data, env, task))
        yield from fits
        if all(finding.verdict != "fail" for finding in fits):
            yield from _check_physics(data, env, task, 1000, columns)
    finally:
        env.close()


def quick(data: Transitions, env: gymnasium.Env, task: str) -> list[Finding]:
    """What is not in order about rows that are about to be trained on; their sizes fit the environment already."""
    found = [*_check_rows(data, task), *_check_physics(data, env, task, 50, {})]
    return [finding for finding in found if finding.verdict != "ok"]


def _locate(dataset: str, download: bool) -> tuple[Path, str]:
    if parse_d4rl_id(dataset) is None and dataset not in GENERATED and Path(dataset).expanduser().exists():
        path = Path(dataset).expanduser()  # read below: a file with NaN is to be reported key by key
        return path, f"{path}, {os.path.getsize(path) / 1e6:.1f} MB"
    _, origin = resolve_dataset(dataset, download=download)
    return origin.path, origin.describe()


def _guess_task(dataset: str, path: Path) -> str | None:
    if dataset in GENERATED:
        return dataset
    task = parse_d4rl_id(dataset) or parse_d4rl_id(path.stem.replace("_", "-"))
    return task.id if task else None


def _check_keys(columns):
    for key in EXPECTED:
        if key in columns:
            values = columns[key]
            yield Finding("ok", "key", f"{key} {values.shape} {values.dtype}")
    if "next_observations" not in columns:
        yield Finding(
            "ok", "key", "no next_observations: the next row stands in, timeout rows and the last are dropped"
        )
    if "timeouts" not in columns:
        text = "no timeouts: where episodes were cut is guessed (a jump to another state, or 1000 rows)"
        yield Finding("warn", "key", text)


def _check_finite(columns):
    for key, values in columns.items():
        if values.dtype.kind == "f":
            bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            if bad.any():
                text = f"{key}: {int(bad.sum())} rows with NaN or infinity, first {int(bad.argmax())}; remove them"
                yield Finding("fail", "values", text)


def _check_rows(data: Transitions, task: str | None = None):
    """Everything that the rows themselves tell."""
    yield from _check_columns(data)
    yield from _check_rewards(data)
    yield from _check_episodes(data, task)


def _check_columns(data: Transitions):
    varies = varying_columns(data.observations)
    yield Finding("ok" if varies.any() else "fail", "observations", describe_columns(varies))
    sample = data.observations[:: max(1, len(data) // _SAMPLE)]
    _, first, inverse = np.unique(sample[:, varies], axis=1, return_index=True, return_inverse=True)
    doubled = np.flatnonzero(first[inverse.reshape(-1)] != np.arange(int(varies.sum())))
    if len(doubled) and len(sample) > 1:
        names = ", ".join(map(str, np.flatnonzero(varies)[doubled][:5]))
        yield Finding("warn", "observations", f"{len(doubled)} columns repeat another one ({names}): is one missing?")
    weights = np.random.default_rng(0).normal(size=data.obs_size)
    keys = sample @ weights + data.actions[:: max(1, len(data) // _SAMPLE)].reshape(len(sample), -1).sum(axis=1)
    repeats = 1 - len(np.unique(keys)) / len(sample)
    if repeats > 0.01 and not data.discrete:
        yield Finding("warn", "rows", f"{repeats:.0%} of the rows repeat another one: was a file joined to itself?")
    if data.discrete:
        yield Finding("ok", "actions", f"discrete, indices {data.actions.min()} to {data.actions.max()}")
        return
    still = int((np.ptp(data.actions, axis=0) == 0).sum())
    if still:
        yield Finding(
            "warn", "actions", f"{still} of {data.action_size} columns are constant: the policy can't vary them"
        )
    edge = float((np.abs(data.actions) > _SATURATED).mean())
    text = f"{data.actions.min():.3g} to {data.actions.max():.3g}, {edge:.0%} of the values at the bounds"
    hint = "; the Gaussian policy fits such actions badly" if edge > 0.5 else ""
    yield Finding("warn" if hint else "ok", "actions", text + hint)


def _check_rewards(data: Transitions):
    rewards = data.rewards
    text = f"{rewards.min():.4g} to {rewards.max():.4g}, mean {rewards.mean(dtype=np.float64):.4g}"
    costly_ends = rewards[0] != 0 and data.terminated.any()  # then a constant reward tells long episodes from short
    if rewards.min() == rewards.max() and not costly_ends:
        yield Finding(
            "warn", "rewards", f"all are {rewards[0]:.4g}: no action is better than another, AWAC only clones"
        )
    elif (largest := float(np.abs(rewards).max())) > 1e4:
        text += f": values up to {largest:.1e} make the critics' loss explode; set reward_scale"
        yield Finding("warn", "rewards", text)
    else:
        yield Finding("ok", "rewards", text)


def _check_episodes(data: Transitions, task: str | None):
    ends = np.flatnonzero(data.terminated | data.truncated) + 1
    lengths = np.diff(np.concatenate([[0], ends]))
    returns = data.episode_returns()
    terminals, timeouts = int(data.terminated.sum()), int(data.truncated.sum())
    text = f"{terminals} terminals, {timeouts} other ends"
    if terminals == len(data):
        yield Finding("warn", "ends", f"{text}: every row is terminal, so nothing is ever bootstrapped; check the key")
    else:
        yield Finding("ok", "ends", text)
    text = f"{len(lengths)}, lengths {lengths.min()} / {np.median(lengths):.0f} / {lengths.max()} (least, median, most)"
    if task and parse_d4rl_id(task) and lengths.max() > TIME_LIMIT:
        yield Finding("warn", "episodes", f"{text}: longer than the task's {TIME_LIMIT} steps, so timeouts are missing")
    else:
        yield Finding("ok", "episodes", text)
    joined = (data.next_observations[:-1] != data.observations[1:]).any(axis=1)
    joined &= ~(data.terminated | data.truncated)[:-1]
    if joined.any():
        text = f"within episodes {int(joined.sum())} rows don't lead to the next one: shuffled, thinned or ends missing"
        yield Finding("warn", "episodes", f"{text}; training is unharmed, episode returns mean nothing")
    quartiles = np.percentile(returns, [0, 25, 50, 75, 100])
    text = " / ".join(f"{value:.1f}" for value in quartiles) + " (least, quartiles, most)"
    score = normalized_score(task, float(returns.mean())) if task else None
    yield Finding("ok", "returns", text if score is None else f"{text}, mean normalised score {score:.1f}")


def _check_spaces(data: Transitions, env, task: str):
    try:
        data.check_env("data", env.observation_space, env.action_space)
    except DataError as error:
        yield Finding("fail", "task", f"{task}: {str(error).removeprefix('data: ')}")
        return
    kind = "0..n-1" if isinstance(env.action_space, spaces.Discrete) else f"[-1, 1] ± {BOUND_TOLERANCE:g}"
    yield Finding("ok", "task", f"{task}: {data.obs_size} observations, actions in {kind}")


def _check_physics(data: Transitions, env, task: str, most: int, columns):
    """Sets recorded states, takes the recorded actions, and holds what follows against the file."""
    states = _states(data, env, task, columns)
    if states is None:
        if hasattr(env.unwrapped, "set_state"):
            text = "not checked: the file has no infos/qpos and infos/qvel for the rows that are used"
            yield Finding("warn", "physics", text)
        return
    rows, qpos, qvel = states
    if len(rows) == 0:
        yield Finding("warn", "physics", "not checked: no recorded state gives its row's observation")
        return
    pick = np.unique(np.linspace(0, len(rows) - 1, most).astype(int))
    robot, seen, paid, ended = env.unwrapped, [], [], []
    env.reset(seed=0)
    for i in pick:
        robot.set_state(qpos[i], qvel[i])
        observation, reward, terminated, *_ = robot.step(data.actions[rows[i]])
        seen.append(np.abs(observation - data.next_observations[rows[i]]).max())
        paid.append(abs(reward - data.rewards[rows[i]]))
        ended.append(terminated != data.terminated[rows[i]])
    seen_error, paid_error, ends = float(np.median(seen)), float(np.median(paid)), float(np.mean(ended))
    text = f"median error of the next observation {seen_error:.1e} over {len(pick)} steps"
    if seen_error <= OBSERVATION_TOLERANCE:
        yield Finding("ok", "physics", f"{text}: recorded on these physics")
    elif seen_error < 0.1:
        yield Finding("warn", "physics", f"{text}: recorded on another engine (Gymnasium's v4/v5 robots give about "
                      "5e-3); online training starts with a change of dynamics")  # fmt: skip
    else:
        yield Finding("fail", "physics", f"{text}: these rows are not from this robot, or their keys are mixed up")
    text = f"median error of the reward {paid_error:.1e}"
    text += "" if paid_error <= REWARD_TOLERANCE else ": another reward than the task's (scaled, shifted, other terms?)"
    yield Finding("ok" if paid_error <= REWARD_TOLERANCE else "warn", "physics", text)
    if ends > 0.01:
        text = f"in {ends:.0%} of the steps the task ends where the file doesn't, or goes on where it does"
        yield Finding("warn", "physics", f"{text}; check terminals")


def _states(data: Transitions, env, task: str, columns):
    """(rows, qpos, qvel) to start from: recorded ones, or for D4RL's robots the state that is in the observation."""
    robot = env.unwrapped
    if not hasattr(robot, "set_state") or robot.action_space.high.max() != env.action_space.high.max():
        return None
    positions, speeds = robot.model.nq, robot.model.nv
    qpos, qvel = (columns.get(key) for key in PHYSICS)
    d4rl = parse_d4rl_id(task)
    if qpos is not None and qvel is not None and len(qpos) == len(data):
        if qpos.shape[1:] != (positions,) or qvel.shape[1:] != (speeds,):
            return np.arange(0), qpos, qvel
        rows = np.arange(len(data))
        if d4rl:
            # Some recorders note the state after the step: then it is the next row's.
            hidden = 2 if d4rl.robot == "ant" else 1
            shifted = np.abs(qpos[:-1, hidden:] - data.observations[1:, : positions - hidden]).max(axis=1, initial=0)
            direct = np.abs(qpos[:, hidden:] - data.observations[:, : positions - hidden]).max(axis=1, initial=0)
            if len(data) > 1 and np.median(shifted) < 1e-5 < np.median(direct):
                rows = 1 + np.flatnonzero(shifted < 1e-5)
                return rows, qpos[rows - 1].astype(np.float64), qvel[rows - 1].astype(np.float64)
            rows = np.flatnonzero(direct < 1e-5)
        return rows, qpos[rows].astype(np.float64), qvel[rows].astype(np.float64)
    if d4rl is None:
        return None
    hidden = 2 if d4rl.robot == "ant" else 1  # the position along the ground, on which nothing depends
    state = data.observations[:, : positions - hidden + speeds].astype(np.float64)
    rows = np.flatnonzero((np.abs(state[:, positions - hidden :]) < 10).all(axis=1))  # Hopper and Walker2d clip there
    qpos = np.concatenate([np.zeros((len(rows), hidden)), state[rows, : positions - hidden]], axis=1)
    return rows, qpos, state[rows, positions - hidden :]
