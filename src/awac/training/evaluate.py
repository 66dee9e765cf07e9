"""Evaluation: full episodes of the policy's mode, several environments stepped together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits


@dataclass(frozen=True)
class Evaluation:
    """Returns of the evaluation's episodes.

    Attributes:
        returns: (E,) undiscounted returns.
        falls: share of episodes that terminated before the time limit.
    """

    returns: np.ndarray
    falls: float

    @property
    def mean(self) -> float:
        return float(self.returns.mean())


class Evaluator:
    """Runs one episode in each of several environments, one policy call a step for all that are still running.

    Args:
        make: makes one environment.
        episodes: how many.
        seed: the episodes' reset seeds are derived from it and are the same at every evaluation.
    """

    def __init__(self, make, episodes: int, seed: int):
        self._envs = [make() for _ in range(episodes)]
        self._seeds = [int(s) for s in np.random.SeedSequence([seed, 7]).generate_state(episodes)]

    @threadpool_limits.wrap(limits=1, user_api="blas")  # numpy's rounding depends on its number of threads
    def __call__(self, choose) -> Evaluation:
        """Evaluates `choose`, which maps observations (B, O) to B actions."""
        returns = np.zeros(len(self._envs))
        terminations = np.zeros(len(self._envs), bool)
        running = list(range(len(self._envs)))
        observations = np.stack([env.reset(seed=s)[0] for env, s in zip(self._envs, self._seeds, strict=True)])
        while running:
            actions = choose(observations[running])
            for i, action in zip(list(running), actions, strict=True):
                observations[i], reward, terminated, truncated, _ = self._envs[i].step(action)
                returns[i] += reward
                if terminated or truncated:
                    terminations[i] = terminated
                    running.remove(i)
        return Evaluation(returns, float(terminations.mean()))

    def close(self) -> None:
        """Closes the environments."""
        for env in self._envs:
            env.close()
