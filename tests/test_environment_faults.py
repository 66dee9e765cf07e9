"""Environments as users write them: other APIs are accepted, unusable values are one-line errors."""

import itertools
import struct

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation, NormalizeObservation, NormalizeReward, TimeLimit
from tiny import settings

from awac.algorithm.mindrl import COLLECT
from awac.cli import main
from awac.data.behaviour import BehaviourPolicy
from awac.data.collect import collect
from awac.data.ends import time_limit
from awac.envs import Task, make_env, notes
from awac.errors import EnvironmentFault, Interrupted, TaskError
from awac.training.actor import AWACActor
from awac.training.environment import GymnasiumEnvironment
from awac.training.evaluate import Evaluator

NAN, INF = float("nan"), float("inf")


class Plain(gymnasium.Env):
    """Counts its steps; subclasses differ from Gymnasium's API in one way each."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode, self.t = render_mode, 0

    def observation(self):
        return np.float32([self.t, 0.5, -1])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation(), {}

    def step(self, action):
        self.t += 1
        return self.observation(), 1.5, False, False, {}


class NoRenderMode(Plain):
    def __init__(self):
        self.t = 0


class ListObservation(Plain):
    def observation(self):
        return [float(self.t), 0.5, -1.0]


class TupleObservation(Plain):
    def observation(self):
        return (self.t, 0.5, -1)


class ColumnObservation(Plain):
    def observation(self):
        return super().observation()[:, None]


class OnlyObservation(Plain):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class FourTuple(Plain):
    def step(self, action):
        observation, reward, *_, info = super().step(action)
        return observation, reward, False, info


class OldestReset(Plain):
    """Neither seed nor options, an observation alone, and a method `seed`."""

    seeds: list = []

    def reset(self):
        self.t = 0
        return self.observation()

    def seed(self, seed):
        self.seeds.append(seed)


class SeedOnly(Plain):
    def reset(self, seed=None):
        return super().reset(seed=seed)


class SeedNeeded(Plain):
    def reset(self, seed):
        return super().reset(seed=seed)


class NoInfo(Plain):
    def step(self, action):
        return *super().step(action)[:4], None


class ArrayReward(Plain):
    def step(self, action):
        observation, reward, *flags, info = super().step(action)
        return observation, np.array([reward]), np.array([False]), np.array([[False]]), info


class Integers(Plain):
    observation_space = spaces.Box(-9, 99, (3,), np.int64)


class ReusedMemory(Plain):
    def __init__(self):
        super().__init__()
        self.memory = np.zeros(3, np.float32)

    def observation(self):
        self.memory[:] = super().observation()
        return self.memory


GOOD = [
    NoRenderMode,
    ListObservation,
    TupleObservation,
    ColumnObservation,
    OnlyObservation,
    FourTuple,
    OldestReset,
    SeedOnly,
    SeedNeeded,
    NoInfo,
    ArrayReward,
    Integers,
    ReusedMemory,
]


@pytest.fixture
def register():
    """Registers a class for the time of one test, with a limit of 20 steps unless another is given."""
    names = []

    def add(cls, **options):
        names.append(f"Fault{len(names)}-v0")
        gymnasium.register(names[-1], entry_point=cls, **{"max_episode_steps": 20, **options})
        return names[-1]

    yield add
    for name in names:
        del gymnasium.registry[name]


@pytest.mark.parametrize("cls", GOOD, ids=lambda cls: cls.__name__)
def test_environments_of_another_api_give_the_same_as_one_of_todays(register, cls):
    env, ends = make_env(register(cls)), []
    env.reset()
    first, info = env.reset(seed=5)
    kept = [first]
    for _ in range(20):
        observation, reward, terminated, truncated, info = env.step(np.zeros(2, np.float32))
        kept.append(observation)
        ends.append((terminated, truncated))
        assert type(reward) is float and reward == 1.5 and isinstance(info, dict)
    np.testing.assert_array_equal(np.stack(kept), [[t, 0.5, -1] for t in range(21)])
    assert all(row.dtype in (np.float32, np.float64) and row.shape == (3,) for row in kept)
    assert ends == [(False, False)] * 19 + [(False, True)]


def test_a_seed_reaches_an_environment_that_takes_it_by_a_method(register):
    OldestReset.seeds = []
    env = make_env(register(OldestReset))
    env.reset(seed=5)
    env.reset()
    assert OldestReset.seeds == [5] and notes(env) == []


class SeededOutside(gymnasium.Wrapper):
    """Takes the seed for an environment whose `reset` takes none."""

    def reset(self, *, seed=None, options=None):
        self.unwrapped.seeds.append(seed)
        return self.env.reset(), {}


class SeedlessOutside(gymnasium.Wrapper):
    def reset(self):
        return self.env.reset()


class PassingOn(gymnasium.Wrapper):
    def reset(self, **kwargs):
        return self.env.reset(**kwargs)


class NothingTaken(OldestReset):
    seed = None


@pytest.mark.parametrize(
    ("make", "seeds", "seedable"),
    [
        (lambda: SeededOutside(NothingTaken()), [5], True),
        (lambda: PassingOn(SeededOutside(NothingTaken())), [5], True),
        (lambda: SeededOutside(OldestReset()), [5, 5], True),
        (lambda: PassingOn(OldestReset()), [5], True),
        (lambda: PassingOn(SeedNeeded()), [], True),
        (lambda: SeedlessOutside(Plain()), [], False),
    ],
)
def test_the_outermost_reset_decides_whether_a_seed_is_given(register, monkeypatch, make, seeds, seedable):
    monkeypatch.setattr(OldestReset, "seeds", [])
    env = make_env(register(make))
    env.reset(seed=5)
    assert OldestReset.seeds == seeds and (notes(env) == []) == seedable


def test_other_peoples_environments_get_seeds_that_fit_a_c_int(register):
    class Simulator(Plain):
        def reset(self, *, seed=None, options=None):
            struct.pack("i", seed)
            return super().reset(seed=seed)

    large = 2**32 - 1
    simulated, own = make_env(register(Simulator)), make_env("CartPole-v1")
    simulated.reset(seed=large)
    assert simulated.unwrapped.np_random_seed == 2**31 - 1
    np.testing.assert_array_equal(own.reset(seed=large)[0], gymnasium.make("CartPole-v1").reset(seed=large)[0])


def test_an_environment_that_takes_no_seed_is_noted(register):
    class Unseeded(Plain):
        def reset(self):
            self.t = 0
            return self.observation(), {}

    env = make_env(register(Unseeded))
    env.reset(seed=5)
    assert any("takes no seed" in line for line in notes(env))


class Spoiled(Plain):
    """Replaces a part of what `step` returns at step 7."""

    def __init__(self, index, value):
        super().__init__()
        self.index, self.value = index, value

    def step(self, action):
        result = list(super().step(action))
        if self.t == 7:
            result[self.index] = self.value
        return tuple(result)


@pytest.mark.parametrize(
    ("index", "value", "words"),
    [
        (0, np.float32([0, NAN, 0]), "value 1 of the observation is nan"),
        (0, np.float32([0, 0, -INF]), "value 2 of the observation is -inf"),
        (0, [0.0, None, 0.0], "value 1 of the observation is nan"),
        (0, np.zeros(4), r"the observation has shape \(4,\), its space says \(3,\)"),
        (0, np.zeros(0), r"the observation has shape \(0,\)"),
        (0, 1.0, r"the observation has shape \(\)"),
        (0, "text", "the observation does not fit its space"),
        (0, {"a": 1}, "the observation does not fit its space"),
        (0, [[1], [2, 3]], "the observation does not fit its space"),
        (1, NAN, "the reward is nan"),
        (1, np.float32(-INF), "the reward is -inf"),
        (1, np.array([INF]), "the reward is inf"),
        (1, 1e39, r"the reward is 1e\+39"),
        (0, [0.0, 0.0, -1e300], "value 2 of the observation is -inf"),
        (1, None, "the reward is None"),
        (1, np.zeros(2), r"not a single number but an array of shape \(2,\)"),
        (1, "much", "not a single number but 'much'"),
        (2, np.zeros(2), "not a single flag"),
        (3, np.zeros(2), "not a single flag"),
        (4, 3.0, "step returned 5 values, the last is 3.0; expected"),
    ],
)
def test_what_cannot_be_used_is_one_line_with_environment_and_step(register, index, value, words):
    task = register(Spoiled, kwargs={"index": index, "value": value})
    env = make_env(task)
    env.reset(seed=0)
    for _ in range(6):
        env.step(np.zeros(2, np.float32))
    with pytest.raises(EnvironmentFault, match=words) as error:
        env.step(np.zeros(2, np.float32))
    assert f"'{task}'" in str(error.value) and "step 7 of its episode 1" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("result", [None, 3.0, (np.zeros(3), 1.0), (np.zeros(3), 1.0, False, False)])
def test_a_step_that_returns_something_else_is_one_line(register, result):
    class Other(Plain):
        def step(self, action):
            return result

    env = make_env(register(Other))
    env.reset()
    with pytest.raises(EnvironmentFault, match="step returned .*expected"):
        env.step(np.zeros(2, np.float32))


def test_a_nan_in_the_first_observation_names_the_reset(register):
    class Unborn(Plain):
        def observation(self):
            return np.full(3, np.nan)

    with pytest.raises(EnvironmentFault, match="at a reset: value 0 of the observation is nan"):
        make_env(register(Unborn)).reset()


def test_a_nan_after_a_terminal_step_is_never_used_and_does_not_stop_the_run(register):
    class Exploded(Plain):
        def step(self, action):
            return np.float32([NAN, 7, 8]), 1.0, True, False, {}

    env = make_env(register(Exploded))
    env.reset()
    observation, _, terminated, *_ = env.step(np.zeros(2, np.float32))
    assert terminated
    np.testing.assert_array_equal(observation, [0, 7, 8])


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
@pytest.mark.parametrize("method", ["reset", "step"])
def test_an_exception_of_the_environment_is_one_line_with_its_place(register, method, error):
    class Broken(Plain):
        pass

    def fail(self, *args, **kwargs):
        raise error("lost\nthe connection")

    env = make_env(register(Broken))
    env.reset()
    setattr(Broken, method, fail)
    with pytest.raises(EnvironmentFault, match=f"{error.__name__}: lost the connection") as caught:
        getattr(env, method)(*([np.zeros(2, np.float32)] if method == "step" else []))
    assert {"reset": "failed at a reset:", "step": "failed at step 1 of"}[method] in str(caught.value)
    assert "test_environment_faults.py, line" in str(caught.value)
    assert isinstance(caught.value.__cause__, error)


def test_a_signal_within_a_step_is_no_fault_of_the_environment(register):
    class Stopped(Plain):
        def step(self, action):
            raise Interrupted(15)

    env = make_env(register(Stopped))
    env.reset()
    with pytest.raises(Interrupted):
        env.step(np.zeros(2, np.float32))


def missing_file(render_mode=None):
    raise FileNotFoundError(2, "No such file or directory", "/nonexistent/robot.xml")


def no_licence(render_mode=None):
    raise RuntimeError("simulator licence\nnot found")


def needs_level(level, render_mode=None):
    return Plain()


@pytest.mark.parametrize(
    ("maker", "words"),
    [
        (missing_file, "FileNotFoundError: .*/nonexistent/robot.xml"),
        (no_licence, "RuntimeError: simulator licence not found"),
        (needs_level, "missing 1 required positional argument: 'level'.*as env_kwargs"),
        (lambda: 3, "TypeError: The environment must inherit"),
        ("no_such_module:Env", "No module named 'no_such_module'"),
        ("math:Env", "AttributeError: module 'math' has no attribute 'Env'"),
    ],
)
def test_a_constructor_that_fails_is_one_line_with_its_error(register, maker, words):
    task = register(maker)
    with pytest.raises(TaskError, match=words) as error:
        make_env(task)
    assert f"task '{task}' cannot be made" in str(error.value) and "\n" not in str(error.value)


def test_arguments_that_a_constructor_needs_can_be_given(register):
    assert make_env(register(needs_level), env_kwargs={"level": 3}).reset()[0].shape == (3,)
    with pytest.raises(TaskError, match="unexpected keyword argument 'levle'; take levle out of env_kwargs"):
        make_env(register(needs_level), env_kwargs={"levle": 3})
    with pytest.raises(TaskError, match=r"'max_episode_steps'; take .* out of env_kwargs \(it is a setting of its own"):
        make_env(register(needs_level), env_kwargs={"max_episode_steps": 3})


def test_a_constructor_that_takes_no_render_mode_cannot_be_filmed(register):
    with pytest.raises(TaskError, match="unexpected keyword argument 'render_mode'; it can't be rendered or filmed"):
        make_env(register(NoRenderMode), render_mode="rgb_array")


def test_a_mistake_inside_a_constructor_is_not_one_of_its_arguments(register):
    class Broken(Plain):
        def __init__(self, level=1):
            super().__init__(depth=level)

    with pytest.raises(TaskError, match="unexpected keyword argument 'depth'$"):
        make_env(register(Broken), env_kwargs={"level": 3})


def test_an_episode_without_end_is_cut(register):
    env = make_env(register(Plain, max_episode_steps=None), max_episode_steps=50)
    env.reset()
    ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(50)]
    assert ends == [(False, False)] * 49 + [(False, True)]


def steps_of_an_episode(env):
    env.reset()
    return next(n for n in itertools.count(1) if any(env.step(env.action_space.sample())[2:4]))


@pytest.mark.parametrize(
    ("make", "registered", "asked", "limit"),
    [
        (lambda: TimeLimit(Plain(), 7), 5, None, 5),
        (lambda: TimeLimit(Plain(), 7), 9, None, 7),
        (lambda: TimeLimit(Plain(), 7), None, None, 7),
        (lambda: TimeLimit(Plain(), 7), 5, np.int64(6), 6),
        (lambda: TimeLimit(Plain(), 7), 5, 100, 7),
        (lambda: FlattenObservation(gymnasium.make("Pendulum-v1")), 50, None, 50),
    ],
)
def test_the_limit_is_the_one_that_ends_an_episode(register, make, registered, asked, limit):
    env = make_env(register(make, max_episode_steps=registered), max_episode_steps=asked)
    assert env.spec.max_episode_steps == time_limit(env) == steps_of_an_episode(env) == limit
    line = f"ends episodes after {limit} steps itself: max_episode_steps = {asked} has no effect"
    assert [line in note for note in notes(env)] == ([True] if asked == 100 else [])


@pytest.mark.parametrize("wrapper", [NormalizeObservation, NormalizeReward])
def test_running_statistics_are_refused(register, wrapper):
    """Each environment would have its own: an evaluation's begin anew, and a checkpoint does not hold them."""

    def frozen():
        env = wrapper(Plain())
        env.update_running_mean = False
        return env

    with pytest.raises(TaskError, match=f"wrapper {wrapper.__name__}, .*take it off"):
        make_env(register(lambda: FlattenObservation(wrapper(Plain()))))
    make_env(register(frozen)).reset()


