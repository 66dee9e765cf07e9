"""Replay memory with two regions: an offline table that is never evicted and a ring of online rows.

Rows are packed float32, normalised once when they enter, so that a batch is a single gather:

    [obs (size) | next_obs (size) | action (A; discrete: 1 column with the index) | reward | terminated]
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np

from awac.data.normalizer import Normalizer
from awac.data.transitions import Transitions
from awac.errors import CheckpointError, DataError

_BLOCK = 65536
_FIRST_GROWTH = 4096


class Replay:
    """Offline and online transitions, sampled with a given share of either, or with one that follows their numbers.

    Args:
        offline: rows of the offline region, or None.
        normalizer: applied to every observation that enters.
        online_capacity: rows of the ring; storage grows up to it as rows arrive. 0 for no online region.
        action_width: action columns (A, or 1 for discrete actions); may be left out if `offline` is given.
        release: free the memory of `offline`'s observations while they are packed, so that a large data set is not in
            memory twice; their values are lost.
    """

    def __init__(
        self,
        offline: Transitions | None,
        normalizer: Normalizer,
        online_capacity: int,
        action_width: int | None = None,
        release: bool = False,
    ):
        if action_width is None:
            if offline is None:
                raise ValueError("without offline data the replay needs action_width")
            action_width = offline.action_size or 1
        self.normalizer = normalizer
        self.online_capacity = online_capacity
        self.action_width = action_width
        self.width = 2 * normalizer.size + self.action_width + 2
        self._offline = np.zeros((0, self.width), np.float32) if offline is None else self._pack(offline, release)
        self._online = np.zeros((0, self.width), np.float32)
        self._inserted = 0
        self._batch = np.zeros((0, 0, self.width), np.float32)

    @property
    def offline_size(self) -> int:
        return len(self._offline)

    @property
    def online_size(self) -> int:
        return min(self._inserted, self.online_capacity)

    @property
    def inserted(self) -> int:
        """Online rows ever added since the start or the last `clear_online`."""
        return self._inserted

    def largest_reward(self) -> float:
        """max |r| over all rows."""
        tables = (self._offline, self._online[: self.online_size])
        return max(float(np.abs(table[:, -2]).max(initial=0.0)) for table in tables)

    def add(self, observation, action, reward: float, next_observation, terminated: bool) -> None:
        """Adds one online row; once the ring is full it overwrites the oldest one.

        Args:
            observation: (O,) raw.
            action: (A,) float, or an integer.
            reward: of this step.
            next_observation: (O,) raw.
            terminated: whether the task ended; a truncated step is not terminated.
        """
        if self.online_capacity == 0:
            raise DataError("this replay has no online region (online_capacity is 0)")
        if np.size(action) != self.action_width:
            raise DataError(f"an action has {np.size(action)} values, those of this replay {self.action_width}")
        parts = (self.normalizer(observation), self.normalizer(next_observation), action, reward, terminated)
        row = np.concatenate([np.ravel(part) for part in parts])
        if len(row) != self.width:
            raise DataError("add takes one row: two observations, an action, a reward and a flag")
        slot = self._inserted % self.online_capacity
        if slot >= len(self._online):
            self._grow(slot + 1)
        self._online[slot] = row  # in one piece: a refused row leaves the oldest one as it is
        self._inserted += 1

    def sample(
        self,
        rng: np.random.Generator,
        steps: int,
        batch_size: int,
        offline_share: float | None = None,
        oversampling: float = 1.0,
    ) -> np.ndarray:
        """Draws `steps` batches, uniformly with replacement within each region.

        Args:
            rng: source of the indices.
            steps: number of batches K.
            batch_size: rows per batch B.
            offline_share: each batch has exactly round(offline_share · B) offline rows, which come first in it; if one
                region is empty, all rows come from the other. None draws from the union of both.
            oversampling: under None, how many times as often as an offline row an online row is drawn, until they are
                half of a batch; where there are more online rows than offline ones, all are drawn alike.

        Returns:
            (K, B, width) float32, C-contiguous. It is a buffer that the next call overwrites.

        Raises:
            DataError: the memory is empty, or the share is outside [0, 1].
        """
        offline, online = self.offline_size, self.online_size
        if offline + online == 0:
            raise DataError("the replay memory is empty: give it offline data or collect online steps before sampling")
        if offline_share is not None and not 0.0 <= offline_share <= 1.0:
            raise DataError(f"offline_share is {offline_share}; it must lie in [0, 1]")
        if self._batch.shape[:2] != (steps, batch_size):
            self._batch = np.empty((steps, batch_size, self.width), np.float32)
        if offline == 0 or online == 0:
            counts = np.full(steps, batch_size if online == 0 else 0)
        elif offline_share is None:
            # Which region a row comes from is drawn first, so that either gather stays one contiguous block.
            uniform, wanted = (offline / (offline + often * online) for often in (1.0, oversampling))
            counts = rng.binomial(batch_size, min(uniform, max(wanted, 0.5)), steps)
        else:
            counts = np.full(steps, round(offline_share * batch_size))
        for batch, count in zip(self._batch, counts, strict=True):
            # mode="clip" lets numpy write straight into `out`; the indices are in range anyway.
            if count:
                indices = rng.integers(offline, size=count)
                np.take(self._offline, indices, axis=0, out=batch[:count], mode="clip")
            if count < batch_size:
                indices = rng.integers(online, size=batch_size - count)
                np.take(self._online, indices, axis=0, out=batch[count:], mode="clip")
        return self._batch

    def rows_since(self, inserted: int) -> np.ndarray:
        """Online rows after the first `inserted` ones that are still in the ring, oldest first (n, width)."""
        first = max(inserted, self._inserted - self.online_size)
        return self._online[np.arange(first, self._inserted) % max(self.online_capacity, 1)]

    def restore(self, rows: np.ndarray, inserted: int) -> None:
        """Sets the online region so that the same `rng` draws the same rows as before.

        Args:
            rows: `rows_since(0)` of the memory to restore.
            inserted: its `inserted`.

        Raises:
            CheckpointError: the rows don't fit this memory.
        """
        capacity = self.online_capacity
        if rows.shape != (min(inserted, capacity), self.width):
            raise CheckpointError(f"the checkpoint's online rows have shape {rows.shape}; expected width {self.width}")
        self.clear_online()
        if len(rows) == 0:
            return
        self._grow(len(rows))
        self._online[np.arange(inserted - len(rows), inserted) % capacity] = rows
        self._inserted = inserted

    def clear_online(self) -> None:
        """Removes all online rows."""
        self._online = np.zeros((0, self.width), np.float32)
        self._inserted = 0

    def _grow(self, rows: int) -> None:
        """Makes room for at least `rows` online rows, doubling so that the copies stay few."""
        size = min(max(rows, 2 * len(self._online), _FIRST_GROWTH), self.online_capacity)
        grown = np.zeros((size, self.width), np.float32)
        grown[: len(self._online)] = self._online
        self._online = grown

    def _pack(self, data: Transitions, release: bool) -> np.ndarray:
        table = np.empty((len(data), self.width), np.float32)
        size = self.normalizer.size
        release = release and not np.may_share_memory(data.observations, data.next_observations)
        for start in range(0, len(data), _BLOCK):  # in blocks, because normalising makes a copy
            block = slice(start, start + _BLOCK)
            table[block, :size] = self.normalizer(data.observations[block])
            table[block, size : 2 * size] = self.normalizer(data.next_observations[block])
            if release:
                _release(data.observations[block])
                _release(data.next_observations[block])
        table[:, 2 * size : -2] = data.actions.reshape(len(data), -1)
        table[:, -2] = data.rewards
        table[:, -1] = data.terminated
        return table


def _release(rows: np.ndarray) -> None:
    """Frees the memory pages that hold some rows of an array, on Linux; they read as zeros afterwards.

    numpy can only free a whole array.
    """
    if sys.platform != "linux" or not rows.flags.c_contiguous or not rows.flags.writeable:
        return
    first = -(-rows.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (rows.ctypes.data + rows.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - first
    if size > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), mmap.MADV_DONTNEED)
