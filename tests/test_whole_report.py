"""The report of a sweep and the HTML page: figures of tables and aggregates, and a page that a browser opens."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from awac import cli
from awac.config import KEYS
from awac.data.sources.generated import generate
from awac.envs.tasks import normalized_score
from awac.errors import ConfigError, DataError
from awac.report.aggregates import aggregate
from awac.report.content import other_sections, score_sections
from awac.report.figures import panels
from awac.report.measures import at_switch, best, held, held_by_chance, last
from awac.report.page import html
from awac.report.results import Results, score_table
from awac.report.run import Run
from awac.report.summary import read, write
from awac.sweep.plan import PLAN

SHIPPED = Path(__file__).parents[1] / "ckpt" / "ant-expert-v2"


def run_folder(
    path: Path, returns: dict[int, float], *, weighting="softmax", data=None, seed=0, deviation: float | str = ""
) -> Path:
    """A run that went online at 20: the shipped checkpoint, evaluations and training figures made up here."""
    shutil.copytree(SHIPPED, path)
    (manifest_path,) = path.glob("manifest_*.json")
    manifest = json.loads(manifest_path.read_text())
    manifest["config"]["algo"]["weighting"] = weighting
    manifest["config"]["train"]["seed"] = seed
    manifest["data"] = data or {}
    manifest_path.write_text(json.dumps(manifest))
    write_table(
        path / "eval.csv",
        ["episode", "mean_return", "std_return", "normalized_score"],
        [(episode, value, deviation, value / 40) for episode, value in returns.items()],
    )
    write_table(path / "train.csv", ["episode", "ess", "q_mean"], [(i, 1 - i / 100, i * 3) for i in range(1, 31)])
    return path


def write_table(path: Path, header, rows) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def sections(results: Results) -> list:
    return [*score_sections(results), *other_sections(results)]


LEVELS = {"ant": 4000, "bc": 3000}


@pytest.fixture
def swept(tmp_path):
    """The results folder of a sweep of two tasks, two presets and two seeds; one trial has not begun."""
    folder, rows = tmp_path / "benchmark", []
    for task, offset in (("ant-expert-v2", 0), ("ant-medium-v2", -1000)):
        for preset, level in LEVELS.items():
            for seed in (0, 1):
                name = f"{task}/{preset}/seed_{seed}"
                rows.append({"name": name, "task": task, "preset": preset, "seed": seed, "episodes": 30})
                if (task, preset, seed) == ("ant-medium-v2", "bc", 1):
                    continue
                base = level + offset + 200 * seed
                run_folder(
                    folder / name,
                    {10: base - 400, 20: base, 25: base * 0.9, 30: base + 100},
                    weighting="uniform" if preset == "bc" else "softmax",
                    data={"mean_return": 3500.0, "sha256": task, "rows": 500_000, "kind": "generated", "dataset": task},
                    seed=seed,
                )
    (folder / PLAN).write_text(json.dumps({"format": 1, "trials": rows}))
    return folder


def test_the_measures_of_a_run(tmp_path):
    run = Run.of("a", run_folder(tmp_path / "a", {10: 3000, 20: 4000, 25: 3600, 30: 3900, 35: 4100}))
    assert (last(run), at_switch(run), best(run), held(run)) == (102.5, 100.0, 102.5, 0.9)
    assert held_by_chance(run) is None, "the spread of its returns is unknown"
    early = Run.of("a", run_folder(tmp_path / "b", {25: 3600}))
    assert (last(early), at_switch(early), held(early)) == (90.0, None, None)
    offline = Run.of("a", run_folder(tmp_path / "c", {5: 3600, 10: 4000}))
    assert at_switch(offline) is None, "it has not come to the switch"


def test_what_chance_gives_after_the_switch(tmp_path):
    """20 episodes of 4000 ± 800: a standard error of 179; the lowest of ten is 1.5 of them lower."""
    returns = {20: 4000, **dict.fromkeys(range(21, 31), 4000)}
    run = Run.of("a", run_folder(tmp_path / "a", returns, deviation=800.0))
    run.manifest["config"]["env"]["eval_episodes"] = 20
    assert held(run) == 1.0 and 0.92 < held_by_chance(run) < 0.94
    steady = dataclasses.replace(run, deviations=np.zeros_like(run.deviations))
    assert held_by_chance(steady) == 1.0
    run.manifest["config"]["env"]["eval_episodes"] = 1
    assert held_by_chance(run) is None, "one episode has no spread"


def test_a_task_has_one_unit(tmp_path):
    runs = {("ant-expert-v2", name): [Run.of(name, run_folder(tmp_path / name, {20: 4000}))] for name in ("a", "b")}
    runs["ant-expert-v2", "b"] = [dataclasses.replace(runs["ant-expert-v2", "b"][0], scores=np.array([np.nan]))]
    results = Results("", runs, [])
    assert [last(run) for run in results.of_task("ant-expert-v2")] == [4000, 4000]
    assert score_table(results, last).rows[0][0] == "ant-expert-v2 (return)"


def test_presets_are_compared_on_the_seeds_that_all_have(tmp_path):
    pytest.importorskip("rliable")
    levels = {("a", 0): 1000, ("a", 1): 2000, ("b", 1): 4000, ("b", 2): 8000}
    runs = {}
    for (name, seed), value in levels.items():
        run = Run.of(name, run_folder(tmp_path / f"{name}{seed}", {20: value}, seed=seed))
        runs.setdefault(("ant-expert-v2", name), []).append(run)
    found = aggregate(Results("", runs, []))
    assert found.seeds == 1 and {name: iqm[0] for name, iqm in found.iqm.items()} == {"a": 50.0, "b": 100.0}
    runs["ant-expert-v2", "b"] = runs["ant-expert-v2", "b"][1:]
    with pytest.raises(DataError, match="no seed that all presets have"):
        aggregate(Results("", runs, []))


def test_a_reference_takes_the_place_of_what_the_runs_know(tmp_path):
    run = Run.of("a", run_folder(tmp_path / "a", {20: 4000}, data={"mean_return": 3000.0}))
    own, given = (Results.of_runs([run], "", reference).data_score(run.task) for reference in (None, 1000.0))
    assert own == pytest.approx(normalized_score(run.task, 3000.0))
    assert given == pytest.approx(normalized_score(run.task, 1000.0))


def test_two_reports_in_a_folder_keep_their_figures(tmp_path, capsys):
    for name, task in (("a", "x y"), ("b", "x_y")):
        folder = run_folder(tmp_path / name, {10: 3000, 20: 4000})
        path = next(folder.glob("manifest_*.json"))
        manifest = json.loads(path.read_text())
        manifest["config"]["env"]["task"] = task
        path.write_text(json.dumps(manifest))
    for report, names in (("a b", "ab"), ("b", "b"), ("report", "a")):
        assert cli.main(["report", *(str(tmp_path / n) for n in names), "--markdown", f"{tmp_path}/{report}.md"]) == 0
    pictures = re.findall(r"\]\((.+?)\)", (tmp_path / "a b.md").read_text())
    assert len(pictures) == len(set(pictures)) and "a%20b_figures/curves_x_y_2.png" in pictures
    assert (tmp_path / "figures" / "curves_x_y.png").is_file() and (tmp_path / "b_figures").is_dir()
    assert not (tmp_path / "figures" / "curves_x_y_2.png").exists()


def test_a_run_that_started_from_anothers_learner_has_its_own_switch(tmp_path):
    """Its offline phase is what that run left of it: nothing, or 8 of 20 episodes."""
    folder = run_folder(tmp_path / "a", {10: 3000, 20: 4000})
    assert Run.of("a", folder).switch == 20
    write_table(folder / "train.csv", ["episode", "gradient_steps"], [(10, 30_000), (20, 40_000)])
    run = Run.of("a", folder)
    assert (run.switch, at_switch(run), held(run)) == (0, None, None)
    write_table(folder / "train.csv", ["episode", "gradient_steps"], [(10, 22_000)])
    assert Run.of("a", folder).switch == 8


def test_the_tables_have_mean_and_deviation_over_seeds_and_the_mean_over_tasks(swept):
    results = Results.of_sweep(swept)
    assert results.missing == ["ant-medium-v2/bc/seed_1"]
    table = score_table(results, last)
    assert table.header == ["task", "data", "ant", "bc"]
    assert table.rows == [
        ["ant-expert-v2", "91.0", "105.0 ± 3.5", "80.0 ± 3.5"],
        ["ant-medium-v2", "91.0", "80.0 ± 3.5", "52.5"],
        ["mean of 2 tasks, common seeds", "", "91.2", "66.2"],
    ]
    assert score_table(results, held, digits=2, mean=False).rows[0] == ["ant-expert-v2", "0.90 ± 0.00", "0.90 ± 0.00"]


def test_small_returns_keep_their_digits(tmp_path):
    """A success rate is from 0 to 1."""
    returns = {20: 0.0049, **dict.fromkeys(range(21, 31), 0.0004)}
    run = dataclasses.replace(Run.of("a", run_folder(tmp_path / "a", returns)), scores=np.full(11, np.nan))
    results = Results("", {("own:Task-v0", "a"): [run]}, [])
    write(results, tmp_path / "a.json")
    for one in (results, read(tmp_path / "a.json")):
        assert score_table(one, at_switch).rows[0][-1] == "0.005"
        assert score_table(one, held, digits=2, mean=False).rows[0][-1] == "0.08"


def test_the_aggregates_are_rliables(swept):
    pytest.importorskip("rliable")
    state = np.random.get_state()[1].copy()
    found = aggregate(Results.of_sweep(swept))
    assert (found.tasks, found.seeds) == (["ant-expert-v2", "ant-medium-v2"], 1)  # the seeds that all have
    shutil.copytree(swept / "ant-medium-v2/bc/seed_0", swept / "ant-medium-v2/bc/seed_1")
    (path,) = (swept / "ant-medium-v2/bc/seed_1").glob("manifest_*.json")
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    found = aggregate(Results.of_sweep(swept))
    assert found.seeds == 2
    middle, low, high = found.iqm["ant"].ravel()
    # Scores 102.5, 107.5, 77.5, 82.5: the middle two; a resample that draws one seed twice in each task is an end.
    assert (middle, low, high) == (92.5, 90.0, 95.0)
    assert found.offline["bc"].ravel()[0] == pytest.approx((75 + 50) / 2 + 2.5 / 2, abs=2.5)
    profile = found.profiles["ant"]
    share = np.interp([70, 80, 100, 106], found.thresholds, profile[0])
    assert share == pytest.approx([1, 0.75, 0.5, 0.25], abs=1e-6)
    assert (profile[1] <= profile[0]).all() and (profile[0] <= profile[2]).all()
    again = aggregate(Results.of_sweep(swept))
    assert (again.iqm["bc"] == found.iqm["bc"]).all() and (np.random.get_state()[1] == state).all()


def test_without_rliable_the_report_says_what_to_install(swept, monkeypatch):
    monkeypatch.setitem(sys.modules, "rliable", None)
    with pytest.raises(ConfigError, match="pip install 'ray>="):
        aggregate(Results.of_sweep(swept))
    texts = {section.title: section.text for section in sections(Results.of_sweep(swept))}
    assert texts["Aggregates"].startswith("Left out: aggregates need the package rliable")
    assert "Last evaluation" in texts


def test_a_sweeps_report_is_markdown_with_figures(swept, capsys):
    assert cli.main(["report", str(swept)]) == 0
    text = (swept / "report.md").read_text()
    assert text.startswith("# benchmark\n") and "| ant-expert-v2 | 91.0 | 105.0 ± 3.5 | 80.0 ± 3.5 |" in text
    assert "Without an evaluation or a sound checkpoint: ant-medium-v2/bc/seed_1." in text
    images = re.findall(r"!\[.*?\]\((.+?)\)", text)
    assert "figures/curves_ant-medium-v2.png" in images and "figures/ess_ant-expert-v2.png" in images
    assert all((swept / image).read_bytes().startswith(b"\x89PNG") for image in images)
    out = capsys.readouterr().out
    assert "mean of 2 tasks" in out and out.strip().splitlines()[-1] == f"Report: {swept / 'report.md'}"


def test_clones_and_the_data_are_level_lines_of_a_curve(swept):
    from matplotlib.figure import Figure

    (curves,) = [section for section in sections(Results.of_sweep(swept)) if section.title == "Curves"]
    assert "With 2 seeds the interval is too narrow" in curves.text
    axes = Figure().subplots()
    curves.blocks[0].draw(axes)
    labels = {line.get_label(): list(line.get_ydata()) for line in axes.lines if not line.get_label().startswith("_")}
    assert labels["bc, offline"] == [77.5, 77.5] and set(labels) == {
        "ant (2 seeds)",
        "bc, offline",
        "behaviour data, mean",
    }
    assert labels["ant (2 seeds)"] == [92.5, 102.5, 92.25, 105.0]
    assert [list(line.get_xdata()) for line in axes.lines if line.get_linestyle() == ":"] == [[20, 20]]


def test_a_results_file_gives_the_same_tables_and_curves(swept, tmp_path, capsys):
    made = tmp_path / "benchmark.json"
    assert cli.main(["report", str(swept), "--json", str(made)]) == 0
    first = capsys.readouterr().out
    shutil.rmtree(swept)
    assert cli.main(["report", str(made), "--markdown", str(tmp_path / "again.md")]) == 0
    again = capsys.readouterr().out
    assert first.split("Report:")[0] == again.split("Report:")[0] and "| ant-medium-v2 |" in again
    assert (tmp_path / "again_figures" / "curves_ant-medium-v2.png").is_file()
    made.write_text('{"format": 1, "runs": []}')
    assert cli.main(["report", str(made)]) == 1
    assert "is not a sweep's results" in capsys.readouterr().err
    run = run_folder(tmp_path / "single", {10: 100.0})
    assert cli.main(["report", str(run), "--json", str(made)]) == 1
    assert "--json is for the results of a sweep" in capsys.readouterr().err


def test_the_parts_of_a_sweep_are_one_report(swept, tmp_path, capsys):
    """Of a trial in both the longer run counts; what one part lacks the other may have."""
    part = tmp_path / "other"
    shutil.copytree(swept, part)
    shutil.rmtree(part / "ant-expert-v2")
    run_folder(part / "ant-medium-v2/bc/seed_1", {10: 1000, 20: 2000, 30: 2400}, weighting="uniform", seed=1)
    cut_at_25(swept / "ant-medium-v2/ant/seed_1")
    first = tmp_path / "first.json"
    assert cli.main(["report", str(swept), "--markdown", str(tmp_path / "r.md"), "--json", str(first)]) == 0
    capsys.readouterr()
    assert read(first).unfinished == ["ant-medium-v2/ant/seed_1"]
    joined = Results.joined([read(first), Results.of_sweep(part)])
    assert score_table(joined, last).rows == [
        ["ant-expert-v2", "91.0", "105.0 ± 3.5", "80.0 ± 3.5"],
        ["ant-medium-v2", "91.0", "80.0 ± 3.5", "56.2 ± 5.3"],
        ["mean of 2 tasks", "", "92.5", "68.1"],
    ]
    assert (joined.missing, joined.unfinished) == ([], [])
    assert cli.main(["report", str(first), str(part), "--title", "both"]) == 0
    assert "| ant-medium-v2 | 91.0 | 80.0 ± 3.5 | 56.2 ± 5.3 |" in capsys.readouterr().out


def cut_at_25(folder: Path) -> None:
    """Takes a trial's last evaluation, as if it were still running."""
    rows = (folder / "eval.csv").read_text().splitlines(keepends=True)
    (folder / "eval.csv").write_text("".join(row for row in rows if not row.startswith("30,")))