def test_running_statistics_of_old_gym_are_refused():
    gym = pytest.importorskip("gym")
    gym.register("AwacOldNorm-v0", lambda: gym.wrappers.NormalizeObservation(gym.make("CartPole-v1").unwrapped))
    try:
        with pytest.raises(TaskError, match=r"wrapper NormalizeObservation, .*take it off"):
            make_env("gym:AwacOldNorm-v0")
    finally:
        del gym.envs.registry["AwacOldNorm-v0"]


def test_a_locked_actuator_gets_its_constant_and_never_nan(register):
    class Locked(Plain):
        action_space = spaces.Box(np.float32([-2, 3]), np.float32([2, 3]))

        def step(self, action):
            return np.float32([*action, 0]), 0.0, False, False, {}

    env = make_env(register(Locked))
    env.reset()
    np.testing.assert_array_equal(env.step(np.float32([0.5, -0.7]))[0], [1.0, 3.0, 0.0])


def test_a_locked_actuator_is_acted_on_and_stored_as_in_the_data(register):
    class Locked(Plain):
        action_space = spaces.Box(np.float32([-2, 3]), np.float32([2, 3]))

    class Policy:
        def __call__(self, observations, rng=None):
            return np.full((len(observations), 2), 0.5, np.float32)

    actor = AWACActor({"collect_environment": GymnasiumEnvironment({"env": make_env(register(Locked))})})
    actor.use(Policy())
    actor.environment.reset()
    np.testing.assert_array_equal(actor.act(COLLECT, (np.zeros(3), None))[0], [0.5, 0.0])


