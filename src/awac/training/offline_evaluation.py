"""`awac evaluate-offline`: the saved policies of some runs, ranked on a data set without an environment."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gymnasium import spaces

from awac.config import Config
from awac.data.sources import resolve_dataset
from awac.data.sources.table_names import inner_words
from awac.data.transitions import Transitions
from awac.envs.stand_in import stand_in
from awac.errors import CheckpointError, ConfigError, ExportError, did_you_mean
from awac.runs import files
from awac.runs.deployed import DeployedPolicy, load_policy
from awac.runs.folder import episodes
from awac.runs.tables import rows_by_episode
from awac.training.fitted_q import Estimate, Settings, check, fitted_q, rank_correlation
from awac.training.resume import fingerprint
from awac.training.session import select_device

COLUMNS = (
    "folder",
    "episode",
    "estimate",
    "std",
    "drift",
    "off_data",
    "mean_return",
    "normalized_score",
    "gamma",
    "steps",
    "critics",
    "dataset",
    "rows",
)
DRIFT = 0.05
"""Drift relative to the largest estimate above which estimates get a warning."""
HORIZONS = 3
"""Targets computed per 1/(1 − γ) below which a value is still much of what it began with."""


@dataclass(frozen=True)
class Ranked:
    """One policy and its results.

    Attributes:
        folder: its run.
        episode: its checkpoint.
        estimate: of its value.
        mean_return: undiscounted, from the run's own evaluation of that checkpoint; None if there is none.
        normalized_score: likewise.
    """

    folder: Path
    episode: int
    estimate: Estimate
    mean_return: float | None
    normalized_score: float | None


def evaluate_offline(
    folders: Sequence[str] | str,
    episode: Sequence[int] | int | str | None = None,
    *,
    dataset: str | None = None,
    action_unit: str | None = None,
    download: bool = False,
    gamma: float | None = None,
    fit: dict | None = None,
    out: str | None = None,
    device: str = "CPU",
) -> list[Ranked]:
    """Estimates the value of saved policies from a data set alone, prints a table and writes a CSV file.

    Args:
        folders: run folders, or folders that `awac export --out` wrote; one or several.
        episode: a checkpoint of each folder, several, "all" of them, or None for the newest.
        dataset: id or path; None for the one that the policies were trained on.
        action_unit: of its actions; None as in training.
        download: fetch D4RL's file if it is not on the machine.
        gamma: discount factor; None for the runs' own.
        fit: other attributes of `Settings` by name.
        out: the CSV file; None for `offline_evaluation.csv` in the first folder.
        device: as in `awac train`.

    Returns:
        The policies, highest estimate first.

    Raises:
        CheckpointError: no sound checkpoint, or policies of different spaces.
        ConfigError: policies of different data sets or discounts, and none was given.
        DataError: the data set can't be read, or does not fit the policies.
    """
    select_device(device)
    if isinstance(folders, (str, os.PathLike)):
        folders = [folders]
    if not folders:
        raise ConfigError("evaluate_offline: no run folder is given")
    policies = [policy for folder in folders for policy in _policies(Path(folder).expanduser(), episode)]
    for folder, policy in policies:
        _same_spaces(policies[0], (folder, policy))
    configs = [Config.from_dict(policy.manifest["config"]) for _, policy in policies]
    name = dataset or _common("data set", {config.env.dataset or config.env.task for config in configs}, "--dataset")
    if gamma is None:
        gamma = _common("gamma", {config.algo.gamma for config in configs}, "--gamma")
    settings = Settings(gamma=gamma, **_known(fit or {}))
    check(settings)
    unit = action_unit or _common("action_unit", {config.env.action_unit for config in configs}, "--action_unit")
    data, rows = _data(name, policies[0][1], unit, download or configs[0].env.download)
    if dataset is None:
        _compare(policies, data, name)
    space = policies[0][1].space
    count = int(space.n) if isinstance(space, spaces.Discrete) else None
    print(
        f"Fitted Q evaluation of {len(policies)} {'policy' if len(policies) == 1 else 'policies'}: "
        f"{settings.critics} critics each, {settings.steps} steps, gamma {settings.gamma:g}",
        flush=True,
    )
    estimates = fitted_q(data, [policy.network for _, policy in policies], count, settings, progress=True)
    ranked = [_ranked(folder, policy, e) for (folder, policy), e in zip(policies, estimates, strict=True)]
    ranked.sort(key=lambda row: -row.estimate.value)
    print(*_table(ranked), *_remarks(ranked, settings), sep="\n", flush=True)
    path = Path(out).expanduser() if out else policies[0][0] / "offline_evaluation.csv"
    _write(path, ranked, settings, name, rows)
    print(f"Written to {path}", flush=True)
    return ranked


def _policies(folder: Path, episode) -> list[tuple[Path, DeployedPolicy]]:
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint folder")
    chosen: list[int | None] = [episode]
    if episode == "all":
        chosen = [*sorted(episodes(folder))]
    elif isinstance(episode, (list, tuple, range, np.ndarray)):
        chosen = [*episode] or [None]
    if not chosen:
        raise CheckpointError(f"{folder}: no checkpoint in it")
    return [(folder, load_policy(str(folder), number)) for number in chosen]


def _same_spaces(first: tuple[Path, DeployedPolicy], other: tuple[Path, DeployedPolicy]) -> None:
    sizes = [policy.manifest["spaces"]["raw_obs_size"] for _, policy in (first, other)]
    if sizes[0] != sizes[1] or first[1].space != other[1].space:
        raise CheckpointError(
            f"{first[0]} and {other[0]} have policies of different observations or actions ({sizes[0]} values, "
            f"{first[1].space}; {sizes[1]} values, {other[1].space}); compare those of one task"
        )
    columns = [_columns_of(policy) for _, policy in (first, other)]
    if all(columns) and inner_words(columns[0]) != inner_words(columns[1]):
        raise CheckpointError(
            f"{first[0]} and {other[0]} were trained on other observation columns, or in another order; compare those "
            "of one table"
        )


def _known(fit: dict) -> dict:
    names = [field.name for field in dataclasses.fields(Settings) if field.name != "gamma"]
    for name in fit:
        if name not in names:
            raise ConfigError(f"fit: unknown setting {name!r}{did_you_mean(name, names)} (one of {', '.join(names)})")
    return fit


def _common(what: str, values: set, option: str):
    """The one value of all policies.

    Raises:
        ConfigError: there are several.
    """
    if len(values) > 1:
        listed = ", ".join(sorted(map(str, values)))
        raise ConfigError(
            f"the policies were trained with different values of {what} ({listed}); give one with {option}"
        )
    return values.pop()


def _data(name: str, policy: DeployedPolicy, unit: str, download: bool) -> tuple[Transitions, int]:
    """The rows, read with the policy's spaces and its episodes' limit in place of an environment's."""
    limit = policy.manifest.get("episode_limit") or policy.manifest["config"]["env"].get("max_episode_steps")
    env = stand_in(int(policy.manifest["spaces"]["raw_obs_size"]), _space(policy), limit)
    columns = _columns_of(policy)
    data, origin = resolve_dataset(name, env=env, action_unit=unit, download=download, columns=columns)
    print(*origin.lines(), sep="\n", flush=True)
    return data, origin.rows


