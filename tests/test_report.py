"""`awac report`: the table's figures, the image, and what it says of runs and names that don't work."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from awac import cli
from awac.report.curves import Run

SHIPPED = Path(__file__).parents[1] / "ckpt" / "ant-expert-v2"
RETURNS = {10: 3900, 20: 4000, 30: 3800, 40: 3600, 50: 4100}


@pytest.fixture
def folder(tmp_path):
    """A run that went online at 20: the shipped manifest and evaluations made up here."""
    made = shutil.copytree(SHIPPED, tmp_path / "run")
    with open(made / "eval.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["episode", "mean_return", "normalized_score"])
        writer.writerows((episode, value, value / 40) for episode, value in RETURNS.items())
    return made


def test_the_summary_is_that_of_the_evaluations(folder):
    summary = Run.read(f"mine={folder}").summary()
    assert summary == {
        "run": "mine", "at 10": 3900, "at the switch": 4000, "lowest of the next 10": 3600, "dip": 0.1, "last": 4100,
        "best": 4100, "normalised last": 102.5,
    }  # fmt: skip


def test_it_prints_a_table_and_draws_the_curves(folder, tmp_path, capsys):
    assert cli.main(["report", f"a={folder}", f"a={folder}", "--figure", str(tmp_path / "curve.png")]) == 0
    assert "| a | 3900 | 4000 | 3600 | 10% | 4100 | 4100 | 102.5 |" in capsys.readouterr().out
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("image", "words"), [("none/curve.png", "can't be written"), ("curve.xyz", "no image format")])
def test_a_figure_that_cannot_be_written_gets_one_line(folder, tmp_path, monkeypatch, capsys, image, words):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", str(folder), "--figure", image]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"awac: error: {image}: ") and words in error and error.count("\n") == 1


def test_a_folder_that_is_no_run_gets_one_line(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 1
    assert "give the checkpoint folder of a training run" in capsys.readouterr().err
