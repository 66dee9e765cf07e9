"""`awac sweep`: its file, which trials are done, and real sweeps through Ray if it is installed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tiny import RECORDED, RUN

from awac import cli
from awac.config import PRESETS
from awac.errors import EXTRAS, CheckpointError, ConfigError, NoCheckpointError
from awac.runs import folder as run_folder
from awac.runs.tables import last_row
from awac.sweep import trial as trial_module
from awac.sweep.plan import Trial, describe, read_plan
from awac.sweep.progress import Progress
from awac.sweep.trial import LOG, is_done, run

BENCHMARKS = Path(__file__).parents[1] / "scripts" / "benchmarks"
LIMIT = 1500.0  # seconds; Ray's processes are slow to start on a busy machine
SMALL = {
    "tasks": {"ant-expert-v2": {"dataset": str(RECORDED)}},
    "presets": ["ant", "bc"],
    "episode": 6,
    "set": {**RUN, "actor_hidden": [16, 16], "critic_hidden": [16, 16]},
}


def write(path: Path, **changes) -> Path:
    path.write_text(yaml.safe_dump({**SMALL, **changes}))
    return path


@pytest.fixture
def plan(tmp_path):
    """Reads a plan with changes."""
    return lambda **changes: read_plan(write(tmp_path / "small.yaml", **changes))


def test_a_plan_is_the_product_of_its_axes_seed_by_seed(plan):
    trials = plan(tasks=["hopper-medium-v2", "ant-medium-v2"], seeds=2)
    assert [trial.name for trial in trials] == [
        f"{task}/{preset}/seed_{seed}"
        for seed in (0, 1)
        for task in ("hopper-medium-v2", "ant-medium-v2")
        for preset in ("ant", "bc")
    ]
    assert {(t.config.env.task, t.config.train.seed, t.config.algo.weighting) for t in trials} == {
        (task, seed, weighting)
        for task in ("hopper-medium-v2", "ant-medium-v2")
        for seed in (0, 1)
        for weighting in ("softmax", "uniform")
    }
    assert describe(trials) == "2 tasks × 2 presets × 2 seeds: 8 trials"


def test_later_settings_win(plan):
    trials = plan(
        tasks={"a": {"task": "ant-medium-v2", "lam": 2, "tau": 0.1}, "ant-expert-v2": None},
        presets={"ant": None, "other": {"preset": "paper", "lam": 3}},
        seeds=[4, 7],
        set={"lam": 1, "tau": 0.2, "gamma": 0.9},
        cells=[
            {"task": "a*", "preset": "other", "set": {"gamma": 0.8}},
            {"seed": 7, "task": "a", "set": {"episode": 9, "lam": 5}},
        ],
    )
    found = {t.name: (t.config.algo.lam, t.config.algo.tau, t.config.algo.gamma, t.episodes) for t in trials}
    assert found == {
        "a/ant/seed_4": (2, 0.1, 0.9, 6),
        "a/other/seed_4": (3, 0.1, 0.8, 6),
        "ant-expert-v2/ant/seed_4": (1, 0.2, 0.9, 6),
        "ant-expert-v2/other/seed_4": (3, 0.2, 0.8, 6),
        "a/ant/seed_7": (5, 0.1, 0.9, 9),
        "a/other/seed_7": (5, 0.1, 0.8, 9),
        "ant-expert-v2/ant/seed_7": (1, 0.2, 0.9, 6),
        "ant-expert-v2/other/seed_7": (3, 0.2, 0.8, 6),
    }
    assert trials[1].config.algo.actor_hidden == PRESETS["paper"]["actor_hidden"]
    assert trials[0].config.env.task == "ant-medium-v2"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": ["x"]}, "unknown key 'task': did you mean 'tasks'?"),
        ({"episode": 0}, "episode = 0 must be positive"),
        ({"episode": None}, "episode = None is not a valid int"),
        ({"presets": ["ant", "bcc"]}, "presets, bcc: preset 'bcc' is unknown: did you mean 'bc'?"),
        ({"presets": ["ant", "ant"]}, "presets: 'ant' is listed twice"),
        ({"presets": {"x": {"preset": 3}}}, "presets, x: preset = 3 is not a name"),
        ({"presets": {"ant": 3}}, "presets, ant: expected a mapping of keys to values, found int"),
        ({"tasks": []}, "tasks: expected a list of names"),
        ({"presets": {"": {"preset": "bc"}}}, "presets: the label '' is empty or begins with _"),
        ({"tasks": [{"a": 1}]}, "tasks: expected names; for names with settings write a mapping"),
        ({"tasks": ["a/b", "a_b"]}, "would share the folder"),
        ({"seeds": -1}, "seeds: expected a number"),
        ({"seeds": True}, "seeds: expected a number"),
        ({"seeds": [0, "x"]}, "seed = 'x' is not a valid int"),
        ({"seeds": [1, 1]}, "seeds: the same seed is listed twice"),
        ({"seeds": 60_000}, "120000 trials are more than"),
        ({"set": {"lamm": 1}}, "set: unknown key 'lamm': did you mean 'lam'?"),
        ({"set": {"lam": -1}}, "set: lam = -1.0 must be positive"),
        ({"set": {"seed": 1}}, "set: 'seed' is not a setting here; the sweep's `seeds` say it"),
        ({"set": {"offline_train_steps": 1}}, "offline_train_steps must be a multiple of n_steps_per_episode"),
        ({"cells": {"task": "a"}}, "cells: expected a list"),
        ({"cells": [{"tasks": "a"}]}, "cell 1: unknown key 'tasks': did you mean 'task'?"),
        ({"cells": [{"preset": "cb"}]}, "cell 1: no preset is called 'cb': did you mean 'bc'?"),
        ({"cells": [{"seed": 3}]}, "cell 1: seed 3 is not one of the sweep's (0)"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_its_place(tmp_path, capsys, changes, words):
    path = write(tmp_path / "small.yaml", **changes)
    assert cli.main(["sweep", str(path), "--results", str(tmp_path / "results")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"awac: error: {path}") and words in error and error.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_what_is_missing_in_the_file_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text("tasks: [ant-expert-v2]\npresets: [bc]\n")
    with pytest.raises(ConfigError, match="'episode' is missing; a sweep has tasks, presets"):
        read_plan(tmp_path / "a.yaml")


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_sweeps_are_sound(path, tmp_path, capsys):
    assert cli.main(["sweep", str(path), "--results", str(tmp_path / "results"), "--dry_run"]) == 0
    assert "0 of " in capsys.readouterr().out and not (tmp_path / "results").exists()


def test_a_misspelt_task_is_one_line(tmp_path, capsys):
    path = write(tmp_path / "small.yaml", tasks=["hoper-medium-v2"])
    assert cli.main(["sweep", str(path), "--results", str(tmp_path / "results"), "--dry_run"]) == 1
    error = capsys.readouterr().err
    assert "hopper-medium-v2" in error and error.count("\n") == 1


def test_a_missing_data_file_is_known_without_running(tmp_path, capsys):
    tasks = {**SMALL["tasks"], "broken": {"task": "ant-expert-v2", "dataset": str(tmp_path / "none.csv")}}
    path = write(tmp_path / "small.yaml", tasks=tasks, presets=["ant"])
    assert cli.main(["sweep", str(path), "--results", str(tmp_path / "results"), "--dry_run"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"failed: broken/ant/seed_0: {tmp_path}/none.csv: no such file; check the path"
    assert sum(line.startswith("failed: ") for line in lines) == 1


def test_runs_without_an_environment_are_no_sweep(tmp_path, capsys):
    path = write(tmp_path / "small.yaml", set={**SMALL["set"], "no_env": True})
    assert cli.main(["sweep", str(path), "--results", str(tmp_path / "results"), "--dry_run"]) == 1
    assert "no_env has none" in capsys.readouterr().err


def test_without_ray_one_line_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    path = write(tmp_path / "small.yaml")
    assert cli.main(["sweep", str(path), "--results", str(tmp_path / "results")]) == 1
    assert capsys.readouterr().err == f"awac: error: awac sweep needs the package ray: pip install {EXTRAS['sweep']}\n"
    assert not (tmp_path / "results").exists()


def in_a_process(trial: Trial, folder: Path) -> str:
    """Runs a trial as a worker does, in a process of its own since its output goes to the log for good."""
    code = f"""
