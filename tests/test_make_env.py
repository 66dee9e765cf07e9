"""`make_env` gives every supported task the same interface and says why it refuses the rest."""

import os

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from awac.envs import Task, make_env, notes
from awac.envs.guard import Guard
from awac.envs.old_gym import OldGymEnv
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
LARGEST = np.finfo(np.float32).max


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


def test_an_environment_that_goes_to_another_folder_does_not_take_the_run_along(tmp_path, monkeypatch):
    class Wanders(Toy):
        def __init__(self, render_mode=None):
            os.chdir(tmp_path)
            super().__init__(VECTOR, spaces.Discrete(2))

    place = os.getcwd()
    gymnasium.register("AwacWanders-v0", entry_point=Wanders)
    try:
        make_env("AwacWanders-v0").close()
        assert os.getcwd() == place
    finally:
        del gymnasium.registry["AwacWanders-v0"]
        os.chdir(place)


def test_discrete_tasks_stay_as_they_are():
    env = make_env("CartPole-v1")
    assert isinstance(env.action_space, spaces.Discrete) and env.action_space.n == 2


@pytest.mark.parametrize(
    ("observed", "acted", "words"),
    [
        (spaces.Discrete(4), VECTOR, "observes Discrete"),
        (spaces.MultiDiscrete([4, 2]), VECTOR, "observes MultiDiscrete"),
        (spaces.Dict({"a": VECTOR, "camera": spaces.Box(0, 255, (8, 8, 3), np.uint8)}), VECTOR, "observes Dict"),
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), VECTOR, "observes Box of shape"),
        (spaces.Box(0, 255, (8, 8), np.uint8), VECTOR, "observes Box of shape"),
        (spaces.Sequence(VECTOR), VECTOR, "observes Sequence"),
        (spaces.Text(5), VECTOR, "observes Text"),
        (None, VECTOR, "observes NoneType"),
        (VECTOR, spaces.MultiDiscrete([2, 2]), "acts in MultiDiscrete"),
        (VECTOR, spaces.Box(-np.inf, np.inf, (2,)), "without bounds"),
        (VECTOR, spaces.Box(np.float32([-1, 0]), np.float32([1, np.inf])), r"without bounds \(value 1: 0.0 to inf\)"),
        (VECTOR, spaces.Box(-LARGEST, LARGEST, (2,)), r"without bounds \(value 0: -3.40\d*e\+38 to 3.40\d*e\+38\)"),
        (VECTOR, spaces.Box(-1.0, 1e300, (2,), np.float64), "without bounds"),
        (VECTOR, spaces.Box(-10, 10, (2,), np.int64), "acts in Box of shape"),
        (VECTOR, spaces.MultiBinary(3), "acts in MultiBinary"),
        (VECTOR, spaces.Dict({"a": VECTOR}), "acts in Dict"),
        (VECTOR, None, "acts in NoneType"),
    ],
)
def test_other_spaces_are_refused_by_name(register, observed, acted, words):
    with pytest.raises(TaskError, match=words) as error:
        make_env(register(observed, acted))
    assert "\n" not in str(error.value) and "AwacToy" in str(error.value)


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


def test_an_unknown_task_of_a_module_lists_what_the_module_registers():
    gymnasium.register("AwacListed-v0", entry_point=Toy)
    try:
        with pytest.raises(TaskError) as error:
            make_env(f"{__name__}:AwacListd-v0")
        assert str(error.value) == f"unknown task '{__name__}:AwacListd-v0'; {__name__} registers AwacListed-v0"
    finally:
        del gymnasium.registry["AwacListed-v0"]


@pytest.mark.parametrize("steps", [0, -1, 2.5, "7"])
def test_a_step_limit_that_is_none_is_refused(steps):
    with pytest.raises(TaskError, match="max_episode_steps = .* is not a positive whole number"):
        make_env("Pendulum-v1", max_episode_steps=steps)


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


def test_every_old_space_is_converted_or_refused(monkeypatch):
    gym = pytest.importorskip("gym")

    class Old(gym.Env):
        observation_space = gym.spaces.Dict(
            {"a": gym.spaces.MultiBinary(2), "b": gym.spaces.MultiDiscrete([2, 3]), "c": gym.spaces.Box(-1, 1, (2,))}
        )
        action_space = gym.spaces.Discrete(2)
        seed = 3  # not a method

        def reset(self, *, seed=None, options=None):
            return self.observation_space.sample(), {}

    env = Guard(OldGymEnv(Old(), "old"), "old")
    assert env.observation_space.shape == (2 + 2 + 3 + 2,)
    assert env.reset(seed=0)[0].shape == (9,)
    Old.observation_space = gym.spaces.Graph(gym.spaces.Box(-1, 1, (2,)), None)
    with pytest.raises(TaskError, match="kind Graph is not supported"):
        OldGymEnv(Old(), "old")


