"""One run as a report reads it: its evaluations in eval.csv, and the manifest of its newest checkpoint."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from awac.errors import DataError
from awac.runs import checkpoint
from awac.runs.folder import is_run, marker
from awac.runs.tables import inherited_steps

EVALUATIONS = ("episodes", "returns", "deviations", "scores")


@dataclass(frozen=True)
class Run:
    """One run's evaluations.

    Attributes:
        name: label in tables and legends.
        episodes: (E,) training episodes at each evaluation.
        returns: (E,) mean returns.
        deviations: (E,) standard deviations of the returns that they are means of, NaN where unknown.
        scores: (E,) normalised scores, NaN where the task has none.
        switch: episode at which the online phase began.
        steps: gradient steps of one episode.
        task: environment id.
        folder: the run's folder.
        manifest: of its newest sound checkpoint: `config`, `data`, `versions`.
        finished: whether its last evaluation is the one that was planned.
    """

    name: str
    episodes: np.ndarray
    returns: np.ndarray
    deviations: np.ndarray
    scores: np.ndarray
    switch: int
    steps: int
    task: str
    folder: Path
    manifest: dict
    finished: bool = True

    @classmethod
    def read(cls, text: str) -> Run:
        """Reads `FOLDER` or `NAME=FOLDER`.

        A text that is the path of a folder is one, whatever `=` it holds; else the name ends at the first `=` that a
        folder's path comes after.

        Raises:
            DataError: no evaluations there.
        """
        return cls.of(*_name_and_folder(text))

    @classmethod
    def of(cls, name: str, folder: Path) -> Run:
        """Reads the run in a folder.

        Raises:
            DataError: no evaluations there.
        """
        path = folder / "eval.csv"
        try:
            with open(path, newline="", encoding="utf-8") as file:
                whole = (row for row in csv.DictReader(file) if None not in row.values())  # a full disk cuts the last
                rows = sorted(whole, key=lambda row: int(row["episode"]))
            columns = (
                np.array([int(row["episode"]) for row in rows]),
                np.array([float(row["mean_return"]) for row in rows]),
                np.array([float(row.get("std_return") or "nan") for row in rows]),
                np.array([float(row["normalized_score"] or "nan") for row in rows]),
            )
        except FileNotFoundError:
            raise DataError(f"{folder} {_without_evaluations(folder)}") from None
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; give the checkpoint folder of a training run") from error
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{path} is not the eval.csv of a training run ({error})") from error
        if not len(rows):
            raise DataError(f"{path} holds no evaluation yet")
        manifest = checkpoint.newest(folder, warn=lambda _: None)
        inherited = inherited_steps(folder, manifest)
        return cls.with_settings(name, columns, folder, manifest, inherited)

    @classmethod
    def with_settings(
        cls, name: str, columns: Sequence[np.ndarray], folder: Path, manifest: dict, inherited: int = 0
    ) -> Run:
        """Evaluations, with the task and the switch of the manifest's configuration.

        `columns`: (E,) arrays in the order of `EVALUATIONS`.
        `inherited`: gradient steps of the run that this one started from, which count for the offline phase.
        """
        train = manifest["config"]["train"]
        steps = train["n_steps_per_episode"]
        switch = max(0, math.ceil((train["offline_train_steps"] - inherited) / steps))
        task = manifest["config"]["env"]["task"]
        episodes, returns, deviations, scores = columns
        return cls(name, episodes, returns, deviations, scores, switch, steps, task, folder, manifest)


def _without_evaluations(folder: Path) -> str:
    """Why a folder has no eval.csv.

    Raises:
        CheckpointError: it is of a run whose files are all damaged.
    """
    if is_run(folder):
        config = marker(folder).get("config") or checkpoint.newest(folder, warn=lambda _: None)["config"]
        if config["env"].get("no_env"):
            return (
                "was trained without an environment: it has no evaluations to report; `awac evaluate-offline` "
                "estimates its policy"
            )
        return "holds no evaluation yet"
    if not folder.is_dir():
        return "is not there; give the checkpoint folder of a training run"
    if runs := sorted(path.name for path in folder.iterdir() if is_run(path)):
        listed = ", ".join(runs[:3]) + (", …" if runs[3:] else "")
        return f"is no run but holds some ({listed}): name them, as in `awac report {folder}/*`"
    return "holds neither a run nor a sweep's results; give the checkpoint folder of a training run"


def _name_and_folder(text: str) -> tuple[str, Path]:
    whole = Path(text)
    signs = [] if whole.is_dir() else [i for i, letter in enumerate(text) if letter == "="]
    if not signs:
        return whole.resolve().name, whole
    cut = next((i for i in signs if Path(text[i + 1 :]).is_dir()), signs[0])
    folder = Path(text[cut + 1 :])
    return text[:cut] or folder.resolve().name, folder
