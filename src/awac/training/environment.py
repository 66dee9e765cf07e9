"""mindspore-rl's environment class around a Gymnasium environment from `make_env`."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from awac.algorithm.mindrl import PythonEnvironment, Space
from awac.envs.actions import environment_action_space
from awac.envs.guard import guard_of


class GymnasiumEnvironment(PythonEnvironment):
    """Any environment of `make_env` behind mindspore-rl's interface.

    `step` returns (observation, reward, done, terminated): `done` says that the episode is over, `terminated` that the
    task ended, so nothing is bootstrapped.

    Args:
        params: `env`, the environment.

    Attributes:
        seedable: whether its `reset` takes a seed.
        locked: (A,) bool, actions that the environment holds at a constant (low = high); None if none is.
    """

    def __init__(self, params, env_id: int = 0):
        self.env = params["env"]
        guard = guard_of(self.env)
        self.seedable = guard is None or guard.seedable
        own = environment_action_space(self.env)
        locked = (own.low == own.high).ravel() if isinstance(own, spaces.Box) else np.zeros(1, bool)
        self.locked = locked if locked.any() else None
        self._seed = env_id
        observation, action = self.env.observation_space, self.env.action_space
        if isinstance(action, spaces.Discrete):
            actions = Space((), np.int32, low=0, high=int(action.n))
        else:
            assert isinstance(action, spaces.Box)  # make_env gives no other
            actions = Space(action.shape, np.float32, low=action.low, high=action.high)
        # mindspore-rl resets and steps the environment in this constructor to count the results; a robot must not move
        # then.
        self._ready = False
        super().__init__(actions, Space(observation.shape, np.float32))
        self._ready = True

    def _reset(self):
        if not self._ready:
            return np.zeros(self.env.observation_space.shape, np.float32)
        observation, _ = self.env.reset(seed=self._seed)
        return observation.astype(np.float32)

    def _step(self, action):
        if not self._ready:
            return self._reset(), np.zeros((), np.float32), np.zeros((), bool), np.zeros((), bool)
        observation, reward, terminated, truncated, _ = self.env.step(action)
        done = np.asarray(terminated or truncated)
        return observation.astype(np.float32), np.asarray(reward, np.float32), done, np.asarray(terminated)

    def _set_seed(self, seed_value):
        self._seed = int(seed_value)
        return True

    def close(self):
        """Closes the Gymnasium environment."""
        self.env.close()
        return True
