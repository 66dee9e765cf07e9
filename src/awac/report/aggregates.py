"""Aggregates over tasks and seeds by rliable (Agarwal et al. 2021): interquartile mean and performance profile."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np

from awac.errors import EXTRAS, ConfigError, DataError
from awac.report.measures import at_switch, by_seed, is_normalised, last
from awac.report.results import Results, Table

_RESAMPLES = 2000
_THRESHOLDS = 101


@dataclass(frozen=True)
class Aggregates:
    """What rliable says of the tasks and seeds that all presets have.

    Attributes:
        tasks: those tasks.
        seeds: how many of them.
        iqm: preset → (3,) interquartile mean of the last scores and the ends of its 95 % interval.
        offline: the same of the scores at the switch; empty where a run has none.
        thresholds: (T,) scores.
        profiles: preset → (3, T) share of runs whose last score is above each threshold, and its interval.
    """

    tasks: list[str]
    seeds: int
    iqm: dict[str, np.ndarray]
    offline: dict[str, np.ndarray]
    thresholds: np.ndarray
    profiles: dict[str, np.ndarray]


def aggregate(results: Results) -> Aggregates | None:
    """Stratified bootstrap over the seeds of each task.

    Returns:
        None where no task with normalised scores has a finished run of all presets.

    Raises:
        ConfigError: rliable is not installed.
        DataError: the presets have no seed in common.
    """
    tasks = [
        task
        for task in results.tasks
        if is_normalised(results.of_task(task)[0])
        and all(any(run.finished for run in results.runs.get((task, preset), [])) for preset in results.presets)
    ]
    if not tasks:
        return None
    cells = {
        preset: [by_seed(run for run in results.runs[task, preset] if run.finished) for task in tasks]
        for preset in results.presets
    }
    seeds = sorted(set.intersection(*(set(runs) for row in cells.values() for runs in row)))
    if not seeds:
        raise DataError("there is no seed that all presets have")
    rliable = _rliable()

    def matrices(measure) -> dict[str, np.ndarray]:
        return {preset: np.array([[measure(runs[seed]) for runs in row] for seed in seeds], float)
                for preset, row in cells.items()}  # fmt: skip

    lasts, switches = matrices(last), matrices(at_switch)
    ends = np.concatenate([values.ravel() for values in lasts.values()])
    thresholds = np.linspace(min(0.0, ends.min()), max(100.0, ends.max()), _THRESHOLDS)
    whole = not any(np.isnan(values).any() for values in switches.values())
    return Aggregates(
        tasks,
        len(seeds),
        rliable(lasts, _iqm),
        rliable(switches, _iqm) if whole else {},
        thresholds,
        rliable(lasts, lambda values: (values[..., None] > thresholds).mean((0, 1))),
    )


def iqm_table(aggregates: Aggregates) -> Table:
    """A row a preset: IQM of the last scores and of those at the switch, with their intervals."""

    def text(values: np.ndarray) -> str:
        return f"{values[0].item():.1f} [{values[1].item():.1f}, {values[2].item():.1f}]"

    columns = {"IQM at the switch": aggregates.offline, "IQM, last": aggregates.iqm}
    columns = {title: values for title, values in columns.items() if values}
    rows = [[preset, *(text(values[preset]) for values in columns.values())] for preset in aggregates.iqm]
    return Table(["preset", *columns], rows)


def draw_iqm(axes, aggregates: Aggregates, colours: dict[str, str]) -> None:
    """A line a preset: the IQM of the last scores and its interval; a ring for the one at the switch."""
    presets = list(aggregates.iqm)
    for place, preset in enumerate(presets):
        middle, low, high = (value.item() for value in aggregates.iqm[preset])
        axes.barh(place, high - low, left=low, height=0.6, alpha=0.35, color=colours[preset], linewidth=0)
        axes.plot([middle, middle], [place - 0.3, place + 0.3], color=colours[preset], linewidth=2)
        if preset in aggregates.offline:
            axes.plot(aggregates.offline[preset][0], place, "o", markersize=6, markerfacecolor="none", color="black")
    axes.set_yticks(range(len(presets)), presets)
    axes.invert_yaxis()
    axes.set_xlim(min(0.0, axes.get_xlim()[0]), axes.get_xlim()[1] * 1.03)
    axes.set_xlabel("IQM of the normalised score (○ at the switch)")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def draw_profile(axes, aggregates: Aggregates, colours: dict[str, str]) -> None:
    """The performance profiles of the last scores."""
    for preset, (middle, low, high) in aggregates.profiles.items():
        axes.plot(aggregates.thresholds, middle, color=colours[preset], linewidth=1.5, label=preset)
        axes.fill_between(aggregates.thresholds, low, high, color=colours[preset], alpha=0.2, linewidth=0)
    axes.set_xlabel("normalised score τ")
    axes.set_ylabel("share of runs with a score above τ")
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="best", frameon=False)


def _iqm(values: np.ndarray) -> np.ndarray:
    from rliable import metrics

    return np.array([metrics.aggregate_iqm(values)])


def _rliable():
    """`get_interval_estimates` with our settings: {preset: (seeds, tasks)}, function → {preset: (3, …)}."""
    try:
        from rliable import library
    except ImportError as error:
        raise ConfigError(f"aggregates need the package {error.name}: pip install {EXTRAS['sweep']}") from None

    def estimate(values: dict[str, np.ndarray], function) -> dict[str, np.ndarray]:
        with _numpy_seed():
            points, intervals = library.get_interval_estimates(values, function, reps=_RESAMPLES)
        return {preset: np.stack([points[preset], *intervals[preset]]) for preset in values}

    return estimate


@contextlib.contextmanager
def _numpy_seed():
    """rliable draws from numpy's global generator: the same every time here, and as it was afterwards."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)