from awac.sweep.plan import read_plan
from awac.sweep.trial import run
import sys
trial = next(t for t in read_plan(sys.argv[1]) if t.name == {trial.name!r})
open(sys.argv[3], "w").write(repr(run(trial, sys.argv[2], "/")))
"""
    result = folder.parent / "result"
    subprocess.run(
        [sys.executable, "-c", code, str(folder.parent.parent / "small.yaml"), str(folder), str(result)],
        check=True,
        timeout=300,
    )
    return result.read_text()


def test_a_trial_is_done_with_its_last_checkpoint_and_evaluation(plan, tmp_path):
    (trial,) = plan(presets=["ant"])
    folder = tmp_path / "results" / "trial"
    folder.parent.mkdir()
    assert not is_done(trial, folder)
    assert in_a_process(trial, folder) == "('done', '')"
    assert is_done(trial, folder)
    assert last_row(folder, "eval.csv")[0] == 6 and last_row(folder, "none.csv") == (0, {})
    log = (folder / LOG).read_text()
    assert "Evaluate for episode 6 total rewards is" in log
    progress = Progress([trial], tmp_path / "results", 60.0)
    progress.states[trial.name] = "done"
    assert progress.table().splitlines()[2].split() == ["ant-expert-v2", "1/1", "100%"]
    (longer,) = plan(presets=["ant"], episode=8)
    assert not is_done(longer, folder)
    (other,) = plan(presets={"ant": {"lam": 3}})
    with pytest.raises(CheckpointError, match="was trained with lam = 20.0, this command says 3.0; .* other --results"):
        is_done(other, folder)
    assert is_done(plan(presets=["ant"], episode=4)[0], folder)
    data = {"ant-expert-v2": {"dataset": "other.hdf5"}}
    for changes in ({"presets": {"ant": {"eval_episodes": 100}}}, {"presets": ["ant"], "tasks": data}):
        with pytest.raises(CheckpointError, match="was trained with (eval_episodes|dataset) = .* other --results"):
            is_done(plan(**changes)[0], folder)
    rows = (folder / "eval.csv").read_text().splitlines()
    (folder / "eval.csv").write_text("\n".join([*rows[:-1], "6,online"]))  # cut in its last row
    (trial,) = plan(presets=["ant"])
    assert not is_done(trial, folder)
    assert in_a_process(trial, folder) == "('done', '')"  # repeats the evaluation
    assert last_row(folder, "eval.csv")[0] == 6
    for path in folder.glob("manifest_*.json"):
        path.write_text("{")
    with pytest.raises(NoCheckpointError, match="none of the checkpoints in .* delete that folder"):
        is_done(trial, folder)


def test_the_table_is_redrawn_in_place_on_a_terminal(plan, tmp_path, capsys, monkeypatch):
    trials = plan(seeds=2)
    progress = Progress(trials, tmp_path, 60.0)
    (tmp_path / trials[0].name).mkdir(parents=True)
    (tmp_path / trials[0].name / "train.csv").write_text("episode,phase\n1,offline\n3,offline\n")
    progress.show(now=True)
    table = capsys.readouterr().out
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["task", "ant", "bc"],
        ["ant-expert-v2", "0/2", "25%", "0/2", "0%"],
    ]
    progress.show()
    assert capsys.readouterr().out == ""  # it is not time yet
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    progress.show(now=True)
    progress.ended(trials[1], "failed", "no such file")
    progress.ended(trials[2], "stopped", "")
    progress.show(now=True)
    out = capsys.readouterr().out
    assert out.count("\x1b[3A\x1b[J") == 1 and "\x1b[Jfailed: ant-expert-v2/bc/seed_0: no such file\n0 of 4" in out
    assert "0 of 4 trials done, 1 failed, 1 stopped" in out and out.rstrip().endswith("0/2 0% 1 failed")


def test_a_trial_that_cannot_run_says_why_in_one_line(plan, tmp_path):
    (trial,) = plan(presets=["ant"], tasks={"ant-expert-v2": {"dataset": str(tmp_path / "none.hdf5")}})
    folder = tmp_path / "results" / "trial"
    folder.parent.mkdir()
    result = in_a_process(trial, folder)
    assert result.startswith("('failed', ") and "none.hdf5" in result and "\\n" not in result
    (tmp_path / "file").write_text("")
    assert run(trial, f"{tmp_path}/file", "/") == ("failed", f"{tmp_path}/file cannot be written to (File exists)")


def test_trials_side_by_side_get_a_core_each(tmp_path, monkeypatch):
    allowed, name = os.sched_getaffinity(0), f"awac-test-{os.getpid()}"
    monkeypatch.setattr(trial_module, "CORE_NAME", name)
    code = f"import os; from awac.sweep import trial; trial.CORE_NAME = {name!r}\n"
    code += "with trial.own_core(): print(sorted(os.sched_getaffinity(0)))"
    with trial_module.own_core():
        mine = os.sched_getaffinity(0)
        os.sched_setaffinity(0, allowed)
        other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert len(mine) == 1 and os.sched_getaffinity(0) == allowed
    others = allowed - mine
    assert yaml.safe_load(other) in ([[core] for core in others] or [sorted(allowed)])


@pytest.fixture
def ray():
    return pytest.importorskip("ray")


def sweep(path: Path, *options, **how) -> subprocess.Popen:
    """The command, in a process of its own; its output is in `sweep.log` beside the file."""
    with open(path.parent / "sweep.log", "w") as log:
        command = [sys.executable, "-m", "awac.cli", "sweep", str(path), "--results", str(path.parent / "results")]
        options = ("--workers", "2", "--every", "2", *options)
        return subprocess.Popen([*command, *options], stdout=log, stderr=log, **how)


def ignore_sigint() -> None:
    """What a shell does for a script's background jobs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def wait(condition, seconds: float = LIMIT):
    """Waits until `condition()` is true, and returns what it gave."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "timed out"
        time.sleep(0.2)
    return found


def test_a_failed_trial_does_not_stop_the_others(ray, tmp_path):
    tasks = {**SMALL["tasks"], "broken": {"task": "ant-expert-v2", "dataset": str(tmp_path / "none.hdf5")}}
    path = write(tmp_path / "small.yaml", tasks=tasks, presets=["ant"])
    assert sweep(path).wait(LIMIT) == 1
    log = (tmp_path / "sweep.log").read_text()
    assert "done: ant-expert-v2/ant/seed_0: last return" in log
    assert log.splitlines()[-1].startswith("failed: broken/ant/seed_0: ") and "none.hdf5" in log.splitlines()[-1]
    assert "Traceback" not in log
    log_of_trial = tmp_path / "results" / "ant-expert-v2" / "ant" / "seed_0" / LOG
    assert re.search("Learner: (native, 1 thread\n|graph)", log_of_trial.read_text())
    before = log_of_trial.read_text()
    path = write(tmp_path / "small.yaml", presets=["ant"])
    assert sweep(path).wait(LIMIT) == 0
    assert "1 of 1 trials done" in (tmp_path / "sweep.log").read_text()
    assert log_of_trial.read_text() == before  # what is done is not run again
    for manifest in log_of_trial.parent.glob("manifest_*.json"):
        manifest.write_text("{")
    path = write(tmp_path / "small.yaml", presets=["ant", "bc"])
    assert sweep(path).wait(LIMIT) == 1
    log = (tmp_path / "sweep.log").read_text()
    assert "done: ant-expert-v2/bc/seed_0: last return" in log
    assert log.splitlines()[-1].startswith("failed: ant-expert-v2/ant/seed_0: none of the checkpoints in ")
    assert cli.main(["report", str(tmp_path / "results")]) == 0
    assert (
        "Without an evaluation or a sound checkpoint: ant-expert-v2/ant/seed_0."
        in (tmp_path / "results/report.md").read_text()
    )


def test_trials_go_on_after_a_killed_worker_and_after_a_signal(ray, tmp_path):
    plan = {"episode": 1_000_000, "presets": {"ant": None, "other": {"preset": "ant", "lam": 3}}}
    plan["set"] = {**SMALL["set"], "eval_every": 100}
    path = write(tmp_path / "small.yaml", **plan)
    folder = tmp_path / "results" / "ant-expert-v2"
    process = sweep(path, preexec_fn=ignore_sigint)
    saved = wait(lambda: [p.parent for p in folder.glob("*/seed_0/manifest_*.json")])[0]
    first = max(run_folder.episodes(saved))
    os.kill(int((saved / "run.lock").read_text()), signal.SIGKILL)
    wait(lambda: (saved / LOG).read_text().count("ready in") == 2)
    wait(lambda: run_folder.episodes(saved) and max(run_folder.episodes(saved)) > first)
    os.kill(int((saved / "run.lock").read_text()), signal.SIGTERM)  # as of a machine that is taken away
    wait(lambda: (saved / LOG).read_text().count("Resume after") == 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT) == 143
    log = (tmp_path / "sweep.log").read_text()
    assert log.splitlines()[-1] == (
        "awac: stopped by SIGTERM: all trials are kept as they were; the same command continues them"
    )
    assert "awac: stopped; " in (saved / LOG).read_text()
    newest = [max(run_folder.episodes(path)) for path in folder.glob("*/seed_0")]
    last = max(newest) + 20
    path = write(tmp_path / "small.yaml", **{**plan, "episode": last})
    assert sweep(path).wait(LIMIT) == 0
    assert "2 of 2 trials done" in (tmp_path / "sweep.log").read_text()
    for table in folder.glob("*/seed_0/train.csv"):
        rows = table.read_text().splitlines()[1:]
        assert [int(row.split(",")[0]) for row in rows] == list(range(1, last + 1))
    resumed = [int(number) for number in re.findall("Resume after episode (\\d+)", (saved / LOG).read_text())]
    assert len(resumed) == 3 and first <= resumed[0] < resumed[1] <= resumed[2] < last  # after each of the three
