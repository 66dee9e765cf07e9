"""Old `gym` tasks behind Gymnasium's API. `gym` is optional and imported only when a task asks for it."""

from __future__ import annotations

import contextlib
import io
import warnings

import gymnasium
import numpy as np
from gymnasium import spaces

from awac.errors import TaskError


def _import_gym():
    """Imports `gym`, keeping away the notice that 0.26 prints to stderr; None if it is not installed."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import gym
        except ImportError:
            return None
    gym.logger.set_level(gym.logger.ERROR)
    return gym


def knows(task: str) -> bool:
    """True if `gym` is installed and has a task of that id."""
    gym = _import_gym()
    if gym is None:
        return False
    try:
        gym.spec(task)
    except (gym.error.Error, ImportError):
        return False
    return True


def make(task: str, render_mode: str | None = None) -> OldGymEnv:
    """Makes a task of the old `gym`.

    Raises:
        TaskError: `gym` is not installed, does not know the task, or misses something that the task needs.
    """
    gym = _import_gym()
    if gym is None:
        raise TaskError(f"task 'gym:{task}' needs the old gym package: pip install gym==0.26.2")
    new_api = tuple(int(part) for part in gym.__version__.split(".")[:2]) >= (0, 26)
    options = {"render_mode": render_mode, "disable_env_checker": True} if new_api else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return OldGymEnv(gym.make(task, **options), render_mode)
    except (gym.error.Error, ImportError) as error:
        raise TaskError(f"task 'gym:{task}' cannot be made: {' '.join(str(error).split())}") from None


class OldGymEnv(gymnasium.Env):
    """Wraps an env of either gym API: seed() + 4-tuples (up to 0.25) or reset(seed=) + 5-tuples (0.26)."""

    def __init__(self, env, render_mode: str | None = None):
        self.env = env
        self.render_mode = render_mode
        self.metadata = dict(getattr(env, "metadata", {}))
        self.observation_space = _convert(env.observation_space)
        self.action_space = _convert(env.action_space)

    @property
    def unwrapped(self):
        return self.env.unwrapped

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        if hasattr(self.env.unwrapped, "seed") and seed is not None:
            self.env.unwrapped.seed(seed)
            result = self.env.reset()
        else:
            result = self.env.reset(seed=seed)
        observation, info = result if isinstance(result, tuple) else (result, {})
        return np.asarray(observation), info

    def step(self, action):
        observation, reward, *ends, info = self.env.step(action)
        if len(ends) == 2:
            terminated, truncated = ends
        else:
            truncated = bool(info.get("TimeLimit.truncated", False))
            terminated = bool(ends[0]) and not truncated
        return np.asarray(observation), float(reward), bool(terminated), bool(truncated), info

    def render(self):
        return self.env.render()

    def close(self):
        self.env.close()


def _convert(space):
    """The Gymnasium space equal to an old one; an unknown kind is passed on, for the caller to refuse by name."""
    if type(space).__name__ == "Box":
        return spaces.Box(space.low, space.high, space.shape, space.dtype)
    if type(space).__name__ == "Discrete":
        return spaces.Discrete(int(space.n), start=int(getattr(space, "start", 0)))
    return space
