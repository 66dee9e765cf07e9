"""Whether an environment episode of training is optimistic: several actions are drawn, the critics choose."""

from __future__ import annotations

import numpy as np

from awac.errors import CheckpointError

KEPT = 10
"""Episodes of either kind whose returns are remembered."""


class Optimism:
    """Decides it from the returns of the run's own episodes.

    Optimistic episodes (O3F, Mark et al. 2022) find what the data lack; where the data are an expert's, the critics
    prefer what they overrate, and the episodes return less than the policy's own. So one of the last ten returns of
    either kind is drawn, and the larger decides (Thompson sampling from the empirical returns): what pays is done more
    often, and the other is tried as long as it may be better.

    Attributes:
        active: whether the episode under way is optimistic.
    """

    def __init__(self) -> None:
        self.active = False
        self._returns: dict[bool, list[float]] = {False: [], True: []}

    def finished(self, episode_return: float, rng: np.random.Generator) -> None:
        """Takes the return of the episode that ended, and decides the next one."""
        mine = self._returns[self.active]
        mine.append(episode_return)
        del mine[:-KEPT]
        plain, best = self._returns[False], self._returns[True]
        if plain and best:
            self.active = best[rng.integers(len(best))] > plain[rng.integers(len(plain))]
        else:
            self.active = not self.active

    def state_dict(self) -> dict[str, np.ndarray]:
        """What `load_state_dict` needs."""
        return {
            "active": np.array(self.active),
            "plain": np.array(self._returns[False], np.float64),
            "best": np.array(self._returns[True], np.float64),
        }

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """The inverse of `state_dict`; a checkpoint of an older version has none.

        Raises:
            CheckpointError: the state is damaged.
        """
        if not state:
            return
        try:
            self._returns = {key: [float(x) for x in state[name]] for key, name in ((False, "plain"), (True, "best"))}
            self.active = bool(state["active"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the returns of its episodes are damaged ({error})") from None