def change(folder: Path, section: str, key: str, value) -> None:
    """Another setting in a run's manifest, or another fact about its data."""
    (path,) = folder.glob("manifest_*.json")
    values = json.loads(path.read_text())
    (values if section == "data" else values["config"])[section][key] = value
    path.write_text(json.dumps(values))


def test_what_is_not_finished_counts_only_where_it_is_complete(swept):
    """Seed 1 of the first cell has no last evaluation: its 90 are no result, and its curve would cut the other's."""
    cut_at_25(swept / "ant-expert-v2/ant/seed_1")
    results = Results.of_sweep(swept)
    assert results.unfinished == ["ant-expert-v2/ant/seed_1"]
    assert score_table(results, last).rows[0] == ["ant-expert-v2", "91.0", "102.5", "80.0 ± 3.5"]
    assert score_table(results, best).rows[0][2] == "102.5" and score_table(results, held, 2).rows[0][2] == "0.90"
    assert score_table(results, at_switch).rows[0][2] == "102.5 ± 3.5"
    (first, *_), (drawn, *_) = (
        [s for s in sections(results) if s.title == title] for title in ("Last evaluation", "Curves")
    )
    assert "Not at their last evaluation, so left out of it: ant-expert-v2/ant/seed_1." in first.text
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    drawn.blocks[0].draw(axes)
    (line,) = [line for line in axes.lines if line.get_label() == "ant"]
    assert list(line.get_xdata()) == [10, 20, 25, 30]


