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
from awac.errors import DataError, NoCheckpointError, first_line
from awac.report.measures import by_seed, is_normalised, seed_of
from awac.report.run import EVALUATIONS, Run
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
        reference: the data's mean return, in place of the one that the runs' checkpoints hold.
    """

    title: str
    runs: dict[tuple[str, str], list[Run]]
    missing: list[str]
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
            raise DataError(f"{folder / PLAN} is not a sweep's plan ({first_line(error)})") from error
        runs: dict[tuple[str, str], list[Run]] = {}
        missing = []
        for task, preset, name, episodes in rows:
            if not has_evaluation(folder / name):
                missing.append(name)
                continue
            try:
                run = _up_to(Run.of(preset, folder / name), episodes)
            except NoCheckpointError:  # all of them are damaged
                missing.append(name)
                continue
            runs.setdefault((task, preset), []).append(run)
        if not runs:
            raise DataError(f"no trial in {folder} has an evaluation yet; `awac sweep` goes on with it")
        places = {pair: i for i, pair in enumerate(dict.fromkeys(row[:2] for row in rows))}
        ordered = dict(sorted(runs.items(), key=lambda item: places[item[0]]))
        return cls(folder.resolve().name, ordered, missing)

    @classmethod
    def joined(cls, parts: list[Results]) -> Results:
        """A sweep that ran in parts. If a trial is in several parts, its longest run counts, or the first of those.

        Raises:
            DataError: the seeds of a task and preset, or a trial's runs, differ in their settings.
        """
        runs: dict[tuple[str, str], dict[str, Run]] = {}
        for part in parts:
            for pair, name, run in part.named():
                seeds = runs.setdefault(pair, {})
                if name in seeds and (differing := different_settings(seeds[name], run)):
                    raise DataError(f"{not_seeds(name, name, differing)}; give the parts one by one")
                if name not in seeds or run.episodes[-1] > seeds[name].episodes[-1]:
                    seeds[name] = run
        for seeds in runs.values() if len(parts) > 1 else ():
            (first, reference), *others = seeds.items()
            for name, run in others:
                if differing := different_settings(reference, run):
                    raise DataError(f"{not_seeds(first, name, differing)}; give the parts one by one")
        begun = {name for seeds in runs.values() for name in seeds}
        missing = dict.fromkeys(name for part in parts for name in part.missing if name not in begun)
        ordered = {pair: sorted(seeds.values(), key=seed_of) for pair, seeds in runs.items()}
        return cls(parts[0].title, ordered, list(missing))

    @classmethod
    def of_runs(cls, runs: list[Run], title: str, reference: float | None = None) -> Results:
        """Sorts single runs by task and name; those of one name are seeds, as long as the longest of them.

        Raises:
            DataError: runs of one name differ in their settings.
        """
        sorted_runs: dict[tuple[str, str], list[Run]] = {}
        for run in runs:
            sorted_runs.setdefault((run.task, run.name), []).append(run)
        for pair, seeds in sorted_runs.items():
            longest = max(run.episodes[-1] for run in seeds)
            sorted_runs[pair] = [replace(run, finished=bool(run.episodes[-1] == longest)) for run in seeds]
        results = cls(title, sorted_runs, [], reference)
        for text in results.mixed():
            raise DataError(f"{text}; give them names of their own (NAME=FOLDER)")
        return results

    def mixed(self) -> list[str]:
        """A line for each task and preset whose runs differ in their settings."""
        lines = []
        for first, *others in self.runs.values():
            differing = [(run, keys) for run in others if (keys := different_settings(first, run))]
            lines += [not_seeds(str(first.folder), str(run.folder), keys) for run, keys in differing[:1]]
        return lines

    def named(self) -> Iterator[tuple[tuple[str, str], str, Run]]:
        """(task, preset), TASK/PRESET/seed_N and run of all runs."""
        for (task, preset), seeds in self.runs.items():
            for run in seeds:
                yield (task, preset), trial_name(task, preset, seed_of(run)), run

    @property
    def unfinished(self) -> list[str]:
        """Runs that have not come to their last evaluation, as TASK/PRESET/seed_N."""
        return [name for _, name, run in self.named() if not run.finished]

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
        """The data's mean return in the unit of `scores`."""
        run, value = self.of_task(task)[0], self.data_return(task)
        return normalized_score(run.task, value) if value is not None and is_normalised(run) else value

    def data_return(self, task: str) -> float | None:
        """The data's mean return, where it was given or the runs' checkpoints hold it and agree."""
        if self.reference is not None:
            return self.reference
        known = {run.manifest.get("data", {}).get("mean_return") for run in self.of_task(task)} - {None}
        return known.pop() if len(known) == 1 else None


