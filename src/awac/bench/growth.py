"""`awac bench --growth` and `--parts`: how this package's own time and memory grow, and where a run's time goes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

SCRIPTS = Path(__file__).parent / "scripts"
ROWS = (10_000, 100_000, 1_000_000, 2_000_000)
BATCHES = (64, 256, 1024, 4096)
WIDTHS = (64, 256, 1024)
BASE = {"rows": 100_000, "batch": 256, "width": 256}
OBS, ACT, _BLOCK = 111, 8, 50_000


def growth(rows=ROWS, batches=BATCHES, widths=WIDTHS) -> list[dict]:
    """Step time and peak memory along one axis at a time, each in a process that reads a file; prints a table.

    The rows are of the Ant's size, and every column varies.
    """
    cases = [("rows", n) for n in rows] + [("batch", n) for n in batches] + [("width", n) for n in widths]
    print("| rows | batch | width | ms a step | peak memory, MB | rows' float32 size, MB |\n|---|---|---|---|---|---|")
    found = []
    for axis, value in cases:
        case = {**BASE, axis: value}
        with tempfile.TemporaryDirectory() as folder:
            file = f"{folder}/rows.hdf5"
            write_rows(file, case["rows"])
            result = _run("one_size.py", path=file, batch=case["batch"], width=case["width"])
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


def write_rows(path: str, rows: int) -> None:
    """A data set of random rows in D4RL's v2 layout, not compressed."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for key in ("observations", "next_observations"):
            data = file.create_dataset(key, (rows, OBS), np.float32)
            for start in range(0, rows, _BLOCK):
                count = min(_BLOCK, rows - start)
                data[start : start + count] = rng.standard_normal((count, OBS), np.float32)
        file["actions"] = rng.uniform(-1, 1, (rows, ACT)).astype(np.float32)
        file["rewards"] = rng.standard_normal(rows, np.float32)
        file["terminals"] = np.zeros(rows, bool)
        file["timeouts"] = np.arange(rows) % 1000 == 999


def _run(script: str, **arguments) -> dict:
    command = [sys.executable, str(SCRIPTS / script), json.dumps(arguments)]
    return json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout.splitlines()[-1]
    )