def test_a_run_counts_up_to_the_end_that_is_planned(swept):
    plan = json.loads((swept / PLAN).read_text())
    for row in plan["trials"]:
        row["episodes"] = 25 if row["preset"] == "bc" else 30
    (swept / PLAN).write_text(json.dumps(plan))
    results = Results.of_sweep(swept)
    assert score_table(results, last).rows[0] == ["ant-expert-v2", "91.0", "105.0 ± 3.5", "69.8 ± 3.2"]
    (first,) = [s for s in sections(results) if s.title == "Last evaluation"]
    assert not results.unfinished and "Training episodes: ant 30, bc 25." in first.text
    for row in plan["trials"]:
        row["episodes"] = 28  # between two evaluations
    (swept / PLAN).write_text(json.dumps(plan))
    assert not Results.of_sweep(swept).unfinished


def test_a_longer_copy_of_a_whole_sweep_takes_its_place(tmp_path):
    def part(name, last):
        runs = [Run.of("ant", run_folder(tmp_path / f"{name}{i}", {10: 1, 20: 2, last: 3}, seed=i)) for i in (0, 1)]
        return Results(name, {("t", "ant"): runs}, [])

    long = part("b", 50)
    assert Results.joined([part("a", 30), long]).runs == long.runs


def test_seeds_with_other_settings_and_data_that_differ_are_said(swept):
    change(swept / "ant-expert-v2/ant/seed_1", "env", "eval_episodes", 100)
    change(swept / "ant-expert-v2/bc/seed_1", "data", "mean_return", 100.0)
    results = Results.of_sweep(swept)
    (first,) = [s for s in sections(results) if s.title == "Last evaluation"]
    assert "seed_1 differ in eval_episodes, so they are not seeds of one setting." in first.text
    assert [row[1] for row in score_table(results, last).rows] == ["–", "91.0", ""]


