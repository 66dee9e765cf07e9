"""Runs of several tasks, presets and seeds, as a sweep leaves them, and their scores in tables."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from awac.config import SECTIONS, Config
from awac.envs.tasks import normalized_score
from awac.errors import DataError, NoCheckpointError
from awac.report.curves import Run
from awac.runs import files
from awac.runs.tables import rows_by_episode
from awac.sweep.plan import PLAN, trial_name


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Results:
    """What a report is made of.

    Attributes:
        title: of the report.
        runs: the seeds' runs by (task, preset), in the order of the report.
        missing: trials that have no evaluation or no sound checkpoint, by name.
        unfinished: those that have not come to their last one.
        reference: the data's mean return, in place of the one that the runs' checkpoints hold.
    """

    title: str
    runs: dict[tuple[str, str], list[Run]]
    missing: list[str]
    unfinished: list[str]
    reference: float | None = None

    def __post_init__(self) -> None:
        """A task has one unit: if a run has no score, as with another step limit, none of the task's has."""
        for task in self.tasks:
            if not all(map(is_normalised, self.of_task(task))):
                for pair in [pair for pair in self.runs if pair[0] == task]:
                    self.runs[pair] = [replace(run, scores=np.full_like(run.scores, np.nan)) for run in self.runs[pair]]

    @classmethod
    def of_sweep(cls, folder: Path) -> Results:
        """Reads a sweep's results folder.

        Raises:
            DataError: its plan is damaged, or no trial has an evaluation.
        """
        try:
            plan = json.loads(files.read_text(folder / PLAN))["trials"]
            rows = [(str(row["task"]), str(row["preset"]), str(row["name"]), int(row["episodes"])) for row in plan]
        except files.READ_ERRORS as error:
            raise DataError(f"{folder / PLAN} is not a sweep's plan ({files.first_line(error)})") from error
        runs: dict[tuple[str, str], list[Run]] = {}
        missing, unfinished = [], []
        for task, preset, name, episodes in rows:
            if not has_evaluation(folder / name):
                missing.append(name)
                continue
            try:
                run = Run.of(preset, folder / name)
            except NoCheckpointError:  # all of them are damaged
                missing.append(name)
                continue
            runs.setdefault((task, preset), []).append(run)
            if run.episodes[-1] < episodes:
                unfinished.append(name)
        if not runs:
            raise DataError(f"no trial in {folder} has an evaluation yet; `awac sweep` goes on with it")
        places = {pair: i for i, pair in enumerate(dict.fromkeys(row[:2] for row in rows))}
        ordered = dict(sorted(runs.items(), key=lambda item: places[item[0]]))
        return cls(folder.resolve().name, ordered, missing, unfinished)

    @classmethod
    def joined(cls, parts: list[Results]) -> Results:
        """A sweep that ran in parts. Of a trial in several parts the longest run counts, or the first of those.

        Raises:
            DataError: the seeds of a task and preset differ in their settings.
        """
        runs: dict[tuple[str, str], dict[str, Run]] = {}
        unfinished: set[str] = set()
        for part in parts:
            for pair, name, run in part.named():
                seeds = runs.setdefault(pair, {})
                if name not in seeds or run.episodes[-1] > seeds[name].episodes[-1]:
                    seeds[name] = run
                    (unfinished.add if name in part.unfinished else unfinished.discard)(name)
        for seeds in runs.values() if len(parts) > 1 else ():
            (first, reference), *others = seeds.items()
            for name, run in others:
                if differing := different_settings(reference, run):
                    raise DataError(
                        f"{first} and {name} differ in {', '.join(differing)}, so they are not seeds of one setting; "
                        "give the parts one by one"
                    )
        begun = {name for seeds in runs.values() for name in seeds}
        missing = dict.fromkeys(name for part in parts for name in part.missing if name not in begun)
        ordered = {pair: sorted(seeds.values(), key=seed_of) for pair, seeds in runs.items()}
        in_order = [name for seeds in runs.values() for name in seeds if name in unfinished]
        return cls(parts[0].title, ordered, list(missing), in_order)

    @classmethod
    def of_runs(cls, runs: list[Run], title: str, reference: float | None = None) -> Results:
        """Sorts single runs by task and name; those of one name are seeds."""
        sorted_runs: dict[tuple[str, str], list[Run]] = {}
        for run in runs:
            sorted_runs.setdefault((run.task, run.name), []).append(run)
        unfinished = []
        for seeds in sorted_runs.values():
            longest = max(run.episodes[-1] for run in seeds)
            unfinished += [str(run.folder) for run in seeds if run.episodes[-1] < longest]
        return cls(title, sorted_runs, [], unfinished, reference)

    def named(self) -> Iterator[tuple[tuple[str, str], str, Run]]:
        """(task, preset), TASK/PRESET/seed_N and run of every trial of a sweep that has an evaluation."""
        for (task, preset), seeds in self.runs.items():
            for run in seeds:
                yield (task, preset), trial_name(task, preset, seed_of(run)), run

    @property
    def tasks(self) -> list[str]:
        """Labels of the tasks."""
        return list(dict.fromkeys(task for task, _ in self.runs))

    @property
    def presets(self) -> list[str]:
        """Labels of the presets."""
        return list(dict.fromkeys(preset for _, preset in self.runs))

    def of_task(self, task: str) -> list[Run]:
        """The runs of a task, preset by preset."""
        return [run for preset in self.presets for run in self.runs.get((task, preset), [])]

    def data_score(self, task: str) -> float | None:
        """The data's mean return in the unit of `scores`, where the runs' checkpoints hold it."""
        run = self.of_task(task)[0]
        value = self.reference
        if value is None:
            value = run.manifest.get("data", {}).get("mean_return")
        return normalized_score(run.task, value) if value is not None and is_normalised(run) else value