def test_an_episode_that_ends_in_its_last_step_has_not_ended_early(register):
    class Finishes(Plain):
        def step(self, action):
            self.t += 1
            return np.zeros(3, np.float32), 1.0, self.t == 7, False, {}

    for limit, early in ((7, 0.0), (8, 1.0)):
        task = Task.parse(register(Finishes), None, limit)
        result = Evaluator(lambda task=task: make_env(task), 2, 0)(lambda seen: np.zeros((len(seen), 2), np.float32))
        assert (result.mean, result.falls) == (7.0, early)


def test_an_environment_is_closed_once(register):
    class Counted(Plain):
        closed = 0

        def close(self):
            Counted.closed += 1

    env = make_env(register(Counted))
    env.close()
    env.close()
    assert Counted.closed == 1


class Changing(Plain):
    """Integers from `reset`, floats below 1 from `step`; each step pays 1 where the policy sees them as they are."""

    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.int64), {}

    def step(self, action):
        self.t += 1
        return np.array([0.25, 0.5, 0.75]), float(action[0]), False, False, {}


def test_an_evaluation_keeps_fractions_after_an_integer_reset(register):
    task = register(Changing)
    evaluate = Evaluator(lambda: make_env(task), 2, 0)
    result = evaluate(lambda seen: np.repeat((seen[:, :1] == 0.25) | (seen[:, 1:2] == 0), 2, axis=1).astype(np.float32))
    np.testing.assert_array_equal(result.returns, [20.0, 20.0])


