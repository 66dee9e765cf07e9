"""The container that every data source fills: plain arrays of transitions, checked once."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from gymnasium import spaces

from awac.errors import DataError

# How far a recorded action may lie outside the bounds; float32 rounding of tanh-squashed actions stays far below.
BOUND_TOLERANCE = 1e-4
_WRONG_TASK = "wrong task? Name the data's own with --task, or give --no_env"


@dataclass(frozen=True, eq=False)
class Transitions:
    """N rows (s, a, r, s') in recording order.

    Attributes:
        observations: (N, O) float32.
        actions: (N, A) float32, or (N,) int32 for discrete actions.
        rewards: (N,) float32.
        next_observations: (N, O) float32; has no meaning where `terminated`.
        terminated: (N,) bool; the task ended here, so nothing is bootstrapped.
        truncated: (N,) bool; the recording of the episode ends here although the task went on.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def obs_size(self) -> int:
        return self.observations.shape[1]

    @property
    def discrete(self) -> bool:
        return self.actions.ndim == 1

    @property
    def action_size(self) -> int | None:
        """Length of the action vector; None for discrete actions, whose number only the environment knows."""
        return None if self.discrete else self.actions.shape[1]

    def episode_returns(self) -> np.ndarray:
        """Undiscounted return of each episode, (E,) float64; rows after the last episode end count as one more."""
        ends = np.flatnonzero(self.terminated | self.truncated) + 1
        starts = np.concatenate([[0], ends])
        starts = starts[starts < len(self)]
        return np.add.reduceat(self.rewards.astype(np.float64), starts) if len(starts) else np.zeros(0)

    def check(self, source: str) -> Transitions:
        """Returns itself if shapes, lengths and values are valid.

        Args:
            source: file or data set name for the error message.

        Raises:
            DataError: says which field and, for NaN or infinity, the first row.
        """
        if len(self) == 0:
            raise DataError(f"{source}: holds no rows; record or download it again")
        for field in fields(self):
            values = getattr(self, field.name)
            dims = {"observations": 2, "next_observations": 2, "actions": 1 if self.discrete else 2}.get(field.name, 1)
            if values.ndim != dims or 0 in values.shape[1:]:
                expected = "(N, D)" if dims == 2 else "(N,)"
                raise DataError(f"{source}: {field.name} has shape {values.shape}; expected {expected}")
            if len(values) != len(self):
                rows = f"{len(values)} rows but rewards has {len(self)}"
                raise DataError(f"{source}: {field.name} has {rows}; record it again")
            if values.dtype.kind == "f":
                self._check_finite(source, field.name, values)
        columns = self.next_observations.shape[1]
        if columns != self.obs_size:
            raise DataError(f"{source}: next_observations has {columns} columns but observations has {self.obs_size}")
        return self

    @staticmethod
    def _check_finite(source: str, name: str, values: np.ndarray) -> None:
        # A sum is finite only if every term is: the common case needs no temporary the size of the data.
        with np.errstate(invalid="ignore"):
            if np.isfinite(values.sum(dtype=np.float64)):
                return
        bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if bad.any():
            first = int(bad.argmax())
            raise DataError(f"{source}: {name} has NaN or infinite values, first in row {first}; remove those rows")

    def check_env(
        self, source: str, observation_space: spaces.Space, action_space: spaces.Space, task: str = ""
    ) -> Transitions:
        """Returns itself if the rows can come from an environment with these spaces.

        Args:
            source: file or data set name for the error message.
            observation_space: a Box vector.
            action_space: as `make_env` gives it, so a Box is bounded by [-1, 1].
            task: its name for the error message.

        Raises:
            DataError: sizes differ, actions are of the other kind, or outside the bounds by more than BOUND_TOLERANCE.
        """
        check_observations(source, self.obs_size, observation_space, task)
        if isinstance(action_space, spaces.Discrete):
            self._check_discrete(source, int(action_space.n))
            return self
        assert isinstance(action_space, spaces.Box), "make_env gives no other"
        size = action_space.shape[0]
        if self.discrete or self.action_size != size:
            kind = "discrete" if self.discrete else f"vectors of {self.action_size} values"
            raise DataError(f"{source}: actions are {kind} but {_of(task)} takes vectors of {size}; {_WRONG_TASK}")
        low, high = action_space.low - BOUND_TOLERANCE, action_space.high + BOUND_TOLERANCE
        outside = ((self.actions < low) | (self.actions > high)).any(axis=1)
        if outside.any():
            raise DataError(
                f"{source}: {int(outside.sum())} actions are outside the task's bounds, first in row "
                f"{int(outside.argmax())}: they reach from {self.actions.min():.4g} to {self.actions.max():.4g}; "
                "scale them to [-1, 1] (load_dataset does it where it is given the task)"
            )
        return self

    def _check_discrete(self, source: str, count: int) -> None:
        if not self.discrete:
            raise DataError(f"{source}: actions are vectors but the task's are discrete; store integers of shape (N,)")
        outside = (self.actions < 0) | (self.actions >= count)
        if outside.any():
            row = int(outside.argmax())
            action = self.actions[row]
            raise DataError(f"{source}: action {action} in row {row} is not one of the task's 0..{count - 1}")


def check_observations(source: str, size: int, observation_space: spaces.Space, task: str = "") -> None:
    """Checks the number of values in an observation.

    Raises:
        DataError: the task's number differs.
    """
    assert isinstance(observation_space, spaces.Box), "make_env gives no other"
    expected = observation_space.shape[0]
    if size != expected:
        raise DataError(f"{source}: observations have {size} values but those of {_of(task)} {expected}; {_WRONG_TASK}")


def _of(task: str) -> str:
    return f"the task {task}" if task else "the task"
