"""Recognises robomimic's files and refuses them: the user has to choose which observations to join."""

from __future__ import annotations

import h5py

from awac.data.sources.registry import Columns, hdf5_layout
from awac.errors import DataError


@hdf5_layout
def read_robomimic(file: h5py.File, name: str) -> tuple[Columns, str | None] | None:
    """Groups `data/demo_i` with several named observations each."""
    group = file.get("data")
    if not isinstance(group, h5py.Group) or not any(key.startswith("demo_") for key in group):
        return None
    raise DataError(
        f"{name}: is a robomimic file (data/demo_0/obs/…), with observations under several names: join those to use to "
        "one array of N rows, and store it with actions, rewards, terminals and timeouts by np.savez"
    )
