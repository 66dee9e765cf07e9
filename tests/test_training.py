"""Short real runs of the command and the scripts: the log, the tables, evaluation, interruption and resumption."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
from tiny import RECORDED, settings

import awac
from awac import cli
from awac.errors import ConfigError
from awac.training.callbacks import EVAL_COLUMNS, TRAIN_COLUMNS

ROOT = Path(__file__).resolve().parents[1]
EPISODES = 6
# 20 online rows an episode into a ring of 30: it wraps before the run ends, and one save deletes evicted rows.
SETTINGS = settings(online_capacity=30, max_checkpoints=2)
TRAIN = ["train", "--dataset", str(RECORDED), "--ckpt_path", "ckpt", *SETTINGS]
NUMBER = r"-?\d+\.\d{3}"
LOSSES = (
    rf"Episode (\d+): critic_loss is {NUMBER}, actor_loss is {NUMBER}, mean_std is {NUMBER}, per_step_time {NUMBER} ms"
)
RULE = "-" * 41


def environment():
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "VIRTUAL_ENV": sys.prefix}


def start(cwd, *arguments):
    """A run of the command in a process of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "awac.cli", *arguments], cwd=cwd, env=environment(), **pipes)


def run(cwd, *arguments) -> str:
    """The command's stdout; it must end well and say nothing on stderr."""
    process = start(cwd, *arguments)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, ""), out
    return out


def in_process(folder, monkeypatch, *arguments):
    """The command's exit code, run in this process."""
    monkeypatch.chdir(folder)
    return cli.main([*arguments])


def has_the_pins():
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    try:  # some packages have one pin for Python 3.12 and one for older ones
        names = ("mindspore", "mindspore-rl", "numpy", "gymnasium", "mujoco", "h5py")
        return all((name, version(name)) in pins for name in names)
    except PackageNotFoundError:
        return False


def script(cwd, name, *arguments) -> str:
    """The log that one of the scripts leaves in `cwd`."""
    if not has_the_pins():
        pytest.skip("the scripts would set up an environment of their own: this one has other versions")
    command = ["bash", str(ROOT / "scripts" / f"run_standalone_{name}.sh"), *arguments]
    result = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    return (cwd / f"awac_{name}_log.txt").read_text()


