"""A machine, a port, a licence: one instance at a time, which is shared, filmed, closed and never driven blindly."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from tiny import RUN, settings

import awac
from awac import load_config
from awac.cli import main
from awac.envs import make_env
from awac.errors import AWACError, EnvironmentFault
from awac.training.environment import GymnasiumEnvironment
from awac.training.evaluate import Evaluator
from awac.training.rollout import Rollout

LIMIT = 7


class Port(gymnasium.Env):
    """Connects in its first reset, to one of `free` ports; the reward is the first number that the seed gives."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}
    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Box(-1, 1, (2,), np.float32)
    free, made, closed = 1, 0, 0

    def __init__(self, render_mode=None):
        self.render_mode, self.connected = render_mode, False
        Port.made += 1

    def reset(self, *, seed=None, options=None):
        if not self.connected:
            if not Port.free:
                raise ConnectionError("port 9000 is in use")
            Port.free, self.connected = Port.free - 1, True
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        return np.float32(self.np_random.random(3)), self.np_random.random(), False, False, {}

    def render(self):
        return np.zeros((8, 8, 3), np.uint8)

    def close(self):
        Port.free, self.connected, Port.closed = Port.free + self.connected, False, Port.closed + 1


class Licence(Port):
    """Takes it in the constructor."""

    def __init__(self, render_mode=None):
        super().__init__(render_mode)
        if not Port.free:
            raise RuntimeError("the licence is in use")
        Port.free, self.connected = Port.free - 1, True


@pytest.fixture
def register(monkeypatch):
    """Registers a class for the time of one test and sets its counters to `free` and 0."""

    def add(cls, free=1):
        gymnasium.register("AwacSingle-v0", entry_point=cls, max_episode_steps=LIMIT)
        for name, value in (("free", free), ("made", 0), ("closed", 0)):
            monkeypatch.setattr(Port, name, value)
        return "AwacSingle-v0"

    yield add
    gymnasium.registry.pop("AwacSingle-v0", None)


@pytest.fixture
def rows(tmp_path):
    """A data set file for the machines."""
    rng, path = np.random.default_rng(0), tmp_path / "rows.npz"
    columns = {"observations": rng.normal(size=(64, 3)), "actions": rng.uniform(-1, 1, (64, 2))}
    np.savez(path, **columns, rewards=rng.normal(size=64), terminals=np.arange(64) % 16 == 15)
    return str(path)


def stand_still(seen):
    return np.zeros((len(seen), 2), np.float32)


@pytest.mark.parametrize(
    ("free", "spare", "said"),
    [(1, True, "no more"), (3, True, "only 2 of 4"), (1, False, "only 1 of 4"), (3, False, "only 3 of 4")],
)
def test_an_evaluation_is_the_same_where_few_can_be_reset(register, capsys, monkeypatch, free, spare, said):
    task = register(Port, free=5)
    expected = Evaluator(lambda: make_env(task), 4, 0)(stand_still).returns
    assert "Evaluation" not in capsys.readouterr().out
    monkeypatch.setattr(Port, "free", free)
    env = make_env(task) if spare else None
    evaluate = Evaluator(lambda: make_env(task), 4, 0, env)
    for _ in range(2):
        np.testing.assert_array_equal(evaluate(stand_still).returns, expected)
    out = capsys.readouterr().out
    assert out.count(f"Evaluation: {said} environments can be reset (") == 1 and "port 9000 is in use" in out
    if env:
        env.reset()  # one port is left for it, or it is the one that was evaluated in


def test_where_not_a_single_one_can_be_reset_the_reason_is_the_error(register):
    task = register(Port, free=0)
    with pytest.raises(EnvironmentFault, match="port 9000 is in use"):
        Evaluator(lambda: make_env(task), 2, 0, make_env(task))(stand_still)


@pytest.mark.parametrize("episodes", [1, 3])
def test_a_run_where_only_one_can_be_reset(register, rows, tmp_path, capsys, graph_mode, episodes):
    """With one episode the evaluation connects before training does."""
    task, folder = register(Port), str(tmp_path / "run")
    command = ["train", "--task", task, "--dataset", rows, "--ckpt_path", folder, *settings(eval_episodes=episodes)]
    assert main([*command, "--episode", "4"]) == 0
    assert main(["train", "--resume", "--ckpt_path", folder, "--episode", "6"]) == 0
    assert "no more environments can be reset" in capsys.readouterr().out
    assert (Port.free, Port.closed) == (1, Port.made)