def test_an_evaluation_with_a_nan_is_an_error_and_no_score(register):
    task = register(Spoiled, kwargs={"index": 1, "value": NAN})
    with pytest.raises(EnvironmentFault, match="step 7 .* the reward is nan"):
        Evaluator(lambda: make_env(task), 2, 0)(lambda seen: np.zeros((len(seen), 2), np.float32))


class Exclusive(Plain):
    """Only `free` of them may be open at a time; the reward is the first number that the seed gives."""

    free = 1

    def __init__(self):
        super().__init__()
        if Exclusive.free == 0:
            raise RuntimeError("the robot is in use")
        Exclusive.free -= 1

    def step(self, action):
        self.t += 1
        return self.observation(), self.np_random.random(), False, False, {}

    def close(self):
        Exclusive.free += 1


@pytest.mark.parametrize("free", [1, 2, 3])
def test_an_evaluation_is_the_same_in_fewer_environments(register, monkeypatch, capsys, free):
    task = register(Exclusive)

    def returns(count, spare=False):
        monkeypatch.setattr(Exclusive, "free", count)
        env = make_env(task) if spare else None
        evaluate = Evaluator(lambda: make_env(task), 4, 0, env)
        result = evaluate(lambda seen: np.zeros((len(seen), 2), np.float32)).returns
        assert evaluate.uses_spare == (spare and count == 1)
        evaluate.close()
        if env:
            env.close()
        assert Exclusive.free == count
        return result

    expected = returns(4)
    assert len(set(expected)) == 4 and capsys.readouterr().out == ""
    np.testing.assert_array_equal(returns(free, spare=True), expected)
    assert "the robot is in use" in capsys.readouterr().out


