"""The CartPole example: the script in miniature, its tables and figures, and the notebook."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

EXAMPLE = Path(__file__).parents[1] / "example" / "cartpole"
FIGURES = {"behaviour.png", "offline.png", "online.png", "switch_kept.png", "switch_cleared.png"}


@pytest.fixture(scope="module")
def environment():
    return {**os.environ, "PYTHONPATH": str(EXAMPLE.parents[1] / "src"), "OMP_NUM_THREADS": "1", "AWAC_FAST": "1"}


def run(environment, *arguments, cwd):
    return subprocess.run(
        [sys.executable, str(EXAMPLE / "train.py"), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_fast_run_writes_tables_lengths_and_figures(environment, tmp_path):
    done = run(environment, "--fast", "--jobs", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "cartpole_fast"
    with open(out / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["recipe"] for row in rows] == ["cartpole", "reference"]
    with np.load(out / "lengths.npz", allow_pickle=False) as lengths:
        assert lengths["cartpole/online_kept"].shape == (1, 20)
        for row in rows:
            for key in ("behaviour", "offline", "final_kept", "final_cleared"):
                assert float(row[key]) == pytest.approx(lengths[f"{row['recipe']}/{key}"].mean(), abs=0.01)
            assert 1 <= lengths[f"{row['recipe']}/online_cleared"].min() <= 500
    table = (out / "results.md").read_text()
    assert table.count("\n") == 2 + 4 and table in done.stdout  # two heads, a seed and a mean for each recipe
    assert {path.name for path in (out / "figures").iterdir()} == FIGURES
    assert all(path.stat().st_size > 5000 for path in (out / "figures").iterdir())


@pytest.mark.parametrize("arguments", [("--seeds", "0"), ("--preset", "other"), ("--jobs", "none")])
def test_a_wrong_argument_is_answered_with_usage(environment, tmp_path, arguments):
    done = run(environment, *arguments, cwd=tmp_path)
    assert done.returncode == 2 and "usage:" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_notebook_runs(environment, monkeypatch):
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    notebook = nbformat.read(EXAMPLE / "cartpole.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(EXAMPLE)}}).execute()
    text = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "memory kept:" in text and "memory cleared:" in text


def test_the_notebook_ships_with_its_outputs():
    notebook = nbformat.read(EXAMPLE / "cartpole.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs) == 2
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
