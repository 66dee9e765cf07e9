"""Curves and score tables from the eval.csv of finished runs: what the README shows comes from here."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from awac.errors import DataError
from awac.report.figures import figure
from awac.runs import checkpoint

COLUMNS = ("run", "at 10", "at the switch", "lowest of the next 10", "dip", "last", "best", "normalised last")


@dataclass(frozen=True)
class Run:
    """One run's evaluations.

    Attributes:
        name: label in tables and legends.
        episodes: (E,) training episodes at each evaluation.
        returns: (E,) mean returns.
        scores: (E,) normalised scores, NaN where the task has none.
        switch: episode at which the online phase began, or None.
        task: environment id.
    """

    name: str
    episodes: np.ndarray
    returns: np.ndarray
    scores: np.ndarray
    switch: int | None
    task: str

    @classmethod
    def read(cls, text: str) -> Run:
        """Reads `FOLDER` or `NAME=FOLDER`.

        Raises:
            DataError: no evaluations there.
        """
        name, _, folder = text.rpartition("=")
        path = Path(folder) / "eval.csv"
        try:
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            episodes = np.array([int(row["episode"]) for row in rows])
            returns = np.array([float(row["mean_return"]) for row in rows])
            scores = np.array([float(row["normalized_score"] or "nan") for row in rows])
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; give the checkpoint folder of a training run") from error
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{path} is not the eval.csv of a training run ({error})") from error
        if not len(rows):
            raise DataError(f"{path} holds no evaluation yet")
        config = checkpoint.newest(Path(folder), warn=lambda _: None)["config"]
        switch = config["train"]["offline_train_steps"] // config["train"]["n_steps_per_episode"]
        return cls(name or Path(folder).name, episodes, returns, scores, switch, config["env"]["task"])

    def summary(self) -> dict:
        """The figures of one row of the table; None where the run has no such evaluation.

        `dip` is (score at the switch − lowest of the next 10 evaluations) / score at the switch.
        """
        at = dict(zip(self.episodes.tolist(), self.returns.tolist(), strict=True))
        after = self.returns[self.episodes > self.switch][:10]
        base = at.get(self.switch)
        lowest = float(after.min()) if len(after) else None
        dip = (base - lowest) / base if base and lowest is not None else None
        values = (self.name, at.get(10), base, lowest, dip, float(self.returns[-1]), float(self.returns.max()),
                  float(self.scores[-1]))  # fmt: skip
        return dict(zip(COLUMNS, values, strict=True))


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
    return f"{value:.0%}" if key == "dip" else f"{value:.1f}" if "normalised" in key else f"{value:.0f}"


def plot(runs: list[Run], path: str, reference: float | None = None, title: str | None = None) -> None:
    """Draws mean return against training episodes; runs of one name are seeds and become a mean with a band.

    Args:
        runs: what to draw.
        path: image file to write.
        reference: the behaviour data's mean return, drawn as a dashed line.
        title: above the axes; the task's id if left out.
    """
    with figure(path) as axes:
        for name in dict.fromkeys(run.name for run in runs):
            group = [run for run in runs if run.name == name]
            length = min(len(run.returns) for run in group)
            stack = np.stack([run.returns[:length] for run in group])
            episodes = group[0].episodes[:length]
            label = f"{name} ({len(group)} seeds)" if len(group) > 1 else name
            (line,) = axes.plot(episodes, stack.mean(0), marker="o", markersize=3, label=label)
            if len(group) > 1:
                axes.fill_between(episodes, stack.min(0), stack.max(0), color=line.get_color(), alpha=0.2, linewidth=0)
            switch = group[0].switch
            if switch is not None and switch < episodes[-1]:
                axes.axvline(switch, color=line.get_color(), linestyle=":", linewidth=1)
        if reference is not None:
            axes.axhline(reference, color="black", linestyle="--", linewidth=1, label="behaviour data, mean")
        axes.set_xlabel("training episode (1000 gradient steps); dotted: switch to online")
        axes.set_ylabel("evaluation return, mean action")
        axes.set_title(title or runs[0].task)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))  # from 0: a cut axis makes noise look like a fall
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", frameon=False)


def report(runs: list[str], image: str | None, reference: float | None, title: str | None) -> str:
    """Reads runs, draws the figure if one is asked for, and returns the table."""
    read = [Run.read(text) for text in runs]
    if image:
        plot(read, image, reference, title)
    return table(read)