def test_a_space_of_the_old_package_is_named(register):
    gym = pytest.importorskip("gym")
    with pytest.raises(TaskError, match="acts in Box of the package gym, not of Gymnasium"):
        make_env(register(VECTOR, gym.spaces.Box(-1, 1, (2,))))


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
    old = FourTuples()
    env = Guard(OldGymEnv(old, "gym:Old-v0"), "gym:Old-v0")
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
        ("ant-medium-expert-v2", ("ant", "medium-expert", "v2")),
        ("walker2d-random-v0", ("walker2d", "random", "v0")),
        ("awac/hopper-full-replay-v1", ("hopper", "full-replay", "v1")),
        ("ant-expert-v3", ("", "", "")),
        ("ant-v2", ("", "", "")),
        ("xant-expert-v2", ("", "", "")),
        ("Ant-v5", ("", "", "")),
        ("", ("", "", "")),
    ],
)
def test_d4rl_ids_are_parsed_whole(task, parsed):
    result = Task.parse(task)
    assert (result.robot, result.mix, result.version) == parsed
    assert result.is_d4rl == bool(parsed[0])
    assert (result.score_range is None) == (result.hidden_positions is None) == (not parsed[0])


def test_d4rls_tasks_are_made_by_gymnasium_too():
    env = gymnasium.make("awac/hopper-medium-v2")
    assert gymnasium.make(env.spec.from_json(env.spec.to_json())).spec == env.spec
    assert env.spec.id == "awac/hopper-medium-v2" and env.spec.max_episode_steps == 1000
    np.testing.assert_array_equal(env.reset(seed=3)[0], make_env("hopper-medium-v2").reset(seed=3)[0])
    vector = gymnasium.make_vec("awac/ant-expert-v2", num_envs=2)
    assert vector.reset(seed=0)[0].shape == (2, 111)
    vector.close()


@pytest.mark.parametrize(("shape", "size"), [((), 1), ((3, 1), 3), ((1, 3), 3)])
def test_observations_of_other_shapes_are_vectors(register, shape, size):
    env = make_env(register(spaces.Box(-1, 1, shape), VECTOR))
    assert env.observation_space.shape == env.reset(seed=0)[0].shape == (size,)
    assert any("flattened" in line for line in notes(env))


def test_a_dict_of_vectors_is_flattened_and_the_log_says_so(register):
    space = spaces.Dict({"arm": VECTOR, "goal": spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.Discrete(4)])})
    env = make_env(register(space, VECTOR))
    observation, _ = env.reset(seed=0)
    assert observation.shape == env.observation_space.shape == (9,)
    assert env.step(env.action_space.sample())[0].shape == (9,)
    assert any("(Dict) are flattened to 9 values" in line for line in notes(env))


def test_the_step_limit_is_the_users_then_the_tasks_own_then_ten_thousand(register):
    endless = register(VECTOR, VECTOR)
    assert make_env("Pendulum-v1").spec.max_episode_steps == 200
    assert make_env("gym:Pendulum-v1").spec.max_episode_steps == 200
    assert make_env("Pendulum-v1", max_episode_steps=30).spec.max_episode_steps == 30
    assert make_env(Task.parse("Pendulum-v1", max_episode_steps=40)).spec.max_episode_steps == 40
    assert make_env(endless).spec.max_episode_steps == 10_000
    assert (
        notes(make_env("Pendulum-v1")) == notes(make_env("gym:CartPole-v1")) == notes(make_env("ant-expert-v2")) == []
    )
    assert ["no step limit" in line for line in notes(make_env(endless))] == [True]


def test_constructor_arguments_reach_the_environment():
    assert make_env("Pendulum-v1", env_kwargs={"g": 1.5}).unwrapped.g == 1.5
    assert make_env(Task.parse("Pendulum-v1", {"g": 2.5})).unwrapped.g == 2.5
    assert make_env("gym:Pendulum-v1", env_kwargs={"g": 3.5}).unwrapped.g == 3.5


@pytest.mark.parametrize("task", [None, 3, gymnasium.make("CartPole-v1")])
def test_what_is_no_name_is_refused(task):
    with pytest.raises(TaskError, match="make_env takes a task's name, not .*gymnasium.register"):
        make_env(task)
