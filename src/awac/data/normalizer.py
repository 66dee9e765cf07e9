"""Observation normaliser: fitted once on the offline data, then frozen and stored with the checkpoint."""

from __future__ import annotations

import numpy as np

from awac.errors import CheckpointError, DataError

CLIP = 10.0
STD_FLOOR = 1e-3
# A column whose std is below this, relative to its mean's size (at least 1), is constant but for rounding.
CONSTANT = 1e-6
_BLOCK = 65536


class Normalizer:
    """Drops constant columns, then (o − mean) / std, clipped to ±10.

    The Ant's 84 contact-force columns are always 0: without them the networks' first layers are four times smaller.

    Args:
        columns: (size,) int64, kept columns of the raw observation.
        mean: (size,) float32.
        std: (size,) float32, all positive.
        obs_size: O, length of a raw observation.
    """

    def __init__(self, columns: np.ndarray, mean: np.ndarray, std: np.ndarray, obs_size: int):
        self.columns, self.mean, self.std, self.obs_size = columns, mean, std, obs_size
        self._all = len(columns) == obs_size

    @property
    def size(self) -> int:
        """Number of kept columns."""
        return len(self.columns)

    @classmethod
    def fit(cls, observations: np.ndarray) -> Normalizer:
        """Fits mean and standard deviation to observations of shape (N, O).

        Raises:
            DataError: no rows, or no column that varies.
        """
        if len(observations) == 0:
            raise DataError("the normaliser needs at least one observation")
        mean = observations.mean(axis=0, dtype=np.float64)
        squares = np.zeros_like(mean)
        for start in range(0, len(observations), _BLOCK):  # float64 copies of a block only, not of the whole data set
            squares += np.square(observations[start : start + _BLOCK] - mean).sum(axis=0)
        std = np.sqrt(squares / len(observations))
        columns = np.flatnonzero(std > CONSTANT * np.maximum(np.abs(mean), 1.0))
        if len(columns) == 0:
            raise DataError("every observation column is constant; there is nothing to learn from")
        std = np.maximum(std[columns], STD_FLOOR)
        return cls(columns, mean[columns].astype(np.float32), std.astype(np.float32), observations.shape[1])

    @classmethod
    def identity(cls, obs_size: int) -> Normalizer:
        """Keeps all columns, mean 0, std 1 (the clip remains)."""
        return cls(np.arange(obs_size), np.zeros(obs_size, np.float32), np.ones(obs_size, np.float32), obs_size)

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Normalises raw observations (..., O) to (..., size) float32, a new array."""
        observations = np.asarray(observations, np.float32)
        if observations.shape[-1] != self.obs_size:
            found = observations.shape[-1]
            raise DataError(f"observations have {found} values, the normaliser was fitted to {self.obs_size}")
        kept = observations if self._all else observations[..., self.columns]
        out = kept - self.mean
        out /= self.std
        return np.clip(out, -CLIP, CLIP, out=out)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything needed to rebuild it with `from_arrays`."""
        return {
            "columns": self.columns.astype(np.int64),
            "mean": self.mean,
            "std": self.std,
            "obs_size": np.asarray(self.obs_size, np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Normalizer:
        """Rebuilds a normaliser from `arrays()`.

        Raises:
            CheckpointError: arrays are missing or do not fit each other.
        """
        try:
            columns, mean, std = (np.asarray(arrays[key]) for key in ("columns", "mean", "std"))
            obs_size = int(arrays["obs_size"])
        except KeyError as error:
            raise CheckpointError(f"the normaliser's {error} is missing from the checkpoint") from None
        sound = columns.ndim == 1 and columns.shape == mean.shape == std.shape and len(columns) > 0
        if not sound or columns.min() < 0 or columns.max() >= obs_size or not (std > 0).all():
            raise CheckpointError("the normaliser's arrays in the checkpoint do not fit each other")
        return cls(columns.astype(np.int64), mean.astype(np.float32), std.astype(np.float32), obs_size)
