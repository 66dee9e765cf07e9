"""The environment episode under way in training, and its restoration after a restart.

A simulator's state can't be copied in general. A checkpoint therefore holds the episode's reset seed and its actions so
far; a resumed run resets with that seed and repeats them, and so does a run whose only environment was evaluated in. It
stops at the first observation that is another than before: a machine that was reset elsewhere must not be sent the old
actions. Then, or if the environment takes no seed, the episode is dropped: the log says so once.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

from awac.algorithm.mindrl import COLLECT
from awac.errors import CheckpointError


class Row(NamedTuple):
    """One environment step; `episode_return` is None unless the episode ended with it."""

    observation: np.ndarray
    action: np.ndarray
    reward: float
    next_observation: np.ndarray
    terminated: bool
    episode_return: float | None


class Rollout:
    """Steps the actor's environment, one environment episode after the other.

    Args:
        actor: an AWACActor, whose `use` sets the policy.
        seeds: generator of the reset seeds.

    Attributes:
        begun: whether the environment was ever reset.
    """

    def __init__(self, actor, seeds: np.random.Generator):
        self._actor, self._seeds = actor, seeds
        self._seed, self._repeats = 0, actor.environment.seedable
        self._next_seed: int | None = None
        self._observation: np.ndarray | None = None
        self._return = 0.0
        self._actions: list[np.ndarray] = []
        self._sums: list[int] = []  # of the observations: one before each action, and the last
        self._said = self.begun = False

    def step(self, rng: np.random.Generator) -> Row:
        """One step with the actor's policy; begins an episode if none is under way.

        Raises:
            EnvironmentFault: the environment failed; the episode is abandoned.
        """
        if self._observation is None:
            if self._next_seed is None:
                self._next_seed = int(self._seeds.integers(2**31))
            self._observation, self._next_seed = self._begin(self._next_seed), None  # kept if it can't be reset yet
        observation, self._observation = self._observation, None  # abandoned if the next line raises
        action, reward, next_observation, done, terminated = self._actor.act(COLLECT, (observation, rng))
        self._return += reward
        self._actions.append(np.asarray(action))
        self._sums.append(_checksum(next_observation))
        if not done:
            self._observation = next_observation
        episode_return = self._return if done else None
        return Row(observation, action, reward, next_observation, terminated, episode_return)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Seed, actions, observation, checksums and return of the episode under way; nothing between two episodes."""
        if self._observation is None:
            return {}
        return {
            "seed": np.array(self._seed, np.int64),
            "actions": np.array(self._actions),
            "observation": np.array(self._observation),
            "checksums": np.array(self._sums, np.uint32),
            "return": np.array(self._return, np.float64),
        }

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Restores the episode by repeating its actions.

        Raises:
            CheckpointError: the state is incomplete.
            EnvironmentFault: the environment failed.
        """
        self._observation = None
        if not state:
            return
        try:
            seed, actions = int(state["seed"]), state["actions"]
            observation, total = state["observation"], float(state["return"])
            sums = state.get("checksums")  # a checkpoint of an earlier version has none
            if sums is not None and len(sums) != len(actions) + 1:
                raise ValueError(f"{len(sums)} checksums of {len(actions)} actions")
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the state of its environment episode is damaged ({error})") from None
        if self._repeats:
            reached, done, self._repeats = self._begin(seed), False, False
            for i, action in enumerate(actions):
                if done or (sums is not None and self._sums[i] != sums[i]):
                    break
                reached, _, done, _ = self._actor.environment.step(action)
                self._sums.append(_checksum(reached))
            else:
                self._repeats = not done and np.array_equal(reached, observation)
        if self._repeats:
            self._observation, self._return, self._actions = reached, total, list(actions)
        elif not self._said:
            self._said = True
            print(
                "Warning: the environment does not repeat an episode from its seed and actions. After an evaluation in "
                "it, or a restart, the episode under way is dropped, so the run differs from one without them",
                flush=True,
            )

    def _begin(self, seed: int) -> np.ndarray:
        environment = self._actor.environment
        environment.set_seed(seed)
        self._seed, self._return, self._actions = seed, 0.0, []
        observation = environment.reset()
        self._sums, self.begun = [_checksum(observation)], True
        return observation


def _checksum(observation) -> int:
    return zlib.crc32(np.asarray(observation).tobytes())