def table(folder, name, drop=()):
    """Rows of a CSV without some columns."""
    with open(folder / "ckpt" / f"{name}.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key not in drop} for row in csv.DictReader(file)]


def figures(folder):
    """Everything in the tables that must not depend on when a run was stopped."""
    return table(folder, "train", ["per_step_time_ms"]), table(folder, "eval")


def final_files(folder):
    """Bytes of the last checkpoint: networks, training state and manifest, by name."""
    files = sorted((folder / "ckpt").rglob(f"*_{EPISODES}.*"))
    assert len(files) == 5
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def assert_equal_runs(one, other):
    assert figures(one) == figures(other)
    ours, theirs = final_files(one), final_files(other)
    assert [name for name in ours if ours[name] != theirs.get(name)] == []


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that was never stopped: three episodes offline, three online."""
    folder = tmp_path_factory.mktemp("straight")
    folder.joinpath("log.txt").write_text(run(folder, *TRAIN, "--episode", str(EPISODES)))
    return folder


@pytest.fixture(scope="module")
def log(straight):
    return (straight / "log.txt").read_text().splitlines()


class TestLog:
    def test_losses_are_logged_at_0_and_every_tenth_of_the_schedule(self, log):
        episodes = [int(match[1]) for line in log if (match := re.fullmatch(LOSSES, line))]
        assert episodes == [0, 2, 4, 6]
        assert sum(line.startswith("Episode ") for line in log) == 4

    def test_evaluations_stand_between_rules(self, log):
        found = {}
        for before, line, after in zip(log, log[1:], log[2:], strict=False):
            if match := re.fullmatch(rf"Evaluate for episode (\d+) total rewards is ({NUMBER})", line):
                assert before == after == RULE
                found[int(match[1])] = float(match[2])
        assert list(found) == [2, 3, 4, 6], "every second one, and the switch"
        assert sum("Evaluate for" in line for line in log) == 4

    def test_the_log_opens_with_the_origin_of_the_data(self, log):
        assert log[0].startswith(f"Data set {RECORDED}: 2514 rows, 12 episodes, mean return ")
        assert re.search(r"observations 111 \(used: 27\), actions 8, seed 0, device CPU", log[2])

    def test_the_switch_is_announced_once(self, log):
        switches = [line for line in log if line.startswith("Switch")]
        assert switches == ["Switch to online training after 60 offline steps"]

    def test_the_normalised_score_has_a_line_of_its_own(self, log):
        assert sum(bool(re.fullmatch(r"Normalised score is -?\d+\.\d\d", line)) for line in log) == 4

    def test_the_weights_and_what_explains_the_losses_have_lines(self, log):
        assert "Weights: exp, λ = 0.4 TD errors, at least 0.3, at most 10" in log
        detail = rf"    (offline|online): q_mean -?\d+\.\d\d, advantage {NUMBER}, ESS/B {NUMBER}, env steps (\d+)"
        found = [match.groups() for line in log if (match := re.match(detail, line))]
        assert found == [("offline", "0"), ("online", "20"), ("online", "60")]
        spread = r"    1 episode: \d+\.\d ± 0\.0, lowest \d+\.\d, terminated early \d+%"
        assert sum(bool(re.fullmatch(spread, line)) for line in log) == 4

    def test_it_is_plain_text(self, straight):
        text = (straight / "log.txt").read_text()
        assert text.endswith("\n") and not set(text) & {"\r", "\x1b", "\b"}

    def test_it_gives_the_figures_of_the_tables(self, straight, log):
        train, evaluations = figures(straight)
        for row in train[1::2]:
            wanted = rf"Episode {row['episode']}: critic_loss is {float(row['critic_loss']):.3f},"
            assert sum(line.startswith(wanted) for line in log) == 1
        for row in evaluations:
            shown = next(line for line in log if line.startswith(f"Evaluate for episode {row['episode']} "))
            assert float(shown.split()[-1]) == pytest.approx(float(row["mean_return"]), rel=1e-5)


def test_the_tables_have_a_row_for_each_episode_and_evaluation(straight):
    train, evaluations = table(straight, "train"), table(straight, "eval")
    assert tuple(train[0]) == TRAIN_COLUMNS and tuple(evaluations[0]) == EVAL_COLUMNS
    assert [int(row["episode"]) for row in train] == [1, 2, 3, 4, 5, 6]
    assert [row["phase"] for row in train] == ["offline"] * 3 + ["online"] * 3
    assert [int(row["gradient_steps"]) for row in train] == [20, 40, 60, 80, 100, 120]
    assert [int(row["env_steps"]) for row in train] == [0, 0, 0, 20, 40, 60]
    assert [(int(row["episode"]), row["phase"]) for row in evaluations] == [
        (2, "offline"),
        (3, "offline"),
        (4, "online"),
        (6, "online"),
    ]


def test_a_run_leaves_its_last_checkpoints_and_no_temporary_files(straight):
    folder = straight / "ckpt"
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    networks = ["policy/policy_{}.ckpt", "value_net_1/model_1_{}.ckpt", "value_net_2/model_2_{}.ckpt"]
    kept = [p.format(n) for p in (*networks, "train_state/state_{}.npz", "manifest_{}.json") for n in (5, 6)]
    # Checkpoint 5 still needs rows 10 to 40 of the ring.
    rows = ["replay/rows_0_20.npy", "replay/rows_20_40.npy", "replay/rows_40_60.npy"]
    assert names == sorted(
        [*kept, *rows, "awac_run.json", "eval.csv", "train.csv", "train_state/eval.csv", "train_state/train.csv"]
    )


@pytest.fixture(scope="module")
def by_script(tmp_path_factory):
    """The same run through the script."""
    folder = tmp_path_factory.mktemp("scripts")
    script(folder, "train", str(EPISODES), "CPU", "--dataset", str(RECORDED), *SETTINGS)
    return folder


class TestScripts:
    """The real scripts; test_scripts.py tests the rest of them with a stub."""

    def test_training_writes_the_lines_that_users_know(self, by_script):
        log = (by_script / "awac_train_log.txt").read_text()
        assert re.findall(rf"(?m)^{LOSSES}$", log) == ["0", "2", "4", "6"]
        assert len(re.findall(rf"(?m)^{RULE}\nEvaluate for episode [246] total rewards is {NUMBER}\n{RULE}$", log)) == 3

    def test_the_same_seed_gives_the_same_run(self, by_script, straight):
        assert_equal_runs(by_script, straight)

    def test_evaluation_writes_the_lines_that_users_know(self, by_script):
        written = script(by_script, "eval", "./ckpt")
        assert re.search(
            "(?m)^Load file  ./ckpt//policy/policy_6.ckpt\n"
            "Load file  ./ckpt//value_net_1/model_1_6.ckpt\n"
            "Load file  ./ckpt//value_net_2/model_2_6.ckpt\n"
            rf"{RULE}\nEvaluate result is {NUMBER}, checkpoint file in ./ckpt/\n{RULE}\n"
            r"Normalised score is -?\d+\.\d\d\n",
            written,
        )
        assert written.endswith("\neval end\n")


class TestEvaluation:
    def result(self, text):
        return re.search(rf"(?m)^Evaluate result is ({NUMBER}), checkpoint file in ", text)[1]

    def test_it_is_the_same_every_time_and_the_same_as_while_training(self, straight, log, capfd, monkeypatch):
        before = sorted((straight / "ckpt").rglob("*"))
        first = run(straight, "eval", "--ckpt_path", "ckpt")
        for _ in range(2):
            assert in_process(straight, monkeypatch, "eval", "--ckpt_path", "ckpt") == 0
            assert capfd.readouterr().out == first
        assert f"Evaluate for episode 6 total rewards is {self.result(first)}" in log
        assert sorted((straight / "ckpt").rglob("*")) == before

    @pytest.fixture
    def evaluate(self, straight, capfd):
        def call(*arguments):
            assert cli.main(["eval", "--ckpt_path", str(straight / "ckpt"), *arguments]) == 0
            return capfd.readouterr().out

        return call

    def test_a_seed_chooses_the_episodes(self, evaluate):
        one, same, other = (self.result(evaluate("--seed", seed)) for seed in "112")
        assert one == same != other

    def test_a_certain_checkpoint_can_be_evaluated(self, evaluate):
        earlier = evaluate("--episode", "5")
        assert "policy/policy_5.ckpt" in earlier
        assert self.result(earlier) != self.result(evaluate())

    def test_the_number_of_episodes_can_be_chosen(self, evaluate):
        assert "    3 episodes: " in evaluate("--eval_episodes", "3")

    def test_sampled_actions_are_drawn_alike_each_time_and_named(self, evaluate):
        mode, one, same = evaluate(), evaluate("--stochastic"), evaluate("--stochastic")
        assert self.result(one) == self.result(same) != self.result(mode)
        assert "1 episode, actions sampled: " in one and "sampled" not in mode

    @pytest.mark.parametrize("wrong", [{"eval_episodes": -1}, {"eval_episodes": 2.5}, {"seed": -1}, {"seed": 1.5}])
    def test_numbers_that_make_no_sense_are_refused(self, straight, wrong):
        with pytest.raises(ConfigError, match=f"evaluate: {next(iter(wrong))} = "):
            awac.evaluate(str(straight / "ckpt"), **wrong)

    def test_actions_of_another_unit_are_refused(self, straight, tmp_path, capfd):
        shutil.copytree(straight / "ckpt", tmp_path / "ckpt")
        for path in (tmp_path / "ckpt").glob("manifest_*.json"):
            manifest = json.loads(path.read_text())
            manifest["action_bounds"] = [[-2.0] * 8, [2.0] * 8]
            path.write_text(json.dumps(manifest))
        assert cli.main(["eval", "--ckpt_path", str(tmp_path / "ckpt")]) == 1
        assert "ckpt was trained on actions from [-2.0, " in capfd.readouterr().err

    def test_a_damaged_newest_checkpoint_is_skipped_with_a_line(self, straight, tmp_path, capfd):
        shutil.copytree(straight / "ckpt", tmp_path / "ckpt")
        with open(tmp_path / "ckpt" / "policy" / "policy_6.ckpt", "r+b") as file:
            file.truncate(100)
        assert cli.main(["eval", "--ckpt_path", str(tmp_path / "ckpt")]) == 0
        out = capfd.readouterr().out
        assert out.startswith("Skip checkpoint 6: policy/policy_6.ckpt is damaged\n") and "policy_5.ckpt" in out


class TestResume:
    def test_a_run_in_two_parts_equals_one_that_never_stopped(self, straight, tmp_path):
        """The second part crosses the switch."""
        run(tmp_path, *TRAIN, "--episode", "2")
        out = run(tmp_path, *TRAIN, "--episode", str(EPISODES), "--resume")
        assert "Resume after episode 2\n" in out and "Episode 0:" not in out
        assert_equal_runs(tmp_path, straight)

    def test_a_run_killed_at_any_moment_goes_on_exactly(self, straight, tmp_path):
        """Killed offline, then resumed and killed online, while episode 3 or 6 is under way or being saved."""
        for rows, flags in ((2, []), (5, ["--resume"])):
            process = start(tmp_path, *TRAIN, "--episode", str(EPISODES), *flags)
            written = tmp_path / "ckpt" / "train.csv"
            deadline = time.monotonic() + 60
            while not written.exists() or written.read_bytes().count(b"\n") < 1 + rows:
                assert process.poll() is None and time.monotonic() < deadline, process.communicate()
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            (tmp_path / "ckpt" / "policy" / ".policy_6.tmp.ckpt").write_bytes(b"cut short")
        run(tmp_path, *TRAIN, "--episode", str(EPISODES), "--resume")
        assert_equal_runs(tmp_path, straight)

    def test_a_finished_run_has_nothing_left_to_do(self, straight, tmp_path, monkeypatch, capfd):
        shutil.copytree(straight / "ckpt", tmp_path / "ckpt")
        assert in_process(tmp_path, monkeypatch, *TRAIN, "--episode", str(EPISODES), "--resume") == 0
        assert_equal_runs(tmp_path, straight)


def test_another_seed_gives_another_run(straight, tmp_path, monkeypatch, capfd):
    assert in_process(tmp_path, monkeypatch, *TRAIN, "--episode", "2", "--seed", "1") == 0
    ours, theirs = figures(tmp_path)[0], figures(straight)[0][:2]
    assert all(one["critic_loss"] != other["critic_loss"] for one, other in zip(ours, theirs, strict=True))


def test_overwrite_starts_afresh(straight, tmp_path, monkeypatch, capfd):
    shutil.copytree(straight / "ckpt", tmp_path / "ckpt")
    assert in_process(tmp_path, monkeypatch, *TRAIN, "--episode", "2", "--overwrite") == 0
    assert figures(tmp_path)[0] == figures(straight)[0][:2]
    assert sorted(path.name for path in (tmp_path / "ckpt").glob("manifest_*")) == [
        "manifest_1.json",
        "manifest_2.json",
    ]
    assert not (tmp_path / "ckpt" / "replay").exists()


@pytest.fixture
def recorded(tmp_path):
    """Returns recorded(task), a data set of 300 random transitions of a small task."""

    def record(task):
        from awac import make_env

        env = make_env(task)
        env.action_space.seed(0)
        names = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
        columns = {name: [] for name in names}
        observation = env.reset(seed=0)[0]
        for _ in range(300):
            action = env.action_space.sample()
            following, reward, terminated, truncated, _ = env.step(action)
            row = (observation, action, reward, terminated, truncated, following)
            for values, value in zip(columns.values(), row, strict=True):
                values.append(value)
            observation = env.reset()[0] if terminated or truncated else following
        np.savez(tmp_path / "data.npz", **columns)
        return str(tmp_path / "data.npz")

    return record


@pytest.mark.parametrize("task, size, steps", [("Pendulum-v1", 3, 250), ("CartPole-v1", 4, 100)])
def test_only_what_ended_for_good_is_stored_as_terminated(recorded, tmp_path, monkeypatch, capfd, task, size, steps):
    """Pendulum is only ever cut by its time limit, here after 200 steps; CartPole falls long before its own."""
    changes = {"n_steps_per_episode": steps, "steps_per_call": 50, "offline_train_steps": 0, "eval_every": 2}
    data = recorded(task)
    arguments = ["train", "--task", task, "--dataset", data, "--ckpt_path", "ckpt", "--episode", "1"]
    assert in_process(tmp_path, monkeypatch, *arguments, *settings(**changes)) == 0
    rows = np.load(tmp_path / "ckpt" / "replay" / f"rows_0_{steps}.npy")
    terminated = rows[:, -1].astype(bool)
    restarts = (rows[1:, :size] != rows[:-1, size : 2 * size]).any(axis=1)
    if task == "Pendulum-v1":
        assert not terminated.any()
        assert np.flatnonzero(restarts).tolist() == [199]
    else:
        assert terminated.sum() >= 2
        np.testing.assert_array_equal(restarts, terminated[:-1])
    assert "Switch to online training after 0 offline steps" in capfd.readouterr().out
    assert cli.main(["eval", "--ckpt_path", "ckpt"]) == 0
    assert "Evaluate result is" in capfd.readouterr().out


def test_returns_that_decide_on_optimism_are_resumed(tmp_path):
    """Environment episodes of seven steps, so that many of them end."""
    options = ["train", "--dataset", str(RECORDED), *settings(max_episode_steps=7)]
    run(tmp_path, *options, "--ckpt_path", "straight", "--episode", "6")
    run(tmp_path, *options, "--ckpt_path", "twice", "--episode", "5")
    run(tmp_path, *options, "--ckpt_path", "twice", "--episode", "6", "--resume")
    states = [np.load(tmp_path / name / "train_state/state_6.npz") for name in ("straight", "twice")]
    assert 0 < states[0]["optimism/kinds"].sum() < len(states[0]["optimism/kinds"])
    assert set(states[0]) == set(states[1])
    for key in states[0]:
        np.testing.assert_array_equal(states[1][key], states[0][key], err_msg=key)
