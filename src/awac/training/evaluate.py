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

    Where fewer environments than episodes can be made and reset (a robot, a licence), the episodes share those there
    are.

    Args:
        make: makes one environment, as `make_env` does.
        episodes: how many.
        seed: the episodes' reset seeds, below 2**32, are derived from it and are the same at every evaluation.
        spare: an environment to use where there is no other; it is left open.

    Attributes:
        uses_spare: whether `spare` is used, which loses an episode under way in it.

    Raises:
        TaskError: no environment can be made and there is no spare one.
    """

    def __init__(self, make: Callable[[], gymnasium.Env], episodes: int, seed: int, spare: gymnasium.Env | None = None):
        self._own: list[gymnasium.Env] = []
        self._spare, self._begun = spare, False
        try:
            while len(self._own) < episodes:
                self._own.append(make())
        except TaskError as error:
            if not self._own and spare is None:
                raise
            count = f"only {len(self._own)} of {episodes}" if self._own else "no more"
            print(f"Evaluation: {count} environments can be made ({error}); its episodes run in turn", flush=True)
        except BaseException:  # Ctrl-C
            self.close()
            raise
        self._seeds = [int(s) for s in np.random.SeedSequence([seed, 7]).generate_state(episodes)]

    @property
    def uses_spare(self) -> bool:
        return not self._own

    @property
    def _envs(self) -> list[gymnasium.Env]:
        return self._own if self._own or self._spare is None else [self._spare]

    def give_up(self, keep: int, reason: Exception) -> bool:
        """Closes all but the first `keep` of its environments; False if there are no more, or no other is left.

        Args:
            keep: how many.
            reason: why there can't be more, for the log.
        """
        if keep >= len(self._own) or (not keep and self._spare is None):
            return False
        for env in self._own[keep:]:
            env.close()
        del self._own[keep:]
        count = f"only {keep} of {len(self._seeds)}" if keep else "no more"
        print(f"Evaluation: {count} environments can be reset ({reason}); its episodes run in turn", flush=True)
        return True

    @threadpool_limits.wrap(limits=1, user_api="blas")  # numpy's rounding depends on its number of threads
    def __call__(self, choose: Callable[[np.ndarray], np.ndarray]) -> Evaluation:
        """Evaluates `choose`, which maps observations (B, O) to B actions.

        Raises:
            EnvironmentFault: an environment failed, or a return is not finite.
        """
        returns, terminations = np.zeros(len(self._seeds)), np.zeros(len(self._seeds), bool)
        envs, waiting = self._envs, iter(enumerate(self._seeds))
        space = envs[0].observation_space
        observations = np.zeros((len(envs), *(space.shape or ())), space.dtype)
        running: dict[int, int] = {}  # environment → episode

        def begin(i: int) -> None:
            running.pop(i, None)
            for episode, seed in waiting:
                running[i] = episode
                observations[i] = envs[i].reset(seed=seed)[0]
                break

        try:
            for i in range(len(envs)):
                begin(i)
        except EnvironmentFault as error:
            # Some connect to what there is one of in their first reset. Training, which may begin later, needs one.
            working = len(running) - 1
            if self._begun or not self.give_up(working if self._spare is None else max(working - 1, 0), error):
                raise
            return self(choose)
        self._begun = True
        with bar(len(self._seeds), "evaluating", "episodes") as progress:
            while running:
                actions = choose(observations[list(running)])
                for (i, episode), action in zip(list(running.items()), actions, strict=True):
                    observations[i], reward, terminated, truncated, _ = envs[i].step(action)
                    returns[episode] += reward
                    if terminated or truncated:
                        terminations[episode] = terminated and not truncated  # in its last step nothing is early
                        progress.update()
                        begin(i)
        if not np.isfinite(returns).all():
            raise EnvironmentFault(f"evaluation: the return of episode {int(np.isfinite(returns).argmin())} overflows")
        return Evaluation(returns, float(terminations.mean()))

    def close(self) -> None:
        """Closes the environments that it made."""
        for env in self._own:
            env.close()