def test_the_settings_hold_what_older_manifests_lack(swept):
    for path in swept.glob("*/ant/*/manifest_*.json"):
        values = json.loads(path.read_text())
        del values["config"]["train"]["max_checkpoints"]
        path.write_text(json.dumps(values))
    (settings,) = [s for s in sections(Results.of_sweep(swept)) if s.title == "Settings"]
    changed, same = map(int, re.findall(r"The (\d+) keys .* other (\d+) are", settings.text)[0])
    assert changed + same == len(KEYS) - 2 and len(settings.blocks[0].rows) == changed


def test_one_trial_in_two_parts_has_one_setting(swept, tmp_path, capsys):
    part = tmp_path / "other"
    shutil.copytree(swept, part)
    change(part / "ant-expert-v2/ant/seed_0", "algo", "lam", 7.0)
    shutil.rmtree(part / "ant-expert-v2/ant/seed_1")
    assert cli.main(["report", str(swept), str(part)]) == 1
    assert "ant-expert-v2/ant/seed_0 differ in lam, so" in capsys.readouterr().err


def test_runs_of_one_name_are_seeds(tmp_path, capsys):
    """Not two tasks in one curve, nor two settings in one mean."""
    a, b = (run_folder(tmp_path / name, {10: 1000, 20: 4000, 30: 4000}) for name in "ab")
    change(b, "algo", "lam", 7.0)
    assert cli.main(["report", f"x={a}", f"x={b}"]) == 1
    assert "differ in lam, so they are not seeds of one setting; give them names" in capsys.readouterr().err
    change(b, "env", "task", "ant-medium-v2")
    assert cli.main(["report", f"x={a}", f"x={b}", "--figure", str(tmp_path / "f.svg")]) == 0
    drawn = (tmp_path / "f.svg").read_text()
    assert "<!-- ant-expert-v2 -->" in drawn and "<!-- ant-medium-v2 -->" in drawn and "2 seeds" not in drawn


