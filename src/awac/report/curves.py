"""Curves and score tables from the eval.csv of finished runs: what the README shows comes from here."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from awac.errors import DataError
from awac.runs import checkpoint
from awac.runs.folder import begun_with, is_run
from awac.runs.tables import inherited_steps

_MOST_MARKERS = 40  # evaluations of a curve; more of them hide the line
EVALUATIONS = ("episodes", "returns", "deviations", "scores")
COLUMNS = ("run", "at 10", "at the switch", "lowest of the next 10", "÷ switch", "last", "best", "normalised last")


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

    def summary(self) -> dict:
        """The figures of one row of the table; None where the run has no such evaluation.

        `÷ switch` is the lowest of the next 10 evaluations ÷ the return at the switch, where that is positive.
        """
        at = dict(zip(self.episodes.tolist(), self.returns.tolist(), strict=True))
        after = self.returns[self.episodes > self.switch][:10]
        base = at.get(self.switch)
        lowest = float(after.min()) if len(after) else None
        ratio = lowest / base if base is not None and base > 0 and lowest is not None else None
        last, best, score = float(self.returns[-1]), float(self.returns.max()), float(self.scores[-1])
        values = (self.name, at.get(10), base, lowest, ratio, last, best, score)
        return dict(zip(COLUMNS, values, strict=True))


def _without_evaluations(folder: Path) -> str:
    """Why a folder has no eval.csv.

    Raises:
        CheckpointError: it is of a run whose files are all damaged.
    """
    if is_run(folder):
        config = begun_with(folder) or checkpoint.newest(folder, warn=lambda _: None)["config"]
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


def table(runs: list[Run]) -> str:
    """A Markdown table with one row a run."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for run in runs:
        lines.append("| " + " | ".join(_cell(key, value) for key, value in run.summary().items()) + " |")
    return "\n".join(lines)


def _cell(key: str, value) -> str:
    if isinstance(value, str):
        return value
    if value is None or np.isnan(value):
        return "–"
    if "÷" in key or "normalised" in key:
        return f"{value:.2f}" if "÷" in key else f"{value:.1f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"  # a success rate is from 0 to 1


@dataclass(frozen=True)
class Curve:
    """The runs of one name, seeds of one setting, averaged episode by episode.

    Attributes:
        label: name, with the number of seeds where there are several.
        episodes: (E,) episodes at which every run was evaluated.
        mean: (E,) mean return over the runs.
        low: (E,) lower end of the mean's 95 % interval, by percentile bootstrap over the runs.
        high: (E,) its upper end.
        switches: episodes at which the runs went online.
    """

    label: str
    episodes: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    switches: list[int]

    @classmethod
    def of(cls, name: str, runs: list[Run]) -> Curve:
        """Averages runs at the episodes that all of them have.

        Raises:
            DataError: they have no evaluation in common.
        """
        episodes = functools.reduce(np.intersect1d, [run.episodes for run in runs])
        if not len(episodes):
            raise DataError(f"the runs named {name!r} share no evaluated episode; give them names of their own")
        returns = np.stack([run.returns[np.searchsorted(run.episodes, episodes)] for run in runs])
        chosen = np.random.default_rng(0).integers(len(runs), size=(2000, len(runs)))
        low, high = np.percentile(returns[chosen].mean(1), (2.5, 97.5), axis=0)
        label = f"{name} ({len(runs)} seeds)" if len(runs) > 1 else name
        return cls(label, episodes, returns.mean(0), low, high, sorted({run.switch for run in runs}))


def draw(
    axes,
    runs: list[Run],
    reference: float | None = None,
    title: str | None = None,
    *,
    levels: dict[str, float] | None = None,
    unit: str = "mean return",
    colours: dict[str, str] | None = None,
) -> None:
    """Draws mean return against training episodes; runs of one name are seeds and become a mean with its interval.

    Args:
        axes: matplotlib's axes.
        runs: what to draw.
        reference: the behaviour data's mean return, drawn as a dashed line.
        title: above the axes; the task's id if left out.
        levels: scores of presets that are drawn as a level, by name.
        unit: what `returns` holds, for the axis.
        colours: by name; matplotlib's own order if left out.
    """
    names = dict.fromkeys(run.name for run in runs)
    curves = [Curve.of(name, [run for run in runs if run.name == name]) for name in names]
    for name, curve in zip(names, curves, strict=True):
        style = {"marker": "o", "markersize": 3} if len(curve.episodes) <= _MOST_MARKERS else {}
        (line,) = axes.plot(
            curve.episodes, curve.mean, linewidth=1.5, label=curve.label, color=(colours or {}).get(name), **style
        )
        axes.fill_between(curve.episodes, curve.low, curve.high, alpha=0.2, linewidth=0, color=line.get_color())
    end = max(curve.episodes[-1] for curve in curves)
    for switch in sorted({switch for curve in curves for switch in curve.switches if switch < end}):
        axes.axvline(switch, color="dimgray", linestyle=":", linewidth=1)
        axes.annotate(
            "online",
            (switch, 0.02),
            xycoords=("data", "axes fraction"),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize="small",
            color="dimgray",
        )
    if reference is not None:
        axes.axhline(reference, color="black", linestyle="--", linewidth=1, label="behaviour data, mean")
    for name, level in (levels or {}).items():
        colour = (colours or {}).get(name, "dimgray")
        axes.axhline(level, color=colour, linestyle="-.", linewidth=1, label=f"{name}, offline")
    steps = sorted({run.steps for run in runs})
    axes.set_xlabel(f"training episode ({' or '.join(f'{n:,}' for n in steps)} gradient steps each)")
    axes.set_ylabel(unit + (" and its 95 % interval" if len(runs) > len(names) else ""))
    axes.set_title(title or runs[0].task)
    low, high = axes.get_ylim()
    axes.set_ylim(low := min(0.0, low), high + 0.03 * (high - low))  # from 0: a cut axis makes noise look like a fall
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="best", frameon=False)