@pytest.mark.parametrize("machine", [Port, Licence])
def test_the_only_instance_is_filmed(register, rows, tmp_path, capsys, graph_mode, machine):
    task, folder, film = register(machine), str(tmp_path / "run"), tmp_path / "film.gif"
    command = ["train", "--task", task, "--dataset", rows, "--ckpt_path", folder, "--episode", "1", *settings()]
    assert main(command) == 0
    assert main(["eval", "--ckpt_path", folder, "--eval_episodes", "3", "--video", str(film)]) == 0
    assert f"{LIMIT + 1} pictures" in capsys.readouterr().out
    assert Port.free == 1


def test_the_environment_is_closed_after_a_mistake(register, rows, tmp_path, graph_mode):
    task, folder = register(Port, free=9), tmp_path / "run"
    overrides = {**RUN, "task": task, "dataset": rows, "actor_hidden": (16,), "critic_hidden": (16,)}
    awac.train(load_config(overrides=overrides), str(folder), 1)
    np.savez(tmp_path / "other.npz", **{**np.load(rows), "observations": np.zeros((64, 5))})
    for dataset in ("nowhere.npz", None, str(tmp_path / "other.npz")):
        with pytest.raises(AWACError):
            awac.train(load_config(overrides={**overrides, "dataset": dataset}), str(tmp_path / "new"), 1)
    with pytest.raises(AWACError, match="doesn't fit this run"):
        config = load_config(overrides={**overrides, "actor_hidden": (8,)})
        awac.train(config, str(tmp_path / "new"), 1, init_from=str(folder))
    gymnasium.registry[task].entry_point = lambda render_mode=None: Wider(render_mode)
    with pytest.raises(AWACError, match="observations"):
        awac.evaluate(str(folder))
    gymnasium.registry[task].entry_point = Port
    with pytest.raises(AWACError, match="can't be written"):
        awac.evaluate(str(folder), video="/proc/nowhere/film.gif")
    assert Port.closed == Port.made


class Wider(Port):
    observation_space = spaces.Box(-np.inf, np.inf, (5,), np.float32)


class Arm(gymnasium.Env):
    """A machine: it takes a seed, but its state does not come from it. `moves` since its last reset."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Box(-1, 1, (2,), np.float32)
    moves = 0

    def __init__(self, constant=0):
        self.rng, self.constant = np.random.default_rng(), constant

    def observation(self):
        """The first `constant` of an episode are always the same."""
        return np.float32(self.rng.random(3) if self.moves >= self.constant else np.zeros(3))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        Arm.moves = 0
        return self.observation(), {}

    def step(self, action):
        Arm.moves += 1
        return self.observation(), 0.0, False, False, {}


class StillActor:
    """As AWACActor, without a policy."""

    def __init__(self, env):
        self.environment = GymnasiumEnvironment({"env": env})

    def act(self, phase, params):
        observation, reward, done, terminated = self.environment.step(np.zeros(2, np.float32))
        return np.zeros(2, np.float32), float(reward), observation, bool(done), bool(terminated)


@pytest.mark.parametrize("constant", [0, 2])
def test_a_machine_in_another_state_is_not_sent_the_old_actions(register, capsys, constant):
    task = register(Arm)
    gymnasium.registry[task].kwargs["constant"] = constant
    actor = StillActor(make_env(task))
    rollout = Rollout(actor, np.random.default_rng(0))
    for _ in range(5):
        rollout.step(np.random.default_rng(0))
    rollout.load_state_dict(rollout.state_dict())
    assert Arm.moves == constant, "it moved on after an observation that differs"
    assert "does not repeat an episode" in capsys.readouterr().out and rollout.state_dict() == {}


def test_an_episode_of_an_earlier_version_is_repeated_to_its_end(register):
    actor = StillActor(make_env(register(Port)))
    rollout = Rollout(actor, np.random.default_rng(0))
    for _ in range(5):
        rollout.step(np.random.default_rng(0))
    state = rollout.state_dict()
    for keys in (state.keys(), state.keys() - {"checksums"}):
        resumed = Rollout(actor, np.random.default_rng(1))
        resumed.load_state_dict({key: state[key] for key in keys})
        for key, value in resumed.state_dict().items():
            np.testing.assert_array_equal(value, state[key])
