"""The table of single runs: a row each, in Markdown."""

from __future__ import annotations

import numpy as np

from awac.report.measures import around_switch, held
from awac.report.run import Run

COLUMNS = ("run", "at 10", "at the switch", "lowest of the next 10", "÷ switch", "last", "best", "normalised last")


def summary(run: Run) -> dict:
    """The figures of one row; None where the run has no such evaluation."""
    at_10 = run.returns[run.episodes == 10]
    base, after = around_switch(run)
    lowest = float(after.min()) if len(after) else None
    last, best, score = float(run.returns[-1]), float(run.returns.max()), float(run.scores[-1])
    values = (run.name, float(at_10[0]) if len(at_10) else None, base, lowest, held(run), last, best, score)
    return dict(zip(COLUMNS, values, strict=True))


def table(runs: list[Run]) -> str:
    """A Markdown table with one row a run."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for run in runs:
        lines.append("| " + " | ".join(_cell(key, value) for key, value in summary(run).items()) + " |")
    return "\n".join(lines)


def _cell(key: str, value) -> str:
    if isinstance(value, str):
        return value
    if value is None or np.isnan(value):
        return "–"
    if "÷" in key or "normalised" in key:
        return f"{value:.2f}" if "÷" in key else f"{value:.1f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"  # a success rate is from 0 to 1
