"""The two units of an action: the environment's own, and [-1, 1], which the policy uses.

Data sets and environments use the environment's units. `to_policy` maps a data set's actions to [-1, 1] when it is
loaded; the wrapper `PolicyActions` maps the policy's actions back at every step.
"""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces

from awac.errors import EnvironmentFault

TOLERANCE = 1e-3
"""How far an action may be outside [-1, 1]: rounding stays below it, and actions in other units soon exceed it."""


def to_environment(space: spaces.Space, actions: np.ndarray) -> np.ndarray:
    """Maps the policy's actions to the environment's units.

    Args:
        space: the environment's own action space (`environment_action_space`): a bounded Box or a Discrete.
        actions: (..., A) in [-1, 1], where A is the number of values in the Box; or indices 0..n-1 of any shape.

    Returns:
        (..., A) of the Box's dtype inside its bounds, a locked value (low = high) at its constant; or the Discrete
        space's own values start..start+n-1.
    """
    if isinstance(space, spaces.Discrete):
        return actions + space.start if space.start else actions
    assert isinstance(space, spaces.Box), "make_env gives no other"
    return _map(space, *_centre_half(space), actions)


def to_policy(space: spaces.Space, actions: np.ndarray) -> np.ndarray:
    """Maps actions in the environment's units to the policy's; the inverse of `to_environment`.

    Args:
        space: the environment's own action space (`environment_action_space`): a bounded Box or a Discrete.
        actions: (..., A), or values of the Discrete space of any shape.

    Returns:
        (..., A) float32, in [-1, 1] where the input is inside the bounds, 0 for a locked value (low = high); or indices
        0..n-1.
    """
    if isinstance(space, spaces.Discrete):
        return actions - space.start if space.start else actions
    assert isinstance(space, spaces.Box), "make_env gives no other"
    centre, half = _centre_half(space)
    locked = half == 0
    values = (np.asarray(actions, np.float64) - centre) / np.where(locked, 1.0, half)
    return np.where(locked, 0.0, values).astype(np.float32)


def environment_action_space(env: gymnasium.Env) -> spaces.Space:
    """The action space in the environment's own units, of an environment from `make_env`."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, PolicyActions):
            return env.env.action_space
        env = env.env
    return env.action_space


class PolicyActions(gymnasium.ActionWrapper):
    """Takes (A,) float32 in [-1, 1], or an index 0..n-1, whatever bounds, shape or first index the environment has.

    Args:
        env: with a bounded float Box or a Discrete action space.

    Raises:
        EnvironmentFault: from `step`, an action that can't be in these units. An environment whose units are the same
            gets every action as it is.
    """

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        space = self._space = env.action_space
        self._same = False
        if isinstance(space, spaces.Discrete):
            self.action_space = spaces.Discrete(int(space.n))
        else:
            assert isinstance(space, spaces.Box), "make_env gives no other"
            self.action_space = spaces.Box(-1.0, 1.0, (int(np.prod(space.shape)),), np.float32)
            self._same = space == self.action_space
            self._mapping = _centre_half(space)

    def action(self, action):
        """The action in the environment's units."""
        if self._same:
            return np.array(action)  # a copy: some environments change it, and the caller stores it
        if isinstance(self._space, spaces.Box):
            if (np.abs(action) > 1 + TOLERANCE).any():
                raise _other_unit(np.max(np.abs(action)), "-1 to 1")
            return _map(self._space, *self._mapping, action).reshape(self._space.shape)
        assert isinstance(self._space, spaces.Discrete), "make_env gives no other"
        if self._space.start and not 0 <= action < self._space.n:
            raise _other_unit(action, f"0..{self._space.n - 1}")
        return to_environment(self._space, action)


def _other_unit(action, known: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"action {float(np.max(action)):.4g} is not in {known}: an environment of make_env takes the policy's units, "
        "not its own; for actions of load_policy, which are in the environment's own, use policy.make_env()"
    )


def _map(space: spaces.Box, centre: np.ndarray, half: np.ndarray, actions: np.ndarray) -> np.ndarray:
    values = centre + half * np.asarray(actions, np.float64)
    return np.minimum(np.maximum(values, space.low.ravel()), space.high.ravel()).astype(space.dtype)


def _centre_half(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """(A,) middle and half width of the bounds; with ±1 and ±2 the mapping is exact."""
    low, high = space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)
    return (low + high) / 2, (high - low) / 2
