"""Observation normaliser: fitted once on the offline data, then frozen and stored with the checkpoint."""

from __future__ import annotations

import numpy as np

from awac.errors import CheckpointError, DataError

CLIP = 10.0
PREFIX = "normalizer."
"""Of its arrays' names in a checkpoint."""
# A column is constant if its range is below 4 float32 rounding steps of its largest value, or below what cancellation
# in double precision leaves of values near 1.
_ROUNDING_STEPS = 4
_SMALLEST = 1e-14
# The part of a mean that float32 can't hold is kept if dropping it would shift the result by more than this many stds.
_SHIFT = 1e-3
_BLOCK = 65536


class Normalizer:
    """Drops constant columns, then (o − mean) / std, clipped to ±10.

    The Ant's 84 contact-force columns are always 0: without them the networks' first layers are four times smaller.

    Args:
        columns: (size,) int64, kept columns of the raw observation.
        mean: (size,) float32.
        std: (size,) float32, all positive.
        obs_size: O, length of a raw observation.
        mean_rest: (size,) float32, exact mean minus float32 mean; None for zeros. It matters for columns with a large
            offset, such as 450000 ± 0.3.
    """

    def __init__(
        self,
        columns: np.ndarray,
        mean: np.ndarray,
        std: np.ndarray,
        obs_size: int,
        mean_rest: np.ndarray | None = None,
    ):
        self.columns, self.mean, self.std, self.obs_size, self.mean_rest = columns, mean, std, obs_size, mean_rest
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
        columns = np.flatnonzero(varying_columns(observations))
        if len(columns) == 0:
            raise DataError("every observation column is constant; there is nothing to learn from")
        kept = observations if len(columns) == observations.shape[1] else observations[:, columns]
        exact_mean = kept.mean(axis=0, dtype=np.float64)
        squares = np.zeros_like(exact_mean)
        for start in range(0, len(kept), _BLOCK):  # float64 copies of a block only, not of the whole data set
            squares += np.square(kept[start : start + _BLOCK] - exact_mean).sum(axis=0)
        std = np.sqrt(squares / len(kept))
        # A rare event in a column with a large offset can have a std below one rounding step.
        mean = exact_mean.astype(np.float32)
        std = np.maximum(std, np.spacing(np.abs(mean))).astype(np.float32)
        rest = exact_mean - mean
        rest[np.abs(rest) < _SHIFT * std] = 0.0
        return cls(columns, mean, std, observations.shape[1], rest.astype(np.float32) if rest.any() else None)

    @classmethod
    def identity(cls, obs_size: int) -> Normalizer:
        """Keeps all columns, mean 0, std 1 (the clip remains)."""
        return cls(np.arange(obs_size), np.zeros(obs_size, np.float32), np.ones(obs_size, np.float32), obs_size)

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Normalises raw observations (..., O) to (..., size) float32, a new array."""
        observations = np.asarray(observations, np.float32)
        if observations.shape[-1] != self.obs_size:
            size = observations.shape[-1]
            raise DataError(f"observations have {size} values, the normaliser was fitted to {self.obs_size}")
        kept = observations if self._all else observations[..., self.columns]
        out = kept - self.mean
        if self.mean_rest is not None:
            out -= self.mean_rest
        out /= self.std
        return np.clip(out, -CLIP, CLIP, out=out)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything needed to rebuild it with `from_arrays`."""
        arrays = {
            "columns": self.columns.astype(np.int64),
            "mean": self.mean,
            "std": self.std,
            "obs_size": np.asarray(self.obs_size, np.int64),
        }
        return arrays if self.mean_rest is None else {**arrays, "mean_rest": self.mean_rest}

    def describe(self) -> str:
        """`84 of 111 observation columns are constant and not used (27-110)`, or that all are used."""
        return describe_columns(np.isin(np.arange(self.obs_size), self.columns))

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Normalizer:
        """Rebuilds a normaliser from `arrays()`.

        Raises:
            CheckpointError: arrays are missing or do not fit each other.
        """
        try:
            columns, mean, std = (np.asarray(arrays[key]) for key in ("columns", "mean", "std"))
            obs_size = int(arrays["obs_size"])
            rest = np.asarray(arrays["mean_rest"], np.float32) if "mean_rest" in arrays else None
        except KeyError as error:
            raise CheckpointError(f"the normaliser's {error} is missing from the checkpoint") from None
        sound = columns.ndim == 1 and columns.shape == mean.shape == std.shape and len(columns) > 0
        if not sound or columns.min() < 0 or columns.max() >= obs_size or not (std > 0).all():
            raise CheckpointError("the normaliser's arrays in the checkpoint do not fit each other")
        if rest is not None and rest.shape != mean.shape:
            raise CheckpointError("the normaliser's arrays in the checkpoint do not fit each other")
        return cls(columns.astype(np.int64), mean.astype(np.float32), std.astype(np.float32), obs_size, rest)

    @classmethod
    def from_policy(cls, arrays: dict[str, np.ndarray]) -> Normalizer:
        """Rebuilds the normaliser that a checkpoint keeps with its policy, each array under `normalizer.NAME`.

        Raises:
            CheckpointError: as `from_arrays`.
        """
        names = [name for name in arrays if name.startswith(PREFIX)]
        return cls.from_arrays({name.removeprefix(PREFIX): arrays[name] for name in names})


def varying_columns(observations: np.ndarray) -> np.ndarray:
    """(O,) bool: which columns of (N, O) observations hold more than float32 rounding noise.

    The rule is relative to a column's size, so that neither a small unit (5e-7) nor a large offset (450000 ± 0.3) makes
    a column constant.
    """
    low, high = observations.min(axis=0), observations.max(axis=0)
    step = np.spacing(np.maximum(np.abs(low), np.abs(high)).astype(np.float32)).astype(np.float64)
    return high.astype(np.float64) - low > np.maximum(_ROUNDING_STEPS * step, _SMALLEST)


def describe_columns(used: np.ndarray) -> str:
    """Describes the columns that a mask leaves out; consecutive columns as ranges."""
    constant = np.flatnonzero(~used)
    if len(constant) == 0:
        return "every observation column varies"
    runs = np.split(constant, np.flatnonzero(np.diff(constant) > 1) + 1)
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    listed = ", ".join(parts[:10]) + (f", and {len(parts) - 10} more ranges" if len(parts) > 10 else "")
    verb = "column is" if len(used) == 1 else "columns are"
    return f"{len(constant)} of {len(used)} observation {verb} constant and not used ({listed})"
