"""awac beside the real gym, mujoco-py and d4rl. Runs in the environment that scripts/check_legacy.sh makes."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from awac import load_dataset, make_env
from awac.data.behaviour import shipped_policy
from awac.envs.tasks import normalized_score

pytestmark = pytest.mark.legacy
RECORDED = Path(__file__).parent / "data" / "ant_recorded.hdf5"
TINY = ["n_steps_per_episode=100", "offline_train_steps=100", "batch_size=64", "eval_episodes=1"]


@pytest.fixture(scope="module")
def d4rl():
    """d4rl's MuJoCo tasks; importing them registers `ant-expert-v2` and its siblings with gym."""
    import d4rl
    import d4rl.gym_mujoco

    return d4rl


def returns(env, policy, episodes: int) -> np.ndarray:
    """Undiscounted returns of the policy's mean action, reset seeds 0, 1, …"""
    totals = np.zeros(episodes)
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        done = False
        while not done:
            action = policy(observation, np.random.default_rng(0), deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(action)
            totals[episode] += reward
            done = terminated or truncated
    return totals


def awac(*arguments: str, cwd: Path) -> str:
    command = [sys.executable, "-m", "awac.cli", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_training_and_evaluation_run_on_the_mujoco_py_robot(tmp_path):
    out = awac(
        "train",
        "--task",
        "gym:ant-expert-v2",
        "--dataset",
        str(RECORDED),
        "--episode",
        "2",
        "--ckpt_path",
        "run",
        "--set",
        *TINY,
        cwd=tmp_path,
    )
    assert "Switch to online training" in out and "Evaluate for episode 2 total rewards is" in out
    out = awac("eval", "--ckpt_path", "run", cwd=tmp_path)
    assert "Evaluate result is" in out
    print(out)


def test_the_old_engine_stands_behind_the_gym_prefix():
    env = make_env("gym:ant-expert-v2")
    assert type(env.unwrapped.sim).__module__.startswith("mujoco_py")
    assert env.reset(seed=0)[0].shape == (111,)


def test_the_mujoco_py_robot_is_drawn():
    env = make_env("gym:ant-expert-v2", render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.shape == (500, 500, 3) and picture.std() > 20


def test_d4rl_and_our_loader_read_the_same_rows(d4rl, tmp_path, monkeypatch):
    """Without next_observations both take the next row's observation and drop rows that have none."""
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    with h5py.File(RECORDED) as file, h5py.File(tmp_path / "ant_expert-v2.hdf5", "w") as copy:
        for key in ("observations", "actions", "rewards", "terminals", "timeouts"):
            copy[key] = file[key][()]
        copy["terminals"][-1], copy["timeouts"][-1] = False, True
    ours, theirs = load_dataset("ant-expert-v2"), load_dataset("d4rl:ant-expert-v2")
    assert len(ours) == len(theirs) > 2000
    for field in dataclasses.fields(ours):
        np.testing.assert_array_equal(getattr(ours, field.name), getattr(theirs, field.name), err_msg=field.name)


def test_scores_are_d4rl_s(d4rl):
    from d4rl.infos import REF_MAX_SCORE, REF_MIN_SCORE

    for robot in ("ant", "hopper", "halfcheetah", "walker2d"):
        name, value = f"{robot}-medium-v2", 1234.5
        low, high = REF_MIN_SCORE[name], REF_MAX_SCORE[name]
        assert normalized_score(name, value) == pytest.approx(100 * (value - low) / (high - low), abs=1e-3)


@pytest.mark.parametrize("robot", ["hopper", "walker2d", "halfcheetah"])
def test_a_policy_scores_the_same_on_both_engines_seed_by_seed(robot, d4rl):
    """From the same start states; both engines stay together for whole episodes of these."""
    policy = shipped_policy(f"{robot}_medium")
    old, new = make_env(f"gym:{robot}-medium-v2"), make_env(f"{robot}-medium-v2")
    scores = []
    for seed in range(5):
        pair = []
        for env in (old, new):
            env.reset(seed=seed)
            rng = np.random.default_rng(seed)
            robot_env = env.unwrapped
            qpos = robot_env.init_qpos + rng.uniform(-0.005, 0.005, len(robot_env.init_qpos))
            robot_env.set_state(qpos, np.array(robot_env.init_qvel))
            observation = np.concatenate([qpos[1:], robot_env.init_qvel])
            total, done = 0.0, False
            while not done:
                action = policy(observation, rng, deterministic=True)
                observation, reward, terminated, truncated, _ = env.step(action)
                total, done = total + reward, terminated or truncated
            pair.append(total)
        scores.append(pair)
    print(f"\n{robot}, return on MuJoCo 2.1.0 and here:", np.round(scores, 1).tolist())
    old_scores, new_scores = np.array(scores).T
    np.testing.assert_allclose(new_scores, old_scores, rtol=0.02)


def test_the_ant_scores_the_same_on_both_engines_in_distribution(d4rl):
    """Its contacts are chaotic, so single episodes diverge; the means agree within their standard errors."""
    policy, episodes = shipped_policy("ant_medium"), 20
    old = returns(make_env("gym:ant-medium-v2"), policy, episodes)
    new = returns(make_env("ant-medium-v2"), policy, episodes)
    print(f"\nant_medium, {episodes} episodes, on MuJoCo 2.1.0 and here:")
    print(f"{old.mean():.0f} ± {old.std():.0f}, {new.mean():.0f} ± {new.std():.0f}")
    error = np.sqrt((old.var() + new.var()) / episodes)
    assert abs(old.mean() - new.mean()) < 3 * error
