"""The CartPole example: the script in miniature, its tables and figures, and the notebook."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
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
    again = run(environment, "--fast", "--preset", "reference", cwd=tmp_path)  # its run is there
    assert again.stdout.startswith("reference, seed 0: is in cartpole_fast/runs/reference_0.npz\n"), again.stderr
    full = run(environment, "--out", "cartpole_fast", cwd=tmp_path)
    assert full.returncode == 1 and "cartpole_0.npz is of other settings" in full.stderr


def test_after_ctrl_c_finished_runs_are_kept_and_one_line_says_so(environment, tmp_path):
    command = [sys.executable, str(EXAMPLE / "train.py"), "--fast", "--jobs", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    first, end = tmp_path / "cartpole_fast" / "runs" / "cartpole_0.npz", time.monotonic() + 200
    while not first.exists() and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert "\nstopped; finished runs are in cartpole_fast/runs, the same" in process.communicate(timeout=60)[1]
    assert process.returncode == 130 and first.exists() and not (tmp_path / "cartpole_fast" / "results.csv").exists()


def test_a_folder_that_cannot_be_made_is_known_before_the_runs(environment, tmp_path):
    (tmp_path / "file").touch()
    done = run(environment, "--out", "file", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "train.py: error: file/runs: cannot be written (Not a directory)\n" and not done.stdout


@pytest.mark.parametrize("arguments", [("--seed", "-1"), ("--steps", "-5"), ("--out", "missing/p.npz")])
def test_the_dqn_s_arguments_are_checked_first(environment, tmp_path, arguments):
    command = [sys.executable, str(EXAMPLE / "dqn.py"), "--out", "p.npz", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "dqn.py: error: " in done.stderr and "Traceback" not in done.stderr


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