def test_a_name_may_hold_a_dollar_sign(tmp_path):
    run = run_folder(tmp_path / "a", {10: 1000, 20: 4000})
    assert cli.main(["report", f"$\\lam$={run}", "--figure", str(tmp_path / "f.svg")]) == 0
    assert "<!-- $\\lam$ -->" in (tmp_path / "f.svg").read_text()


def test_parts_with_other_settings_are_refused(swept, tmp_path, capsys):
    part = tmp_path / "other"
    shutil.copytree(swept, part)
    manifest = next((part / "ant-medium-v2/ant/seed_1").glob("manifest_*.json"))
    values = json.loads(manifest.read_text())
    values["config"]["algo"]["lam"], values["config"]["train"]["save_every"] = 7.0, 3
    manifest.write_text(json.dumps(values))
    assert cli.main(["report", str(part)]) == 0  # a sweep's own cells may set them apart
    capsys.readouterr()
    shutil.rmtree(swept / "ant-medium-v2/ant/seed_1")
    assert cli.main(["report", str(swept), str(part)]) == 1
    error = capsys.readouterr().err
    assert "ant-medium-v2/ant/seed_0 and ant-medium-v2/ant/seed_1 differ in lam, so" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("env", "eval_episodes", 3, "differ in eval_episodes, so"),
        ("data", "sha256", "0" * 64, "differ in the rows of the data set, so"),
    ],
)
def test_parts_with_another_environment_or_other_rows_are_refused(swept, tmp_path, capsys, section, key, value, words):
    part = tmp_path / "other"
    shutil.copytree(swept, part)
    manifest = next((part / "ant-medium-v2/ant/seed_1").glob("manifest_*.json"))
    values = json.loads(manifest.read_text())
    (values["config"] if section == "env" else values)[section][key] = value
    manifest.write_text(json.dumps(values))
    shutil.rmtree(swept / "ant-medium-v2/ant/seed_1")
    assert cli.main(["report", str(swept), str(part)]) == 1
    assert words in capsys.readouterr().err


