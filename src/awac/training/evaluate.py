"""Evaluation: full episodes of the policy's mode, several environments stepped together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gymnasium
import numpy as np
from threadpoolctl import threadpool_limits

from awac.errors import EnvironmentFault, TaskError
from awac.training.progress import bar


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
    """Runs episodes in several environments, one policy call per step for all that are still running.

    Where fewer environments than episodes can be made (a robot, a licence), the episodes share those there are.

    Args:
        make: makes one environment, as `make_env` does.
        episodes: how many.
        seed: the episodes' reset seeds are derived from it and are the same at every evaluation.
        spare: an environment to use where `make` can't make a single one; it is left open.

    Attributes:
        uses_spare: whether `spare` is used, which loses an episode under way in it.

    Raises:
        TaskError: no environment can be made and there is no spare one.
    """

    def __init__(self, make: Callable[[], gymnasium.Env], episodes: int, seed: int, spare: gymnasium.Env | None = None):
        self._own: list[gymnasium.Env] = []
        try:
            while len(self._own) < episodes:
                self._own.append(make())
        except TaskError as error:
            if not self._own and spare is None:
                raise
            count = f"only {len(self._own)} of {episodes}" if self._own else "no more"
            print(f"Evaluation: {count} environments can be made ({error}); its episodes run in turn", flush=True)
        self.uses_spare = not self._own
        self._envs = self._own if spare is None or self._own else [spare]
        self._seeds = [int(s) for s in np.random.SeedSequence([seed, 7]).generate_state(episodes)]

    @threadpool_limits.wrap(limits=1, user_api="blas")  # numpy's rounding depends on its number of threads
    def __call__(self, choose: Callable[[np.ndarray], np.ndarray]) -> Evaluation:
        """Evaluates `choose`, which maps observations (B, O) to B actions.

        Raises:
            EnvironmentFault: an environment failed, or a return is not finite.
        """
        returns, terminations = np.zeros(len(self._seeds)), np.zeros(len(self._seeds), bool)
        space = self._envs[0].observation_space
        observations = np.zeros((len(self._envs), *(space.shape or ())), space.dtype)
        waiting = iter(enumerate(self._seeds))
        running: dict[int, int] = {}  # environment → episode

        def begin(i: int) -> None:
            running.pop(i, None)
            for episode, seed in waiting:
                running[i] = episode
                observations[i] = self._envs[i].reset(seed=seed)[0]
                break

        for i in range(len(self._envs)):
            begin(i)
        with bar(len(self._seeds), "evaluating", "episodes") as progress:
            while running:
                actions = choose(observations[list(running)])
                for (i, episode), action in zip(list(running.items()), actions, strict=True):
                    observations[i], reward, terminated, truncated, _ = self._envs[i].step(action)
                    returns[episode] += reward
                    if terminated or truncated:
                        terminations[episode] = terminated
                        progress.update()
                        begin(i)
        if not np.isfinite(returns).all():
            raise EnvironmentFault(f"evaluation: the return of episode {int(np.isfinite(returns).argmin())} overflows")
        return Evaluation(returns, float(terminations.mean()))

    def close(self) -> None:
        """Closes the environments that it made."""
        for env in self._own:
            env.close()
