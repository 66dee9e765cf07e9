"""`awac bench --growth` and `--parts`: how this package's own time and memory grow, and where a run's time goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"
ROWS = (10_000, 100_000, 1_000_000, 2_000_000)
BATCHES = (64, 256, 1024, 4096)
WIDTHS = (64, 256, 1024)
BASE = {"rows": 100_000, "batch": 256, "width": 256}


def growth(rows=ROWS, batches=BATCHES, widths=WIDTHS) -> list[dict]:
    """Step time and peak memory, each in a process of its own, along one axis at a time; prints a table."""
    cases = [("rows", n) for n in rows] + [("batch", n) for n in batches] + [("width", n) for n in widths]
    print("| rows | batch | width | ms a step | peak memory, MB | rows' float32 size, MB |\n|---|---|---|---|---|---|")
    found = []
    for axis, value in cases:
        case = {**BASE, axis: value}
        result = _run("one_size.py", **case)
        found.append({"axis": axis, **case, **result})
        print(f"| {case['rows']} | {case['batch']} | {case['width']} | {result['ms_per_step']:.2f} | "
              f"{result['peak_mb']:.0f} | {result['rows_mb']:.0f} |", flush=True)  # fmt: skip
    return found


def parts() -> list[dict]:
    """Seconds to the first step, an online step and an evaluation, by part, for the default task; prints a table."""
    found = _run("parts.py")
    print("| part | seconds |\n|---|---|")
    for name, seconds in found.items():
        print(f"| {name} | {seconds:.4g} |")
    return [{"part": name, "seconds": seconds} for name, seconds in found.items()]


def _run(script: str, **arguments) -> dict:
    command = [sys.executable, str(SCRIPTS / script), json.dumps(arguments)]
    return json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout.splitlines()[-1]
    )
