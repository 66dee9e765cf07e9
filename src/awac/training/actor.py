"""AWACActor: acts in the environment on a numpy copy of the policy."""

from __future__ import annotations

import numpy as np

from awac.algorithm.mindrl import COLLECT, Actor
from awac.algorithm.numpy_critic import NumpyCritic
from awac.algorithm.numpy_policy import NumpyPolicy


class AWACActor(Actor):
    """Chooses actions, and steps the collect environment with them.

    Args:
        params: as mindspore-rl wires them: `collect_environment` is the one that `act` steps.

    Attributes:
        optimistic: whether the critic chooses while collecting.
    """

    def __init__(self, params=None):
        super().__init__()
        self.environment = params["collect_environment"]
        self._policy: NumpyPolicy | None = None
        self._critic: NumpyCritic | None = None
        self._candidates = 1
        self.optimistic = True

    def use(self, policy: NumpyPolicy, critic: NumpyCritic | None = None, candidates: int = 1) -> None:
        """Acts with these weights from now on.

        Args:
            policy: draws the actions.
            critic: chooses among them while collecting; None takes the first.
            candidates: actions drawn at each step, if there is a critic.
        """
        self._policy, self._critic = policy, critic
        self._candidates = candidates if critic else 1

    def get_action(self, phase, params):
        """Actions without a step of the environment.

        Args:
            phase: COLLECT samples, EVAL takes the mode.
            params: (observations (B, O) raw, numpy generator).

        Returns:
            (B, A) actions in [−1, 1], or (B,) indices.
        """
        observations, rng = params
        assert self._policy is not None, "call use() first"
        return self._policy(observations, rng if phase == COLLECT else None)

    def act(self, phase, params):
        """One step of the collect environment.

        Args:
            phase: as for `get_action`.
            params: (observation (O,) raw, numpy generator).

        Returns:
            (action, reward, next observation, done, terminated).
        """
        observation, rng = params
        copies = self._candidates if phase == COLLECT and self.optimistic else 1
        actions = self.get_action(phase, (np.repeat(np.asarray(observation)[None], copies, axis=0), rng))
        if self.environment.locked is not None:
            actions[:, self.environment.locked] = 0.0  # as in the data's rows, whatever is drawn
        best = int(self._critic(observation, actions).argmax()) if self._critic and copies > 1 else 0
        action = actions[best]
        next_observation, reward, done, terminated = self.environment.step(action)
        return action, float(reward), next_observation, bool(done), bool(terminated)
