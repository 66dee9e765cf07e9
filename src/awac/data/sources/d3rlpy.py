"""d3rlpy's replay buffers (version 2, `ReplayBuffer.dump`): `observations_0`, `actions_0`, …, one per episode."""

from __future__ import annotations

import os

import h5py
import numpy as np

from awac.data.sources.files import episode_numbers, hdf5_dataset, read_dataset
from awac.data.sources.registry import Columns, hdf5_layout
from awac.errors import DataError


@hdf5_layout
def read_d3rlpy(file: h5py.File, name: str) -> tuple[Columns, str | None] | None:
    """Episodes of T observations, actions and rewards, one flag `terminated_i`, and no observation after the last."""
    numbers = [key.rpartition("_")[2] for key in episode_numbers(file, r"actions_(\d+)")]
    if not numbers or "actions" in file:
        return None
    size = os.path.getsize(file.filename)

    def values(column: str, number: str) -> np.ndarray:
        key = f"{column}_{number}"
        if key not in file:
            several = "; observations of several arrays can't be read" if f"{key}_0" in file else ""
            raise DataError(f"{name}: looks like d3rlpy's, but has no '{key}'{several}")
        data = hdf5_dataset(file, key, name)
        if data.dtype.kind not in "biuf":
            raise DataError(f"{name}: '{key}' holds {data.dtype}, not numbers")
        return read_dataset(data, size, f"{name}: key '{key}'")

    parts: dict[str, list[np.ndarray]] = {}
    for number in numbers:
        episode = {column: np.atleast_1d(values(column, number)) for column in ("observations", "actions", "rewards")}
        steps = len(episode["rewards"])
        if {len(column) for column in episode.values()} != {steps}:
            raise DataError(f"{name}: the columns of episode {number} differ in length; record it again")
        ends = np.arange(steps) == steps - 1
        terminated = bool(np.any(values("terminated", number)))
        for column, array in {**episode, "terminals": ends & terminated, "timeouts": ends & (not terminated)}.items():
            parts.setdefault(column, []).append(array)
    try:
        return {column: np.concatenate(arrays) for column, arrays in parts.items()}, None
    except ValueError:
        raise DataError(f"{name}: its episodes differ in their number of values; record it again") from None
