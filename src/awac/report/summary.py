"""The results of a sweep as one small JSON file, from which the report can be made again without the runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from awac.errors import ConfigError, DataError
from awac.report.measures import seed_of
from awac.report.results import Results
from awac.report.run import EVALUATIONS, Run
from awac.runs import files
from awac.sweep.plan import trial_name

_FORMAT = 1
_NOTED = ("config", "data", "versions")  # of a run's manifest


def is_summary(path: str) -> bool:
    """Whether a report's argument names such a file."""
    return path.endswith(".json") and Path(path).is_file()


def write(results: Results, path: Path) -> None:
    """Writes the evaluations, settings and data fingerprints of all runs.

    Raises:
        ConfigError: the file can't be written.
    """
    runs = [
        {
            "task": task,
            "preset": preset,
            **{name: [None if np.isnan(x) else float(f"{x:.6g}") for x in getattr(run, name)] for name in EVALUATIONS},
            "manifest": {name: run.manifest[name] for name in _NOTED if name in run.manifest},
        }
        for (task, preset), seeds in results.runs.items()
        for run in seeds
    ]
    head = {"format": _FORMAT, "title": results.title, "missing": results.missing, "unfinished": results.unfinished}
    lines = ",\n".join(json.dumps(run) for run in runs)  # a line a run: more runs are more lines in a diff
    text = f'{json.dumps(head)[:-1]}, "runs": [\n{lines}\n]}}\n'
    try:
        files.write_text(path, text)
    except OSError as error:
        raise ConfigError(f"{path} can't be written ({error.strerror}); choose a file that can be") from None


def read(path: Path) -> Results:
    """The results that `write` wrote; there are no train.csv files behind them.

    Raises:
        DataError: it is not such a file.
    """
    try:
        values = json.loads(files.read_text(path))
        if values["format"] != _FORMAT:
            raise ValueError(f"format {values['format']}")
        runs: dict[tuple[str, str], list[Run]] = {}
        for row in values["runs"]:
            unknown = [None] * len(row["episodes"])  # files without deviations are older
            episodes, *others = (
                np.array([np.nan if x is None else x for x in row.get(name, unknown)], float) for name in EVALUATIONS
            )
            run = Run.with_settings(row["preset"], [episodes.astype(int), *others], path, row["manifest"])
            if trial_name(row["task"], row["preset"], seed_of(run)) in values["unfinished"]:
                run = replace(run, finished=False)
            runs.setdefault((row["task"], row["preset"]), []).append(run)
        if not runs:
            raise ValueError("no runs in it")
        return Results(str(values["title"]), runs, list(values["missing"]))
    except files.READ_ERRORS as error:
        raise DataError(f"{path} is not a sweep's results as `awac report --json` writes them ({error})") from error