def seed_of(run: Run) -> int:
    """A run's seed."""
    return run.manifest["config"]["train"]["seed"]


def different_settings(a: Run, b: Run) -> list[str]:
    """Keys in which two runs differ, but for the seed, what is written how often, and where the rows were read."""
    ignored = {"seed", "log_every", "save_every", "max_checkpoints", "download"}
    data = [run.manifest.get("data", {}).get("sha256") for run in (a, b)]
    if all(data):
        ignored.add("dataset")
    ours, theirs = (dataclasses.asdict(Config.from_dict(run.manifest["config"])) for run in (a, b))
    pairs = [(ours[part], theirs[part]) for part in SECTIONS]
    differing = [key for x, y in pairs for key in x if key not in ignored and x[key] != y[key]]
    return [*differing, *(["the rows of the data set"] if all(data) and data[0] != data[1] else [])]


def has_evaluation(folder: Path) -> bool:
    """Whether a run's folder holds a checkpoint and an evaluation."""
    return bool(rows_by_episode(folder, "eval.csv")) and any(folder.glob("manifest_*.json"))


def is_normalised(run: Run) -> bool:
    """Whether a run's task has reference returns."""
    return bool(np.isfinite(run.scores).all())


def scores(run: Run) -> np.ndarray:
    """(E,) normalised scores, or returns where the task has none."""
    return run.scores if is_normalised(run) else run.returns


def last(run: Run) -> float:
    """The last evaluation."""
    return float(scores(run)[-1])


def best(run: Run) -> float:
    """The best evaluation."""
    return float(scores(run).max())


def at_switch(run: Run) -> float | None:
    """The last evaluation of the offline phase; None where there is none, or the phase is not over."""
    offline = scores(run)[run.episodes <= run.switch]
    return float(offline[-1]) if len(offline) and run.episodes[-1] >= run.switch else None


def held(run: Run) -> float | None:
    """Lowest return of the first 10 evaluations after the switch ÷ return at the switch; None without both."""
    before, after = run.returns[run.episodes <= run.switch], run.returns[run.episodes > run.switch][:10]
    return float(after.min() / before[-1]) if len(before) and len(after) and before[-1] > 0 else None


def score_table(results: Results, measure: Callable[[Run], float | None], digits: int = 1, mean: bool = True) -> Table:
    """Task × preset: mean ± standard deviation over the seeds, and the mean over the tasks that all presets have.

    Args:
        results: the runs.
        measure: of a run.
        digits: after the point.
        mean: a last row with the mean over tasks, and a column with the data's score.
    """
    header = ["task", *(["data"] if mean else []), *results.presets]
    rows, means = [], []
    for task in results.tasks:
        values = [_values(results.runs.get((task, preset), []), measure) for preset in results.presets]
        data = results.data_score(task)
        normalised = is_normalised(results.of_task(task)[0])
        label = task if normalised or not mean else f"{task} (return)"
        rows.append([label, *([_number(data, digits)] if mean else []), *(_spread(v, digits) for v in values)])
        if normalised and all(values):
            means.append([float(np.mean(v)) for v in values])
    if mean and len(means) > 1:
        label = f"mean of {len(means)} tasks"
        rows.append([label, "", *(_number(float(value), digits) for value in np.mean(means, axis=0))])
    return Table(header, rows)


def _values(runs: list[Run], measure) -> list[float]:
    return [value for value in map(measure, runs) if value is not None]


def _spread(values: list[float], digits: int) -> str:
    if len(values) < 2:
        return _number(values[0] if values else None, digits)
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