def test_seeds_are_in_the_order_of_their_numbers_and_the_longest_run_says_whether_it_is_finished(tmp_path):
    runs = {
        seed: Run.of("ant", run_folder(tmp_path / f"s{seed}", {10: 100 * seed, 20: 1}, seed=seed)) for seed in (2, 10)
    }
    longer = Run.of("ant", run_folder(tmp_path / "long", {10: 1, 20: 2, 30: 3}, seed=2))
    longer = dataclasses.replace(longer, finished=False)
    short = Results("a", {("t", "ant"): [runs[10], runs[2]]}, [])
    long = Results("b", {("t", "ant"): [longer]}, [])
    joined = Results.joined([short, long])
    assert joined.runs["t", "ant"] == [longer, runs[10]] and joined.unfinished == ["t/ant/seed_2"]
    long.runs["t", "ant"][0] = dataclasses.replace(longer, finished=True)
    with pytest.raises(DataError, match="differ in episode, so"):
        Results.joined([short, long])


def test_all_tasks_are_panels_of_one_figure(swept, tmp_path, capsys, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: drawn.append(self))
    assert cli.main(["report", str(swept), "--markdown", str(tmp_path / "r.md"), "--figure", "all.png"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("Figure: all.png")
    assert [axes.get_title() for axes in drawn[-1].axes] == ["ant-expert-v2", "ant-medium-v2"]
    (legend,) = drawn[-1].legends
    assert [text.get_text() for text in legend.get_texts()] == ["ant (2 seeds)", "behaviour data, mean", "bc, offline"]
    assert all(axes.get_legend() is None for axes in drawn[-1].axes)


def test_panels_with_other_numbers_of_seeds_share_a_line_of_the_legend(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: drawn.append(self))
    labels = ("ant (3 seeds)", "ant", "bc (2 seeds)")
    panels([lambda axes, label=label: axes.plot([0, 1], label=label) for label in labels], tmp_path / "f.png")
    (legend,) = drawn[-1].legends
    assert [text.get_text() for text in legend.get_texts()] == ["ant (1 or 3 seeds)", "bc (2 seeds)"]


def test_a_folder_without_an_evaluation_is_one_line(swept, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    shutil.copy(swept / PLAN, tmp_path / "empty" / PLAN)
    assert cli.main(["report", str(tmp_path / "empty")]) == 1
    assert "no trial in" in capsys.readouterr().err
    (tmp_path / "empty" / PLAN).write_text("{")
    assert cli.main(["report", str(tmp_path / "empty")]) == 1
    error = capsys.readouterr().err
    assert "is not a sweep's plan" in error and error.count("\n") == 1
    assert cli.main(["report", str(swept), "--reference", "1"]) == 1
    assert "--reference is for single runs" in capsys.readouterr().err
    assert cli.main(["report", str(swept), str(tmp_path / "empty")]) == 1
    assert "is not a sweep's plan" in capsys.readouterr().err
    assert cli.main(["report", str(swept), str(swept / "ant-medium-v2/bc/seed_0")]) == 1
    assert "holds no sweep's results; give sweeps alone" in capsys.readouterr().err
    assert cli.main(["report", str(swept), "--html", str(tmp_path / "none" / "x.html")]) == 1
    assert "can't be written" in capsys.readouterr().err


def test_the_page_needs_nothing_else(swept, tmp_path):
    page = tmp_path / "report.html"
    assert cli.main(["report", str(swept), "--title", "A <b> & c", "--html", str(page)]) == 0
    text = page.read_text()
    assert "<title>A &lt;b&gt; &amp; c</title>" in text and text.count("<svg") >= 6
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"', text) == [] and "url(http" not in text and "<script" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    referred = set(re.findall(r'(?:href="#|url\(#)([\w.-]+)', text))
    assert referred <= set(ids)


def test_the_page_names_settings_data_and_the_doctors_verdict(tmp_path, monkeypatch):
    monkeypatch.setenv("AWAC_CACHE_DIR", str(tmp_path / "cache"))
    from awac.data.sources import resolve_dataset
    from awac.envs.make import make_env
    from awac.training.resume import fingerprint

    path = generate("ant-expert-v2", rows=3000, progress=False)
    rows, _ = resolve_dataset(path, env=make_env("ant-expert-v2"))
    folder = run_folder(tmp_path / "a", {10: 3000, 20: 4000}, data={"sha256": fingerprint(rows), "dataset": str(path)})
    manifest = next(folder.glob("manifest_*.json"))
    values = json.loads(manifest.read_text())
    values["config"]["env"]["dataset"] = str(path)
    manifest.write_text(json.dumps(values))
    page = tmp_path / "page.html"
    assert cli.main(["report", f"mine={folder}", f"mine={folder}", "--html", str(page)]) == 0
    text = page.read_text()
    assert re.search(r"<td>fit(, with warnings)?</td><td>all</td><td>\d+ ok, \d+ warn, 0 fail</td>", text)
    assert fingerprint(rows)[:16] in text
    values["data"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(values))
    assert cli.main(["report", str(folder), "--html", str(page)]) == 0
    assert "has other rows than the runs were trained on" in page.read_text()
    path.unlink()
    assert cli.main(["report", str(folder), "--html", str(page)]) == 0
    assert "is not on this machine" in page.read_text()


@pytest.fixture
def chromium():
    """Chromium's command."""
    command = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if command is None:
        pytest.skip("no Chromium on this machine")
    return command


@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_shows_the_page_without_an_error(chromium, swept, tmp_path, width):
    """In a frame of that width, the page reports its own size to the page around it."""
    text = html("benchmark", list(sections(Results.of_sweep(swept))))
    report = (
        "<script>onload = () => parent.postMessage([document.documentElement.scrollWidth, document.fonts.size,"
        " document.querySelectorAll('svg').length, Math.max(...[...document.querySelectorAll('svg')].map("
        "s => s.getBoundingClientRect().right))], '*')</script>"
    )
    open_policy = re.sub(r"<meta http-equiv.*?>", "", text)
    (tmp_path / "inner.html").write_text(open_policy.replace("</body>", f"{report}</body>"))
    (tmp_path / "page.html").write_text(text)
    (tmp_path / "outer.html").write_text(
        f'<iframe src="inner.html" style="width:{width}px;height:3000px;border:0"></iframe><p id="size"></p>'
        "<script>onmessage = e => document.getElementById('size').textContent = e.data.join(' ')</script>"
    )

    def dump(name: str) -> subprocess.CompletedProcess:
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
        where = [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", f"file://{tmp_path / name}"]
        return subprocess.run([*command, *where], capture_output=True, text=True, timeout=240, check=True)

    whole = dump("page.html")
    assert "CONSOLE" not in whole.stderr and "<h2>Curves</h2>" in whole.stdout
    measured = re.search(r'<p id="size">([\d. ]+)</p>', dump("outer.html").stdout)
    assert measured, "the page sent no size"
    wide, _, pictures, right = map(float, measured[1].split())
    assert wide <= width and right <= width and pictures == text.count("<svg")


@pytest.mark.parametrize("name", ["README.md", "README_CN.md"])
def test_the_readmes_table_is_that_of_the_results_file(name):
    """A row is the mean over the robots of a mix and their seeds, the last one that of all sets."""
    root = Path(__file__).parents[1]
    results = read(root / "scripts" / "benchmarks" / "locomotion.json")
    row = r"^\| ([\w-]+|all 16|全部 16 个) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$"
    found = re.findall(row, (root / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert [mix for mix, *_ in found[:-1]] == ["medium", "medium-replay", "medium-expert", "expert"]
    for mix, data, cloned, begun, end, lowest in found:
        tasks = [task for task in results.tasks if " 16" in mix or task.partition("-")[2] == f"{mix}-v2"]
        assert len(tasks) in (4, 16)
        columns = (
            map(results.data_score, tasks),
            (of_seeds(results.runs[task, "bc"], at_switch) for task in tasks),
            (of_seeds(results.runs[task, "default"], at_switch) for task in tasks),
            (of_seeds(results.runs[task, "default"], last) for task in tasks),
        )
        assert (data, cloned, begun, end) == tuple(f"{np.mean(list(column)):.1f}" for column in columns), mix
        lowests = [of_seeds(results.runs[task, "default"], held) for task in tasks]
        assert lowest == f"{np.mean(lowests):.2f}", mix


def of_seeds(runs, measure):
    return np.mean([measure(run) for run in runs])