def different_settings(a: Run, b: Run) -> list[str]:
    """Keys in which two runs differ, but for the seed, what is written how often, and where the rows were read."""
    ignored = {"seed", "log_every", "eval_every", "save_every", "max_checkpoints", "download"}
    data = [run.manifest.get("data", {}).get("sha256") for run in (a, b)]
    if all(data):
        ignored.add("dataset")
    ours, theirs = (dataclasses.asdict(Config.from_dict(run.manifest["config"])) for run in (a, b))
    pairs = [(ours[part], theirs[part]) for part in SECTIONS]
    differing = [key for x, y in pairs for key in x if key not in ignored and x[key] != y[key]]
    if seed_of(a) != seed_of(b) and a.finished and b.finished and a.episodes[-1] != b.episodes[-1]:
        differing.append("episode")
    return [*differing, *(["the rows of the data set"] if all(data) and data[0] != data[1] else [])]


def not_seeds(first: str, second: str, differing: list[str]) -> str:
    """That two runs are not seeds of one setting, in words."""
    both = first if first == second else f"{first} and {second}"
    return f"{both} differ in {', '.join(differing)}, so they are not seeds of one setting"


def _up_to(run: Run, episodes: int) -> Run:
    """A run up to the end that is planned for it, which it may be beyond, or may not have reached."""
    planned, finished = run.episodes <= episodes, bool(run.episodes[-1] >= episodes)
    if planned.any():
        run = replace(run, **{name: getattr(run, name)[planned] for name in EVALUATIONS})
    return replace(run, finished=finished)


def has_evaluation(folder: Path) -> bool:
    """Whether a run's folder holds a checkpoint and an evaluation."""
    return bool(rows_by_episode(folder, "eval.csv")) and any(folder.glob("manifest_*.json"))


def score_table(results: Results, measure: Callable[[Run], float | None], digits: int = 1, mean: bool = True) -> Table:
    """Task × preset: mean ± standard deviation over the seeds, and means over tasks, of the seeds that presets share.

    Args:
        results: the runs.
        measure: of a run.
        digits: after the point.
        mean: last rows: the mean of the presets that have the most tasks, over these; and of all, over the tasks that
            they share. A column with the data's score.
    """
    header = ["task", *(["data"] if mean else []), *results.presets]
    rows, normalised_tasks = [], []
    for task in results.tasks:
        measured = [_measured(results.runs.get((task, preset), []), measure) for preset in results.presets]
        values = [list(found.values()) for found in measured]
        data = results.data_score(task)
        normalised = is_normalised(results.of_task(task)[0])
        label = task if normalised or not mean else f"{task} (return)"
        largest = max((abs(value) for found in values for value in found), default=0.0)
        places = digits if normalised or not mean or largest >= 10 else 3  # a success rate is from 0 to 1
        rows.append([label, *([_number(data, places)] if mean else []), *(_spread(v, places) for v in values)])
        if normalised:
            normalised_tasks.append(measured)
    if mean and normalised_tasks:
        columns = list(range(len(results.presets)))
        most = max(sum(bool(measured[i]) for measured in normalised_tasks) for i in columns)
        full = [i for i in columns if sum(bool(measured[i]) for measured in normalised_tasks) == most]
        rows += [
            row
            for chosen in ([full, columns] if full != columns else [columns])
            if (row := _mean_row(normalised_tasks, chosen, len(columns), digits))
        ]
    return Table(header, rows)


def _mean_row(tasks: list[list[dict]], chosen: list[int], columns: int, digits: int) -> list[str] | None:
    """The mean over the tasks that all chosen presets have, and the seeds they share; None if it is a task or none."""
    means, whole = [], True
    for measured in tasks:
        found = [measured[i] for i in chosen]
        if common := set.intersection(*map(set, found)):
            means.append([float(np.mean([values[seed] for seed in sorted(common)])) for values in found])
            whole &= all(set(values) == common for values in found)
    if len(means) < 2:
        return None
    shown = dict(zip(chosen, np.mean(means, axis=0).tolist(), strict=True))
    label = f"mean of {len(means)} tasks{'' if whole else ', common seeds'}"
    return [label, "", *(_number(shown.get(i), digits) for i in range(columns))]


def _measured(runs: list[Run], measure) -> dict[tuple[int, int], float]:
    return {seed: value for seed, run in by_seed(runs).items() if (value := measure(run)) is not None}


def _spread(values: list[float], digits: int) -> str:
    if len(values) < 2:
        return _number(values[0] if values else None, digits)
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
