"""`make_env` gives every supported task the same face and says why it refuses the rest."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from awac.envs import D4RLTask, make_env, parse_d4rl_id
from awac.errors import TaskError


class Toy(gymnasium.Env):
    """Ends at once and remembers the action; the spaces are given."""

    def __init__(self, observation_space, action_space, render_mode=None):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, True, False, {"action": action}


VECTOR = spaces.Box(-1, 1, (3,))


@pytest.fixture
def register():
    """Registers a toy task for the time of one test."""
    names = []

    def add(observation_space, action_space):
        names.append(f"AwacToy{len(names)}-v0")
        spaces_ = {"observation_space": observation_space, "action_space": action_space}
        gymnasium.register(names[-1], entry_point=Toy, kwargs=spaces_)
        return names[-1]

    yield add
    for name in names:
        del gymnasium.registry[name]


@pytest.mark.parametrize("task", ["Ant-v5", "Pendulum-v1", "MountainCarContinuous-v0"])
def test_continuous_tasks_act_in_plus_minus_one(task):
    env = make_env(task)
    assert (env.action_space.low == -1).all() and (env.action_space.high == 1).all()
    observation, _ = env.reset(seed=0)
    assert observation.shape == env.observation_space.shape
    env.step(env.action_space.sample())


def test_actions_are_scaled_to_the_tasks_own_bounds(register):
    env = make_env(register(VECTOR, spaces.Box(np.float32([0, -4]), np.float32([2, 4]))))
    env.reset(seed=0)
    np.testing.assert_allclose(env.step(np.float32([-1, 0.5]))[4]["action"], [0.0, 2.0])


def test_discrete_tasks_stay_as_they_are():
    env = make_env("CartPole-v1")
    assert isinstance(env.action_space, spaces.Discrete) and env.action_space.n == 2


@pytest.mark.parametrize(
    ("observed", "acted", "words"),
    [
        (spaces.Discrete(4), VECTOR, "observes Discrete"),
        (spaces.Dict({"a": VECTOR}), VECTOR, "observes Dict"),
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), VECTOR, "observes Box of shape"),
        (VECTOR, spaces.MultiDiscrete([2, 2]), "acts in MultiDiscrete"),
        (VECTOR, spaces.Box(-np.inf, np.inf, (2,)), "without bounds"),
        (VECTOR, spaces.Box(-1, 1, (2, 2)), "acts in Box of shape"),
        (VECTOR, spaces.Discrete(3, start=1), "from 1 on"),
    ],
)
def test_other_spaces_are_refused_by_name(register, observed, acted, words):
    with pytest.raises(TaskError, match=words):
        make_env(register(observed, acted))


@pytest.mark.parametrize(
    ("task", "near"),
    [
        ("ant-exprt-v2", "ant-expert-v2"),
        ("ant-expert-v3", "ant-expert-v"),
        ("pendulum-v1", "Pendulum-v1"),
        ("Pendulum-v9", "Pendulum-v1"),
        ("not an id", ""),
    ],
)
def test_an_unknown_task_is_one_line_with_the_nearest_name(task, near):
    with pytest.raises(TaskError) as error:
        make_env(task)
    assert f"unknown task '{task}'; the nearest known one is '{near}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("task", ["gym:CartPole-v1", "gym:Pendulum-v1"])
def test_old_gym_tasks_speak_the_new_api(task):
    pytest.importorskip("gym")
    env = make_env(task)
    first, _ = env.reset(seed=5)
    again, _ = env.reset(seed=5)
    np.testing.assert_array_equal(first, again)
    steps = 0
    while True:
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
        steps += 1
        if terminated or truncated:
            break
    assert steps <= 500
    assert truncated == (task == "gym:Pendulum-v1")


def test_a_task_that_only_old_gym_knows_is_found_without_a_prefix():
    gym = pytest.importorskip("gym")
    gym.register("AwacOldToy-v0", entry_point="gym.envs.classic_control:CartPoleEnv", max_episode_steps=3)
    try:
        env = make_env("AwacOldToy-v0")
        env.reset(seed=0)
        ends = [env.step(0)[2:4] for _ in range(3)]
    finally:
        del gym.envs.registry["AwacOldToy-v0"]
    assert ends[-1] == (False, True)


class FourTuples:
    """An env of the gym API up to 0.25."""

    observation_space, action_space = VECTOR, spaces.Discrete(2)

    def __init__(self):
        self.seeds = []

    @property
    def unwrapped(self):
        return self

    def seed(self, seed):
        self.seeds.append(seed)

    def reset(self):
        return np.zeros(3)

    def step(self, action):
        return np.zeros(3), 1, True, {"TimeLimit.truncated": bool(action)}


@pytest.mark.parametrize(("action", "ends"), [(0, (True, False)), (1, (False, True))])
def test_four_tuples_of_the_oldest_gym_split_into_terminated_and_truncated(action, ends):
    from awac.envs.old_gym import OldGymEnv

    old = FourTuples()
    env = OldGymEnv(old)
    env.reset(seed=7)
    assert env.step(action)[2:4] == ends
    assert old.seeds == [7]


def test_an_unknown_old_gym_task_is_a_task_error():
    pytest.importorskip("gym")
    with pytest.raises(TaskError, match="gym:Nothing-v0"):
        make_env("gym:Nothing-v0")


@pytest.mark.parametrize(
    ("task", "parsed"),
    [
        ("ant-medium-expert-v2", D4RLTask("ant", "medium-expert", "v2")),
        ("walker2d-random-v0", D4RLTask("walker2d", "random", "v0")),
        ("ant-expert-v3", None),
        ("xant-expert-v2", None),
        ("Ant-v5", None),
    ],
)
def test_d4rl_ids_are_parsed_whole(task, parsed):
    assert parse_d4rl_id(task) == parsed