def test_an_evaluation_without_any_environment_says_why(register, monkeypatch):
    monkeypatch.setattr(Exclusive, "free", 0)
    task = register(Exclusive)
    with pytest.raises(TaskError, match="the robot is in use"):
        Evaluator(lambda: make_env(task), 4, 0)


def test_a_run_with_one_instance_and_arguments_of_its_own(register, monkeypatch, capsys, tmp_path):
    """Collecting and evaluating share the environment; its arguments and limit come from the command line."""

    class Sole(Exclusive):
        def __init__(self, level):
            assert level == 3
            super().__init__()

    monkeypatch.setattr(Exclusive, "free", 1)
    task, data = register(Sole, max_episode_steps=None), str(tmp_path / "data.hdf5")
    options = ["--task", task, "--env_kwargs", "{level: 3}", "--max_episode_steps", "7"]
    assert main(["collect", *options, "--policy", "random", "--rows", "70", "--out", data]) == 0
    assert "70 rows of Fault0-v0, 10 episodes" in capsys.readouterr().out
    folder = str(tmp_path / "run")
    assert main(["train", *options, "--dataset", data, "--episode", "6", "--ckpt_path", folder, *settings()]) == 0
    out = capsys.readouterr().out
    assert "no more environments can be made" in out and "Evaluate for episode 6 total rewards is" in out
    assert main(["doctor", data, *options]) == 0
    assert main(["eval", "--ckpt_path", folder, "--eval_episodes", "3"]) == 0
    assert "Evaluate result is" in capsys.readouterr().out
    assert Exclusive.free == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_finite_values_are_kept(register, dtype):
    class Large(Plain):
        observation_space = spaces.Box(-np.inf, np.inf, (3,), dtype)

        def observation(self):
            return np.array([3e38, -3e38, 1e-30], dtype)

    observation, _ = make_env(register(Large)).reset()
    np.testing.assert_array_equal(observation, np.array([3e38, -3e38, 1e-30], dtype))