def _columns_of(policy: DeployedPolicy) -> tuple[str, ...]:
    """Names of the observation columns, if it was trained on a table."""
    return tuple(policy.manifest.get("data", {}).get("observation_columns", ()))


def _space(policy: DeployedPolicy) -> spaces.Space:
    """The actions that training's environment had; `policy.space` has its bounds in float32."""
    if "action_bounds" not in policy.manifest:
        return policy.space
    low, high = (np.asarray(side, np.float64) for side in policy.manifest["action_bounds"])
    return spaces.Box(low, high, dtype=np.float64)


def _compare(policies: list[tuple[Path, DeployedPolicy]], data: Transitions, name: str) -> None:
    """Prints which runs were trained on other rows than these; older ones don't note how they cut episodes."""
    here = fingerprint(data)
    noted = {folder: policy.manifest for folder, policy in policies if "episode_limit" in policy.manifest}
    for folder, manifest in noted.items():
        if manifest["data"]["sha256"] != here:
            hint = "--dataset takes those rows, or says that these are meant"
            print(f"Warning: {folder} was trained on other rows than {name} has now; {hint}", flush=True)


def _ranked(folder: Path, policy: DeployedPolicy, estimate: Estimate) -> Ranked:
    row = rows_by_episode(folder, "eval.csv").get(policy.episode, {})
    return Ranked(folder, policy.episode, estimate, _number(row, "mean_return"), _number(row, "normalized_score"))


