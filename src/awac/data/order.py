"""Whether a file's rows stand in the order in which they were recorded, as far as episode ids and step numbers show."""

from __future__ import annotations

import numpy as np

from awac.data.ends import IDS, STEPS, find_ends
from awac.errors import DataError

_REMEDY = "sort them by episode and step"
_JOINED = 2
"""Times that an id may come again without being taken for disorder: logs that were joined begin anew."""


def check_order(
    columns: dict[str, np.ndarray], successors: bool, source: str, ended: np.ndarray | None = None
) -> list[str]:
    """Warnings about rows that seem out of order.

    Args:
        columns: arrays of N rows by name.
        successors: rows have their own next observations, so that the order decides only about the returns.
        source: file or data set name for messages.
        ended: (N,) rows that end an episode, terminal or cut; None for those that the columns mark.

    Raises:
        DataError: rows without next observations are out of order: an episode goes on again and again after rows of
            another, or the numbers of its steps fall.
    """
    ids = [name for name in IDS if name in columns]
    if not ids and not any(name in columns for name in STEPS):
        return []
    rows = len(next(iter(columns.values())))
    episode = np.zeros(rows, np.int64)
    for name in ids:
        codes = np.unique(columns[name].reshape(-1), return_inverse=True)[1].reshape(-1)
        episode = np.unique(episode * rows + codes, return_inverse=True)[1].reshape(-1)
    faults: list[str] = []
    doubts: list[str] = []
    row, times = _broken_off(episode, columns, source)
    if row is not None:
        text = f"row {row} goes on with an episode of '{ids[0]}' that rows of another have broken off"
        (faults if times > _JOINED else doubts).append(text)
    if ended is None:
        ends = find_ends(columns, source)
        ended = ends.terminated | ends.cut
    inside = ~ended[:-1]
    for name in (name for name in STEPS if name in columns):
        steps = columns[name].reshape(-1)
        falls = np.flatnonzero(inside & (steps[1:] < steps[:-1]))
        if len(falls):
            text = f"'{name}' falls within episodes {len(falls)} times, first after row {falls[0]}"
            (faults if ids and _is_numbering(episode, steps) else doubts).append(text)
    if faults and not successors:
        reused = "goes on" in faults[0]
        if reused:
            raise DataError(
                f"{source}: rows are not in order: {faults[0]}; give different episodes different ids, or {_REMEDY}"
            )
        hint = "if it does not count steps, rename it"
        raise DataError(f"{source}: rows are not in order: {faults[0]}; {_REMEDY} ({hint})")
    only = ", though only the returns of episodes depend on it" if successors else ""
    return [f"{text}: are the rows in order, and all ends marked? Else {_REMEDY}{only}" for text in (*faults, *doubts)]


def _broken_off(episode: np.ndarray, columns: dict[str, np.ndarray], source: str) -> tuple[int | None, int]:
    """The first row that goes on with an episode after rows of another, and how often an episode does so at most.

    It is another episode under a used id, as in files that were joined, if a flag has ended the first one or its steps
    are counted from the beginning again.
    """
    starts = np.concatenate([[0], np.flatnonzero(episode[1:] != episode[:-1]) + 1])
    ends = find_ends({name: values for name, values in columns.items() if name not in IDS}, source)
    over = (ends.terminated | ends.cut)[np.append(starts[1:], len(episode)) - 1]
    order = np.argsort(episode[starts], kind="stable")
    again = (np.diff(episode[starts][order]) == 0) & ~over[order[:-1]]
    for name in (name for name in STEPS if name in columns):
        first = columns[name].reshape(-1)[starts[order]]
        again &= first[1:] > first[:-1]
    if not again.any():
        return None, 0
    ids = episode[starts][order][1:][again]
    return int(starts[order[1:][again]].min()), int(np.bincount(ids).max())


def _is_numbering(episode: np.ndarray, steps: np.ndarray) -> bool:
    """Whether whole numbers count the rows of each episode, so that they can't be a quantity such as a temperature."""
    return bool((steps == np.floor(steps)).all()) and len(np.unique(np.stack([episode, steps]), axis=1).T) == len(steps)
