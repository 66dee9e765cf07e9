"""What float32, in which training holds the data, loses of wider numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

_ROWS, _BYTES, _BLOCKS = 20_000, 32 << 20, 20
"""Rows looked at, at most so many bytes of them, and the blocks in which they are read: files may be larger than
memory."""
_LARGE = 64 << 20
"""Bytes of a chunk of an HDF5 file, which is unpacked for each block in it, from which on one block has to do."""
_FINE = 1000
"""Steps of float32 over a column's range from which on its rounding does no harm."""
_NOISE = 1e-12
"""Range, as a share of a column's size, that may be the rounding of double precision."""


_LABELS = {"observations": "observation column {}", "actions": "action column {}", "rewards": "the reward"}
_LOOKED_AT = 1000
"""Numbers whose digits are compared."""


@dataclass
class Losses:
    """What float32 loses of a file's columns.

    Attributes:
        warnings: columns of observations, actions and rewards whose values become fewer; one line each.
        rounded: keys with numbers of more digits than float32 holds.
    """

    warnings: list[str] = field(default_factory=list)
    rounded: list[str] = field(default_factory=list)

    def look(self, name: str | None, values, turned: bool = False) -> None:
        """Adds what is lost of one key.

        Args:
            name: D4RL's name of it; None for a key that is not looked at.
            values: (N, D) or (N,), an array or an HDF5 data set.
            turned: they are (D, N).
        """
        if name is None or (sample := _sample(values, turned)) is None:
            return
        if name in _LABELS and (text := _fewer(sample, values.shape[-1 if turned else 0], _LABELS[name])):
            self.warnings.append(text)
        if _more_digits(sample):
            self.rounded.append(name)


def _sample(values, turned: bool) -> np.ndarray | None:
    """(n, D) float64 of evenly spaced rows; None for types that float32 holds."""
    if values.dtype.kind not in "iuf" or values.dtype.itemsize < (8 if values.dtype.kind == "f" else 4):
        return None
    count, chunk = values.shape[-1 if turned else 0], math.prod(getattr(values, "chunks", None) or (0,))
    rows = min(_ROWS, max(_BLOCKS, _BYTES * count // (8 * max(1, math.prod(values.shape)))))
    number = 1 if count <= rows or chunk * values.dtype.itemsize > _LARGE else _BLOCKS
    size = min(count, rows // number)
    starts = np.linspace(0, count - size, number).astype(int).tolist()
    blocks = [values[..., i : i + size].T if turned else values[i : i + size] for i in starts]
    return np.concatenate(blocks).reshape(size * len(starts), -1).astype(np.float64, copy=False)


def _more_digits(sample: np.ndarray) -> bool:
    """Whether a number is none that float32's digits give back: 0.1 is one, although the bits differ."""
    with np.errstate(all="ignore"):
        held = sample.astype(np.float32).astype(np.float64)
    differing = sample[np.isfinite(held) & (held != sample)]
    differing = differing[:: max(1, len(differing) // _LOOKED_AT)]
    return any(float(str(np.float32(number))) != number for number in differing.tolist())


def _fewer(sample: np.ndarray, count: int, label: str) -> str | None:
    """Says which columns have fewer different values in float32, for those that rounding leaves less than 1000 steps.

    Args:
        sample: (n, D) of `count` rows.
        count: of the file.
        label: of a column, with a place for its number.
    """
    with np.errstate(all="ignore"):  # NaN and infinity are another check's
        largest, span = np.abs(sample).max(axis=0), np.ptp(sample, axis=0)
        step = np.spacing(largest.astype(np.float32)).astype(np.float64)
        columns = np.flatnonzero((span > _NOISE * largest) & (span < _FINE * step))
    kinds = ((column, sample[:, column]) for column in columns.tolist())
    counts = {column: (len(np.unique(x)), len(np.unique(x.astype(np.float32)))) for column, x in kinds}
    lost = {column: pair for column, pair in counts.items() if pair[1] < pair[0]}
    if not lost:
        return None
    (first, (before, after)), *others = lost.items()
    seen = "" if len(sample) == count else f" in {len(sample)} of {count} rows"
    text = f"{label.format(first)} has {before} different values{seen}, {after} in float32: subtract an offset"
    more = ", ".join(str(column) for column, _ in others[:5]) + (", …" if others[5:] else "")
    return f"{text} (also {more})" if others else text
