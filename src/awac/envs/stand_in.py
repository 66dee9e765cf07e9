"""A stand-in for the environment in runs without one: it has spaces, but can't be reset or stepped."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from awac.envs.actions import PolicyActions
from awac.errors import TaskError


class NoEnvironment(gymnasium.Env):
    """Spaces only.

    Args:
        observations: values in an observation.
        actions: a bounded float Box or a Discrete, in the units of the data.
    """

    def __init__(self, observations: int, actions: spaces.Space):
        self.observation_space = spaces.Box(-np.inf, np.inf, (observations,), np.float32)
        self.action_space = actions

    def reset(self, *, seed=None, options=None):
        """Refuses.

        Raises:
            TaskError: always.
        """
        raise TaskError("there is no environment to act in: the run was started with no_env")

    def step(self, action):
        """Refuses, as `reset` does."""
        return self.reset()


def stand_in(observations: int, actions: spaces.Space, limit: int | None = None) -> gymnasium.Env:
    """The spaces as an environment of `make_env` has them: an action (A,) in [-1, 1], or an index 0..n-1.

    Args:
        observations: values in an observation.
        actions: as for `NoEnvironment`.
        limit: steps after which an episode is cut, None if it is not known.
    """
    env: gymnasium.Env = NoEnvironment(observations, actions)
    return PolicyActions(TimeLimit(env, limit) if limit else env)