def _number(row: dict[str, str], name: str) -> float | None:
    try:
        return float(row[name])
    except (KeyError, ValueError, TypeError):
        return None


def _table(ranked: list[Ranked]) -> list[str]:
    head = ("policy", "checkpoint", "estimate", "std", "drift", "off data", "return")
    lines = [head]
    for row in ranked:
        e = row.estimate
        known = "" if row.mean_return is None else f"{row.mean_return:.1f}"
        figures = (f"{e.value:.2f}", f"{e.std:.2f}", f"{e.drift:+.2f}", f"{e.off_data:.2f}", known)
        lines.append((str(row.folder), str(row.episode), *figures))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]


def _remarks(ranked: list[Ranked], settings: Settings) -> list[str]:
    """What a reader should know besides the table."""
    lines, best = [], ranked[0]
    if len(ranked) > 1:
        noise = [float(np.nan_to_num(row.estimate.std)) for row in ranked]
        near = [
            r
            for r, s in zip(ranked[1:], noise[1:], strict=True)
            if best.estimate.value - r.estimate.value < noise[0] + s
        ]
        also = f"; not distinguishable from it: {', '.join(_name(row) for row in near)}" if near else ""
        if np.isnan(best.estimate.std):
            also = "; with one critic nothing tells how sure that is (--critics)"
        lines.append(f"Highest estimate: {_name(best)}{also}")
    known = [row for row in ranked if row.mean_return is not None]
    if len(known) > 2:
        rank = rank_correlation(*zip(*((row.estimate.value, row.mean_return) for row in known), strict=True))
        none = "none, since the estimates or the returns are all equal" if np.isnan(rank) else f"{rank:.2f}"
        lines.append(f"Rank correlation with the runs' own evaluations: {none} ({len(known)} policies)")
    largest = max(abs(r.estimate.value) for r in ranked)
    moving = [r for r in ranked if abs(r.estimate.drift) > DRIFT * max(largest, 1e-9)]
    if moving:
        lines.append(f"Warning: {len(moving)} of {len(ranked)} estimates still move (drift); give more --steps")
    needed = round(HORIZONS / (1 - settings.gamma)) * settings.steps_per_target
    if settings.steps < needed:
        lines.append(f"Warning: with gamma {settings.gamma:g} values need more --steps, {needed:,} or more")
    if np.isnan(best.estimate.drift):
        lines.append("Warning: too few --steps to tell whether the estimates still move")
    return lines


def _name(row: Ranked) -> str:
    return f"{row.folder} checkpoint {row.episode}"


def _write(path: Path, ranked: list[Ranked], settings: Settings, dataset: str, rows: int) -> None:
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(COLUMNS)
    for row in ranked:
        e = row.estimate
        figures = (e.value, e.std, e.drift, e.off_data, row.mean_return, row.normalized_score)
        shown = ["" if x is None or np.isnan(x) else f"{x:.6g}" for x in figures]
        constant = (settings.gamma, settings.steps, settings.critics, dataset, rows)
        table.writerow((row.folder, row.episode, *shown, *constant))
    try:
        files.write_text(path, text.getvalue())
    except OSError as error:
        raise ExportError(f"{path} could not be written ({error.strerror or error})") from error
