"""What `awac bench` shows: a table, a JSON file, a bar chart."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from awac.errors import ConfigError
from awac.report.figures import figure


def table(rows: list[dict]) -> str:
    """A Markdown table."""
    threads = rows[0]["threads"]
    measured = f"{rows[0]['isa']}, {threads} thread{'' if threads == 1 else 's'}"
    lines = [f"| {measured} | steps/s | ÷ PyTorch eager | ÷ JAX scan | share of the ceiling |", "|---|---|---|---|---|"]
    for row in rows:
        ratios = (row[key] for key in ("ratio_to_torch_eager", "ratio_to_jax_scan"))
        shown = " | ".join(f"{ratio:.2f}" if ratio else "–" for ratio in ratios)
        lines.append(
            f"| {row['implementation']} | {row['steps_per_s']:.1f} | {shown} | {row['share_of_ceiling']:.2f} |"
        )
    return "\n".join(lines)


def check(path: str, suffixes: tuple[str, ...] | None = None) -> None:
    """Checks that a file can be written before minutes are spent on what goes into it.

    Raises:
        ConfigError: it can't, or its suffix is none of `suffixes`.
    """
    if suffixes and Path(path).suffix.lower() not in suffixes:
        raise ConfigError(f"{path}: name a {' or '.join(suffixes)} file")
    if Path(path).is_dir() or not os.access(Path(path).absolute().parent, os.W_OK):
        raise ConfigError(f"{path} can't be written; name a file in a folder that is there and may be written to")


def plot(rows: list[dict], path: str) -> None:
    """Bars of steps/s relative to PyTorch eager, or to this package where that was not measured."""
    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    names = list(dict.fromkeys(row["implementation"] for row in rows))
    speeds = {(row["workload"], row["implementation"]): row["steps_per_s"] for row in rows}
    base = "torch-eager" if "torch-eager" in names else "awac"
    with figure(path) as axes:
        for i, name in enumerate(names):
            heights = [speeds.get((w, name), 0.0) / speeds.get((w, base), np.inf) for w in workloads]
            left = np.arange(len(workloads)) + 0.8 * i / len(names)
            axes.bar(left, heights, 0.8 / len(names), align="edge", label=name)
        axes.set_xticks(np.arange(len(workloads)) + 0.4, workloads)
        axes.set_ylabel(f"training steps/s, {base} = 1")
        axes.grid(axis="y", alpha=0.3)
        axes.legend(frameon=False)


def write_json(rows: list[dict], path: str) -> None:
    """Writes the rows of `bench`.

    Raises:
        ConfigError: the file can't be written.
    """
    try:
        Path(path).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} can't be written ({error.strerror})") from None
