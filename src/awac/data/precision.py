"""What float32, in which training holds the data, loses of wider numbers."""

from __future__ import annotations

import math

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


def lost_in_float32(values, turned: bool = False) -> str | None:
    """Says which columns have fewer different values in float32, for those that rounding leaves less than 1000 steps.

    Args:
        values: observations (N, D) or (N,), an array or an HDF5 data set.
        turned: they are (D, N).
    """
    if values.dtype.kind not in "iuf" or values.dtype.itemsize < (8 if values.dtype.kind == "f" else 4):
        return None
    count, chunk = values.shape[-1 if turned else 0], math.prod(getattr(values, "chunks", None) or (0,))
    rows = min(_ROWS, max(_BLOCKS, _BYTES * count // (8 * max(1, math.prod(values.shape)))))
    number = 1 if count <= rows or chunk * values.dtype.itemsize > _LARGE else _BLOCKS
    size = min(count, rows // number)
    starts = np.linspace(0, count - size, number).astype(int).tolist()
    blocks = [values[..., i : i + size].T if turned else values[i : i + size] for i in starts]
    sample = np.concatenate(blocks).reshape(size * len(starts), -1).astype(np.float64, copy=False)
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
    seen = "" if size == count else f" in {len(sample)} of {count} rows"
    text = f"observation column {first} has {before} different values{seen}, {after} in float32: subtract an offset"
    more = ", ".join(str(column) for column, _ in others[:5]) + (", …" if others[5:] else "")
    return f"{text} (also {more})" if others else text
