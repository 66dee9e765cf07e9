"""Evaluations over training, averaged over seeds, on matplotlib's axes."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import numpy as np

from awac.errors import DataError
from awac.report.run import Run

_MOST_MARKERS = 40  # evaluations of a curve; more of them hide the line


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


def seeds_of(label: str) -> tuple[str, int]:
    """Name and number of seeds of a curve's label."""
    found = re.fullmatch(r"(.*) \((\d+) seeds\)", label)
    return (found[1], int(found[2])) if found else (label, 1)


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
