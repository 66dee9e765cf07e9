"""What the headers of a file's arrays say, before memory is allocated for their values."""

from __future__ import annotations

import math

import numpy as np

from awac.data.columns import PHYSICS, REQUIRED, VECTORS, missing_key, named
from awac.data.ends import IDS
from awac.errors import DataError

_MAX_BYTES = 16 << 30


def check_declared(declared: dict[str, tuple[tuple[int, ...], np.dtype]], source: str, keys=()) -> None:
    """Checks keys, types, shapes and lengths from the headers alone."""
    present = named(declared)
    for name in REQUIRED:
        if name not in present:
            raise DataError(missing_key(source, name, keys))
    vectors = {alias for name in ("observations", "next_observations", "actions") for alias in VECTORS[name]}
    for key, (shape, dtype) in declared.items():
        if key in IDS and dtype.kind in "OSU":
            raise DataError(f"{source}: key '{key}' holds texts, which are ids in tables only; store numbers")
        if dtype.kind == "O":
            text = (
                "object, not numbers (a list of episodes?); join them to one array of N rows and mark ends in timeouts"
            )
            raise DataError(f"{source}: key '{key}' holds {text}")
        if dtype.kind not in "biuf":
            raise DataError(f"{source}: key '{key}' holds {dtype}, not numbers; store float32 (flags as bool)")
        vector = key in vectors or key in PHYSICS
        if shape is None or not 1 <= len(shape) <= 2 or (len(shape) == 2 and not vector and shape[1] != 1):
            raise DataError(f"{source}: key '{key}' has shape {shape}; expected {'(N, D)' if vector else '(N,)'}")
        if 0 in shape:
            raise DataError(f"{source}: key '{key}' holds no values (shape {shape}); record it again")
    rewards = present["rewards"]
    rows = declared[rewards][0][0]
    for key, (shape, _) in declared.items():
        if shape[0] != rows:
            turned = len(shape) == 2 and shape[1] == rows
            remedy = f"is it transposed? Store ({rows}, {shape[0]})" if turned else "record it again"
            raise DataError(f"{source}: key '{key}' has {shape[0]} rows but '{rewards}' has {rows}; {remedy}")
    total = sum(math.prod(shape) * max(dtype.itemsize, 4) for shape, dtype in declared.values())
    if total > _MAX_BYTES:
        raise DataError(f"{source}: declares {total >> 30} GiB, more than {_MAX_BYTES >> 30}; split the file")


def is_counter(shape: tuple[int, ...], dtype: np.dtype, rows: int) -> bool:
    """Whether a key with the name of a step counter holds a number a row: `t` and `step` may be anything else."""
    return dtype.kind in "iuf" and shape in ((rows,), (rows, 1))
