"""`awac report`: the table's figures, the image, and the errors for invalid runs and names."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import saved

from awac import cli
from awac.errors import DataError
from awac.report.curves import Curve, draw
from awac.report.run import Run
from awac.report.run_table import summary, table

SHIPPED = Path(__file__).parents[1] / "ckpt" / "ant-expert-v2"
RETURNS = {10: 3900, 20: 4000, 30: 3800, 40: 3600, 50: 4100}


def run_folder(path, returns, score=True):
    """A run that went online at 20: the shipped manifest and evaluations made up here."""
    shutil.copytree(SHIPPED, path)
    with open(path / "eval.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["episode", "mean_return", "normalized_score"])
        writer.writerows((episode, value, value / 40 if score else "") for episode, value in returns.items())
    return path


@pytest.fixture
def folder(tmp_path):
    return run_folder(tmp_path / "run", RETURNS)


@pytest.fixture
def axes():
    """Axes to draw on, closed afterwards."""
    from matplotlib.figure import Figure

    return Figure().subplots()


def curves(axes):
    """What is drawn: label → [(episode, mean)], the vertical lines' episodes left out."""
    return {
        line.get_label(): list(zip(*line.get_data(), strict=True))
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


def test_the_summary_is_that_of_the_evaluations(folder):
    assert summary(Run.read(f"mine={folder}")) == {
        "run": "mine",
        "at 10": 3900,
        "at the switch": 4000,
        "lowest of the next 10": 3600,
        "÷ switch": 0.9,
        "last": 4100,
        "best": 4100,
        "normalised last": 102.5,
    }


def test_a_success_rate_keeps_its_digits(tmp_path):
    run = run_folder(tmp_path / "run", {10: 0.25, 20: 0.49, 30: 0.512}, score=False)
    assert "| run | – | 0.49 | 0.512 |" in table([Run.read(str(run))]).replace("0.25", "–")


def test_a_table_says_nothing_where_a_run_has_no_such_evaluation(tmp_path):
    run = Run.read(f"short={run_folder(tmp_path / 'run', {5: 10.0, 15: 12.0}, score=False)}")
    assert table([run]).splitlines()[-1] == "| short | – | – | – | – | 12 | 12 | – |"


def test_a_fall_has_no_share_where_returns_are_negative(tmp_path):
    run = Run.read(str(run_folder(tmp_path / "run", {20: -200.0, 30: -400.0}, score=False)))
    assert summary(run)["÷ switch"] is None and summary(run)["lowest of the next 10"] == -400


def test_a_row_that_was_cut_does_not_count(folder):
    with open(folder / "eval.csv", "a", encoding="utf-8") as file:
        file.write("60,41")
    assert Run.read(str(folder)).episodes.tolist() == [10, 20, 30, 40, 50]


def test_it_prints_a_table_and_draws_the_curves(folder, tmp_path, capsys):
    assert cli.main(["report", f"a={folder}", f"a={folder}", "--figure", str(tmp_path / "curve.svg")]) == 0
    out = capsys.readouterr().out
    assert "| a | 3900 | 4000 | 3600 | 0.90 | 4100 | 4100 | 102.5 |" in out
    assert f"Figure: {tmp_path / 'curve.svg'}" in out
    drawn = (tmp_path / "curve.svg").read_text()
    assert "<!-- a (2 seeds) -->" in drawn and "<!-- online -->" in drawn


def test_seeds_are_averaged_by_episode_number(tmp_path, axes):
    runs = [
        Run.read(f"a={run_folder(tmp_path / '1', {10: 100, 20: 200, 30: 300})}"),
        Run.read(f"a={run_folder(tmp_path / '2', {5: 0, 10: 120, 15: 0, 20: 260, 25: 0})}"),
    ]
    draw(axes, runs)
    assert curves(axes) == {"a (2 seeds)": [(10, 110), (20, 230)]}
    low, high = axes.collections[0].get_paths()[0].get_extents().get_points()[:, 1]
    assert (low, high) == (100, 260)  # the interval of two seeds reaches from one to the other


def test_seeds_without_a_common_evaluation_are_refused(tmp_path):
    folders = [run_folder(tmp_path / name, {episode: 1.0}) for name, episode in (("1", 10), ("2", 15))]
    with pytest.raises(DataError, match="the runs named 'a' share no evaluated episode"):
        Curve.of("a", [Run.read(f"a={folder}") for folder in folders])


def test_the_switch_the_reference_and_the_length_of_an_episode_are_in_the_figure(folder, axes):
    run = Run.read(f"mine={folder}")
    draw(axes, [run], reference=3700.0)
    assert curves(axes)["mine"] == list(RETURNS.items())
    assert [line.get_ydata()[0] for line in axes.lines if line.get_label() == "behaviour data, mean"] == [3700.0]
    assert [line.get_xdata() for line in axes.lines if len(set(line.get_xdata())) == 1] == [[20, 20]]
    assert axes.get_xlabel() == "training episode (1,000 gradient steps each)"
    assert axes.get_title() == "ant-expert-v2"
    axes.clear()
    draw(axes, [dataclasses.replace(run, steps=200)])
    assert axes.get_xlabel() == "training episode (200 gradient steps each)"


@pytest.mark.parametrize(
    ("folder_name", "text", "name"),
    [
        ("run", "run", "run"),
        ("lam=2", "lam=2", "lam=2"),
        ("lam=2", "mine=lam=2", "mine"),
        ("x/lam=2,seed=1", "x/lam=2,seed=1", "lam=2,seed=1"),
        ("x/lam=2,seed=1", "λ=2=x/lam=2,seed=1", "λ=2"),
        ("lam=2", "./lam=2/", "lam=2"),
        ("run", "=run", "run"),
    ],
)
def test_a_folder_is_found_whatever_equals_signs_it_has(tmp_path, monkeypatch, folder_name, text, name):
    run_folder(tmp_path / folder_name, RETURNS)
    monkeypatch.chdir(tmp_path)
    run = Run.read(text)
    assert (run.name, len(run.returns)) == (name, len(RETURNS))


@pytest.mark.parametrize(
    ("image", "words"),
    [("none/curve.png", "can't be written"), ("curve.xyz", "no image format"), ("curve", "no image format")],
)
def test_a_figure_that_cannot_be_written_gets_one_line(folder, tmp_path, monkeypatch, capsys, image, words):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", str(folder), "--figure", image]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"awac: error: {image}: ") and words in error and error.count("\n") == 1


def test_a_folder_that_is_no_run_gets_one_line(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 1
    assert "give the checkpoint folder of a training run" in capsys.readouterr().err
    run_folder(tmp_path / "run", RETURNS)
    assert cli.main(["report", str(tmp_path)]) == 1
    assert f"{tmp_path} is no run but holds some (run): name them" in capsys.readouterr().err


def test_a_run_without_an_environment_is_one_that_has_no_evaluations(tmp_path, capsys):
    folder = saved.save(tmp_path / "run", "own")
    for text, no_env in (("holds no evaluation yet", False), ("was trained without an environment", True)):
        path = folder / "manifest_3.json"
        manifest = json.loads(path.read_text())
        manifest["config"]["env"]["no_env"] = no_env
        path.write_text(json.dumps(manifest))
        assert cli.main(["report", str(folder)]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"awac: error: {folder} {text}") and error.count("\n") == 1
