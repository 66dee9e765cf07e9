"""Tasks with discrete actions through `awac train`: real short runs, and clear errors for what is not supported."""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from tiny import settings

from awac import cli
from awac.data.behaviour import BehaviourPolicy
from awac.envs import make_env
from awac.errors import TaskError

NUMBER = r"-?\d+\.\d{3}"
EPISODES = ["--episode", "6", "--ckpt_path", "ckpt"]


def record(task: str, path: Path, rows: int = 300, integers=np.int64) -> Path:
    """A data set of a random policy."""
    env, rng = gymnasium.make(task), np.random.default_rng(0)
    columns: dict[str, list] = {
        key: [] for key in ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
    }
    observation, _ = env.reset(seed=0)
    for _ in range(rows):
        action = rng.integers(env.action_space.n)
        following, reward, terminated, truncated, _ = env.step(action)
        for values, value in zip(
            columns.values(), (observation, action, reward, terminated, truncated, following), strict=True
        ):
            values.append(value)
        observation = env.reset()[0] if terminated or truncated else following
    columns["actions"] = np.asarray(columns["actions"], integers)
    np.savez(path, **columns)
    return path


def fails(capsys, *arguments) -> str:
    """The one line on stderr of a command that does not work."""
    assert cli.main(["train", *arguments]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("awac: error: ") and err.count("\n") == 1, err
    return err


def test_a_run_on_cartpole_has_the_log_the_tables_and_the_checkpoints(tmp_path):
    data = record("CartPole-v1", tmp_path / "cartpole.npz")
    source = str(Path(__file__).parents[1] / "src")
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "awac.cli",
            "train",
            "--task",
            "CartPole-v1",
            "--dataset",
            str(data),
            *EPISODES,
            *settings(),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (run.returncode, run.stderr) == (0, "")
    log = run.stdout
    assert re.match(r"Data set \S+cartpole.npz: 300 rows, \d+ episodes, mean return \d+\.\d ", log)
    losses = rf"Episode (\d+): critic_loss is {NUMBER}, actor_loss is {NUMBER}, mean_std is {NUMBER}, per_step_time "
    assert re.findall(losses, log) == ["0", "2", "4", "6"]
    scores = re.findall(r"Evaluate for episode (\d+) total rewards is (\d+\.\d{3})", log)
    assert [int(episode) for episode, _ in scores] == [2, 3, 4, 6]
    assert all(8 <= float(score) <= 500 for _, score in scores)
    assert "Task CartPole-v1: observations 4 (used: 4), actions 2" in log
    assert log.index("Switch to online training") < log.index("Episode 4:")
    for name in ("policy/policy_6", "value_net_1/model_1_6", "value_net_2/model_2_6"):
        assert (tmp_path / "ckpt" / f"{name}.ckpt").is_file()
    assert (tmp_path / "ckpt" / "train.csv").is_file() and (tmp_path / "ckpt" / "eval.csv").is_file()


def test_an_epsilon_greedy_policy_takes_uniform_actions_with_probability_epsilon():
    values = np.float32([0.0, 3.0, 1.0])
    policy = BehaviourPolicy("net", ((np.zeros((2, 3), np.float32), values),), epsilon=0.6)
    rng = np.random.default_rng(0)
    samples = [policy.sample(np.zeros(2), rng) for _ in range(3000)]
    actions = np.array([action for action, _ in samples])
    chances = np.array([0.2, 0.6, 0.2])
    np.testing.assert_allclose(np.bincount(actions) / len(actions), chances, atol=0.03)
    np.testing.assert_allclose([log_prob for _, log_prob in samples], np.log(chances)[actions], rtol=1e-6)
    assert {policy(np.zeros(2), rng, deterministic=True) for _ in range(20)} == {1}


def test_the_cartpole_preset_needs_nothing_else(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWAC_CACHE_DIR", str(tmp_path))
    short = ["n_steps_per_episode=50", "offline_train_steps=100", "log_every=1", "eval_every=2", "eval_episodes=2"]
    command = ["--preset", "cartpole", "--episode", "4", "--ckpt_path", "ckpt", "--set", *short]
    assert cli.main(["train", *command]) == 0
    log = capsys.readouterr().out
    assert re.match(r"Data set CartPole-v1: \d+ rows, 50 episodes, .*the shipped behaviour policy cartpole_dqn", log)
    assert "Warning" not in log and "Data warning" not in log
    assert re.findall(rf"Episode (\d+): critic_loss is {NUMBER}, actor_loss is", log) == ["0", "1", "2", "3", "4"]
    assert "Switch to online training after 100 offline steps" in log
    scores = re.findall(r"Evaluate for episode (\d+) total rewards is (\S+)", log)
    with open("ckpt/eval.csv", newline="") as file:
        rows = [(row["episode"], f"{float(row['mean_return']):.3f}", row["phase"]) for row in csv.DictReader(file)]
    assert rows == [(*scores[0], "offline"), (*scores[1], "online")]
    with open("ckpt/train.csv", newline="") as file:
        assert [row["env_steps"] for row in csv.DictReader(file)] == ["0", "0", "50", "100"]
    assert Path("ckpt/policy/policy_4.ckpt").is_file()
    assert cli.main(["eval", "--ckpt_path", "ckpt"]) == 0
    assert f"Evaluate result is {scores[-1][1]}, checkpoint file in ./ckpt/" in capsys.readouterr().out


def test_the_doctor_finds_nothing_amiss_in_cartpoles_data(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AWAC_CACHE_DIR", str(tmp_path))
    assert cli.main(["doctor", "CartPole-v1"]) == 0
    report = capsys.readouterr().out
    assert "0 warn, 0 fail" in report and "ok   task          CartPole-v1: 4 observations" in report


def test_a_checkpoint_of_a_discrete_policy_is_evaluated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = record("Acrobot-v1", tmp_path / "acrobot.npz")
    short = settings(offline_train_steps=20, steps_per_call=20)
    command = ["--task", "Acrobot-v1", "--dataset", str(data), "--ckpt_path", "ckpt", "--episode", "2", *short]
    assert cli.main(["train", *command]) == 0
    score = re.search(r"Evaluate for episode 2 total rewards is (\S+)", capsys.readouterr().out)
    assert cli.main(["eval", "--ckpt_path", "ckpt"]) == 0
    assert f"Evaluate result is {score[1]}, checkpoint file in ./ckpt/" in capsys.readouterr().out


def test_lunar_lander_names_the_package_it_needs(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    if importlib.util.find_spec("Box2D"):
        env = make_env("LunarLander-v3")
        assert env.action_space.n == 4
        env.close()
        return
    data = record("CartPole-v1", tmp_path / "cartpole.npz", 50)
    error = fails(capsys, "--task", "LunarLander-v3", "--dataset", str(data), *EPISODES)
    assert "LunarLander-v3" in error and "Box2D" in error and "pip install" in error


class Spaces(gymnasium.Env):
    """An environment that has only spaces."""

    def __init__(self, observation_space=None, action_space=None, render_mode=None):
        self.observation_space = observation_space or spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = action_space or spaces.Discrete(2)
        self.render_mode = render_mode


@pytest.mark.parametrize(
    "options, words",
    [
        ({"action_space": spaces.MultiDiscrete([2, 3])}, "acts in MultiDiscrete"),
        ({"action_space": spaces.MultiBinary(3)}, "acts in MultiBinary"),
        ({"action_space": spaces.Dict(a=spaces.Discrete(2))}, "acts in Dict"),
        ({"action_space": spaces.Tuple([spaces.Discrete(2)])}, "acts in Tuple"),
        ({"observation_space": spaces.Discrete(16)}, "observes Discrete"),
        ({"observation_space": spaces.Box(0, 255, (8, 8, 3), np.uint8)}, r"observes Box of shape \(8, 8, 3\)"),
    ],
)
def test_spaces_that_are_not_supported_are_named(options, words):
    gymnasium.register("Spaces-v0", entry_point=Spaces, kwargs=options)
    try:
        with pytest.raises(TaskError, match=f"task 'Spaces-v0' .*{words}.*supported") as caught:
            make_env("Spaces-v0")
        assert "\n" not in str(caught.value)
    finally:
        gymnasium.registry.pop("Spaces-v0")


@pytest.mark.parametrize(
    "source, integers, words",
    [
        ("Acrobot-v1", np.int64, "observations have 6 values but those of the task CartPole-v1 4"),
        ("MountainCar-v0", np.int32, "observations have 2 values"),
    ],
)
def test_a_data_set_of_another_task(monkeypatch, capsys, tmp_path, source, integers, words):
    monkeypatch.chdir(tmp_path)
    data = record(source, tmp_path / "data.npz", 50, integers)
    assert words in fails(capsys, "--task", "CartPole-v1", "--dataset", str(data), *EPISODES)


def test_an_action_that_the_task_does_not_have(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    data = record("CartPole-v1", tmp_path / "data.npz", 50)
    with np.load(data) as columns:
        columns = dict(columns)
    columns["actions"][7] = 2
    np.savez(data, **columns)
    assert "action 2 in row 7 is not one of the task's 0..1" in fails(
        capsys, "--task", "CartPole-v1", "--dataset", str(data), *EPISODES
    )


def test_a_task_without_a_data_set_says_what_to_give(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    error = fails(capsys, "--task", "Acrobot-v1", *EPISODES)
    assert "task 'Acrobot-v1' has no data set of its own; give one with --dataset" in error
    assert "unknown task 'CartPol-v1'; the nearest known one is 'CartPole-v" in fails(capsys, "--task", "CartPol-v1")
