"""What a report measures of a run's evaluations."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from awac.report.run import Run

_FIRST = 10
_DRAWS = 10_000


def seed_of(run: Run) -> int:
    """A run's seed."""
    return run.manifest["config"]["train"]["seed"]


def by_seed(runs: Iterable[Run]) -> dict[tuple[int, int], Run]:
    """Runs by their seed and, of several with one seed, by the place among them."""
    found: dict[tuple[int, int], Run] = {}
    for run in runs:
        seed = seed_of(run)
        found[seed, sum(other == seed for other, _ in found)] = run
    return found


def is_normalised(run: Run) -> bool:
    """Whether a run's task has reference returns."""
    return bool(np.isfinite(run.scores).all())


def scores(run: Run) -> np.ndarray:
    """(E,) normalised scores, or returns where the task has none."""
    return run.scores if is_normalised(run) else run.returns


def last(run: Run) -> float | None:
    """The last evaluation; None if the run has not come to it."""
    return float(scores(run)[-1]) if run.finished else None


def best(run: Run) -> float | None:
    """The best evaluation; None if others are to come."""
    return float(scores(run).max()) if run.finished else None


def at_switch(run: Run) -> float | None:
    """The last evaluation of the offline phase; None where there is none, or the phase is not over."""
    return float(offline[-1]) if len(offline := _offline(run)) else None


def best_offline(run: Run) -> float | None:
    """The best evaluation of the offline phase; None as in `at_switch`."""
    return float(offline.max()) if len(offline := _offline(run)) else None


def _offline(run: Run) -> np.ndarray:
    """The scores of the offline phase, none of them if it is not over."""
    return scores(run)[(run.episodes <= run.switch) & (run.episodes[-1] >= run.switch)]


def around_switch(run: Run) -> tuple[float | None, np.ndarray]:
    """The return at the last evaluation of the offline phase, and those of the first 10 after it.

    The first is None as in `at_switch`.
    """
    before, after = run.returns[run.episodes <= run.switch], run.returns[run.episodes > run.switch]
    there = len(before) and run.episodes[-1] >= run.switch
    return float(before[-1]) if there else None, after[:_FIRST]


def held(run: Run) -> float | None:
    """Lowest return of the first 10 evaluations after the switch ÷ return at the switch; None without them."""
    base, after = around_switch(run)
    there = len(after) == _FIRST or (len(after) and run.finished)
    return float(after.min() / base) if there and base is not None and base > 0 else None


def held_by_chance(run: Run) -> float | None:
    """The median of `held` for ten more evaluations of the policy at the switch, from other start states.

    A mean of n returns has a standard error of their standard deviation (n in its divisor) ÷ √(n−1), taken as normal:
    the lowest of ten such means is below the first for that reason alone. n is `eval_episodes` of the newest
    checkpoint. None where the spread is unknown.
    """
    before = run.episodes <= run.switch
    episodes = run.manifest["config"]["env"]["eval_episodes"]
    if held(run) is None or episodes < 2 or np.isnan(run.deviations[before][-1]):
        return None
    error = run.deviations[before][-1] / np.sqrt(episodes - 1) / run.returns[before][-1]
    after = min(int((~before).sum()), _FIRST)
    means = 1 + error * np.random.default_rng(0).standard_normal((_DRAWS, 1 + after))
    return float(np.median(means[:, 1:].min(axis=1) / means[:, 0]))
