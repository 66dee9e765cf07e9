"""The robots move as they did on the engine that recorded D4RL's data."""

from pathlib import Path

import numpy as np
import pytest

from awac.envs import Task, make_env, normalized_score
from awac.envs.mujoco_v2 import ROBOTS

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module", params=sorted(ROBOTS))
def replayed(request):
    """The recording of one robot beside what the robot here does with the same start states and actions."""
    with np.load(DATA / f"{request.param}.npz", allow_pickle=False) as file:
        golden = {key: file[key] for key in file}
    env = make_env(f"{request.param}-medium-v2").unwrapped
    env.reset(seed=0)
    ours = {"obs": [], "rew": [], "done": []}
    for qpos, qvel, actions in zip(golden["qpos0"], golden["qvel0"], golden["act"], strict=True):
        env.set_state(qpos, qvel)
        steps = [env.step(action) for action in actions]
        ours["obs"].append([step[0] for step in steps[: golden["obs"].shape[1]]])
        ours["rew"].append([steps[0][1]])
        ours["done"].append([step[2] for step in steps])
    return golden, {key: np.array(values) for key, values in ours.items()}


@pytest.mark.parametrize(("steps", "bound"), [(1, 1e-12), (10, 1e-10), (100, 1e-5)])
def test_observations_follow_the_recorded_engine(replayed, steps, bound):
    golden, ours = replayed
    columns = golden["obs"].shape[2]
    error = np.abs(ours["obs"][:, :steps, :columns] - golden["obs"][:, :steps]).max(axis=(1, 2))
    assert np.median(error) <= bound
    assert not ours["obs"][:, :, columns:].any()


def test_first_reward_is_the_recorded_one(replayed):
    golden, ours = replayed
    np.testing.assert_allclose(ours["rew"], golden["rew"], rtol=0, atol=1e-8)


def test_episodes_terminate_at_the_recorded_step(replayed):
    golden, ours = replayed
    first = [[int(row.argmax()) if row.any() else None for row in rows] for rows in (golden["done"], ours["done"])]
    assert first[0] == first[1]


@pytest.mark.parametrize(
    ("robot", "obs_size", "action_size"),
    [("ant", 111, 8), ("hopper", 11, 3), ("halfcheetah", 17, 6), ("walker2d", 17, 6)],
)
@pytest.mark.parametrize(("mix", "version"), [("random", "v0"), ("medium-replay", "v1"), ("full-replay", "v2")])
def test_every_mix_and_version_is_the_same_robot(robot, obs_size, action_size, mix, version):
    env = make_env(f"{robot}-{mix}-{version}")
    observation, _ = env.reset(seed=1)
    assert isinstance(env.unwrapped, ROBOTS[robot])
    assert observation.shape == (obs_size,)
    assert env.action_space.shape == (action_size,)
    assert (env.action_space.low == -1).all() and (env.action_space.high == 1).all()


def test_the_time_limit_truncates_and_does_not_terminate():
    env = make_env("halfcheetah-medium-v2")
    env.reset(seed=0)
    ends = [env.step(np.zeros(6, np.float32))[2:4] for _ in range(1000)]
    assert ends[-1] == (False, True)
    assert set(ends[:-1]) == {(False, False)}


def test_resets_depend_on_the_seed_only():
    env = make_env("ant-expert-v2")
    first, second, other = (env.reset(seed=seed)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 0.01


def test_actions_beyond_the_bounds_act_as_the_bounds():
    env = make_env("ant-expert-v2").unwrapped
    results = []
    for scale in (1.0, 5.0):
        env.reset(seed=0)
        results.append(env.step(np.full(8, scale, np.float32))[:2])
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


@pytest.mark.parametrize(
    ("task", "expected"), [("ant-random-v0", 100.0), ("ant-expert-v2", 100.0), ("Ant-v5", None), ("Pendulum-v1", None)]
)
def test_d4rls_expert_return_scores_100(task, expected):
    score = normalized_score(task, 3879.7)
    assert score == expected if expected is None else score == pytest.approx(expected)


def test_the_random_reference_scores_0():
    assert normalized_score("hopper-medium-v2", -20.272305) == pytest.approx(0.0)


def test_another_step_limit_has_no_score():
    assert normalized_score(Task.parse("ant-expert-v2", None, 50), 400.0) is None
    assert normalized_score(Task.parse("ant-expert-v2", None, 1000), 400.0) == normalized_score("ant-expert-v2", 400.0)
