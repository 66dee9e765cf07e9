"""Whether an environment episode of training is optimistic: several actions are drawn, the critics choose."""

from __future__ import annotations

import numpy as np

from awac.errors import CheckpointError

WINDOW = 20
"""Own episodes whose returns are remembered."""


class Optimism:
    """Decides it from the returns of the run's own episodes.

    Optimistic episodes (O3F, Mark et al. 2022) find what the data lack; where the data are an expert's, the critics
    prefer what they overrate, and the episodes return less than the policy's own. So of the last episodes one of
    either kind is drawn, and the larger return decides (Thompson sampling from the empirical returns). A kind that has
    not been among them is tried, since the policy changes.

    Attributes:
        active: whether the episode under way is optimistic.
    """

    def __init__(self) -> None:
        self.active = False
        self._last: list[tuple[bool, float]] = []

    def finished(self, episode_return: float, rng: np.random.Generator) -> None:
        """Takes the return of the episode that ended, and decides the next one."""
        self._last = [*self._last, (self.active, episode_return)][-WINDOW:]
        plain, best = ([value for kind, value in self._last if kind is wanted] for wanted in (False, True))
        if not plain or not best:
            self.active = not best
            return
        ahead = best[rng.integers(len(best))] - plain[rng.integers(len(plain))]
        self.active = bool(ahead > 0 or (ahead == 0 and rng.random() < 0.5))

    def state_dict(self) -> dict[str, np.ndarray]:
        """What `load_state_dict` needs."""
        kinds, returns = ([row[i] for row in self._last] for i in (0, 1))
        return {
            "active": np.array(self.active),
            "kinds": np.array(kinds, bool),
            "returns": np.array(returns, np.float64),
        }

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """The inverse of `state_dict`; a checkpoint of an older version has none.

        Raises:
            CheckpointError: the state is damaged.
        """
        if not state:
            return
        try:
            self._last = [(bool(kind), float(x)) for kind, x in zip(state["kinds"], state["returns"], strict=True)]
            self.active = bool(state["active"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the returns of its episodes are damaged ({error})") from None