class OldTask:
    """An env in the style of old gym: four values, no seed in `reset`, lists."""

    metadata: dict = {}
    render_mode = reward_range = spec = None
    broken = False

    def __init__(self, level=1):
        import gym

        self.observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = gym.spaces.Box(-2, 2, (1,), np.float32)
        self.level = level

    @property
    def unwrapped(self):
        return self

    def seed(self, seed=None):
        self.rng = np.random.default_rng(seed)

    def reset(self):
        return list(self.rng.random(2))

    def step(self, action):
        if self.broken:
            raise RuntimeError("lost")
        return [0.5, 0.25], np.float64(action[0]) * self.level, False, {}


@pytest.fixture
def old_task():
    gym = pytest.importorskip("gym")
    old = type("Old", (OldTask, gym.Env), {})
    gym.register("AwacOld-v0", entry_point=old, max_episode_steps=3)
    yield "gym:AwacOld-v0"
    del gym.envs.registry["AwacOld-v0"]


def test_old_gyms_tasks_have_the_same_guarantees(old_task, monkeypatch):
    env = make_env(old_task, env_kwargs={"level": 10})
    np.testing.assert_array_equal(env.reset(seed=4)[0], env.reset(seed=4)[0])
    results = [env.step(np.float32([0.5]))[1:4] for _ in range(3)]
    assert results == [(10.0, False, False)] * 2 + [(10.0, False, True)]
    assert env.spec.max_episode_steps == 3
    env.reset(seed=4)
    monkeypatch.setattr(OldTask, "broken", True)
    with pytest.raises(EnvironmentFault, match="'gym:AwacOld-v0' failed at step 1 .*RuntimeError: lost"):
        env.step(np.float32([0.5]))
    with pytest.raises(TaskError, match="'gym:AwacOld-v0' cannot be made: .*levle"):
        make_env(old_task, env_kwargs={"levle": 10})


@pytest.mark.parametrize("bound", [1.0, 2.0])
def test_an_environment_that_changes_its_action_does_not_change_the_callers(register, bound):
    class Greedy(Plain):
        action_space = spaces.Box(-bound, bound, (2,), np.float32)

        def step(self, action):
            action *= 0
            return super().step(action)

    env, action = make_env(register(Greedy)), np.float32([0.25, 0.5])
    env.reset()
    env.step(action)
    np.testing.assert_array_equal(action, [0.25, 0.5])


def test_a_recording_goes_on_alone_where_other_processes_cannot_make_the_environment(register, capsys):
    """Registered in this process only, as in a notebook; the rows are those of a recording by one process."""
    task = register(Plain)
    random = BehaviourPolicy.random(spaces.Box(-1, 1, (2,)))
    alone, several = (collect(task, random, rows=50, workers=workers) for workers in (1, 2))
    assert f"Recording in one process: in another, unknown task '{task}'" in capsys.readouterr().out
    for key, values in alone.items():
        np.testing.assert_array_equal(several[key], values)


class Unclosable(Plain):
    """Its viewer or socket is gone at the end."""

    def close(self):
        raise RuntimeError("socket is closed")


def test_an_environment_that_cannot_be_closed_costs_no_result(register, tmp_path, capsys):
    task, out = register(Unclosable), str(tmp_path / "d.hdf5")
    assert main(["collect", "--task", task, "--policy", "random", "--rows", "40", "--out", out]) == 0
    printed = capsys.readouterr().out
    assert "40 rows" in printed and "failed when it was closed: RuntimeError: socket is closed" in printed


def test_the_error_of_a_step_is_not_hidden_by_one_of_closing(register):
    class Lost(Unclosable):
        def step(self, action):
            raise RuntimeError("simulator lost its connection")

    with pytest.raises(EnvironmentFault, match="lost its connection"):
        collect(register(Lost), BehaviourPolicy.random(Plain.action_space), rows=5)


def test_a_refusal_is_not_hidden_by_an_error_of_closing(register):
    class Several(Unclosable):
        action_space = spaces.MultiDiscrete([2, 2])

    with pytest.raises(TaskError, match="MultiDiscrete"):
        make_env(register(Several))


def test_a_dict_with_keys_of_several_types_is_flattened(register):
    class Mixed(Plain):
        observation_space = spaces.Dict({"b": spaces.Box(-1, 1, (2,)), 1: spaces.Box(-1, 1, (1,))})

        def observation(self):
            return {"b": np.float32([0.5, 0.6]), 1: np.float32([0.1])}

    np.testing.assert_allclose(make_env(register(Mixed)).reset()[0], [0.1, 0.5, 0.6])
