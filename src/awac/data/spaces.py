"""The action space of a data set's actions, when there is no environment."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from awac.errors import DataError

Bound = tuple[float, ...] | None


def action_space(
    values: np.ndarray, where: str, *, scaled: bool, text: bool, low: Bound = None, high: Bound = None
) -> tuple[spaces.Space, str]:
    """The space of stored actions.

    One column of integers holds indices 0..n-1, whatever the unit; in a table, which has no types, so does one column
    of whole numbers from 0 that is not scaled. Anything else is a vector, and so are actions with a given bound.

    Args:
        values: (N, A), (N,) or (N, 1) of any numeric type.
        where: file and key for messages.
        scaled: whether the file's actions are in [-1, 1] instead of in their own units.
        text: whether they come from a table.
        low: lower bound, one number or A; None takes the smallest of each column.
        high: upper bound, likewise.

    Returns:
        A Discrete, or a Box (A,) in the units of the data; and a line for the log.

    Raises:
        DataError: NaN, a negative index, bounds of the wrong length or order.
    """
    vectors = values.reshape(len(values), -1)
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise DataError(f"{where} has NaN or infinite values, first in row {int(bad.argmax())}; remove those rows")
    bounded = low is not None or high is not None
    if vectors.shape[1] == 1 and not bounded:
        whole = values.dtype.kind in "biu"
        if whole and values.min() < 0:
            raise DataError(f"{where} has index {values.min()}; count from 0, or give action_low and action_high")
        if whole or (text and not scaled and are_whole(values)):
            count = int(values.max()) + 1
            hint = "" if whole else " (whole numbers in one column; action_low and action_high make it a vector)"
            return spaces.Discrete(count), f"actions are indices 0..{count - 1}{hint}"
    smallest, largest = (-1.0, 1.0) if scaled else (vectors.min(axis=0), vectors.max(axis=0))
    size = (vectors.shape[1],)
    lowest, highest = (
        _bound("action_low", low, smallest, size, where),
        _bound("action_high", high, largest, size, where),
    )
    if (lowest > highest).any():
        column = int((lowest > highest).argmax())
        raise DataError(f"{where}: value {column} has bounds {lowest[column]:.4g} to {highest[column]:.4g}")
    source = "as given" if low is not None and high is not None else "given in part" if bounded else "from the data"
    return spaces.Box(
        lowest, highest, dtype=np.float32
    ), f"action bounds {'[-1, 1]' if scaled and not bounded else source}"


def are_whole(values: np.ndarray) -> bool:
    """Whether all values are whole numbers from 0, as a table holds indices."""
    return bool(((values >= 0) & (values == np.floor(values))).all())


def _bound(key: str, given: Bound, default, size: tuple[int], where: str) -> np.ndarray:
    values = np.asarray(default if given is None else given, np.float32)
    if values.size not in (1, *size):
        raise DataError(f"{where} holds {size[0]} values per row, but {key} has {values.size}; give one, or one each")
    return np.broadcast_to(values.reshape(-1), size).copy()
