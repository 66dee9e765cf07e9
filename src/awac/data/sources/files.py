"""Reads a data set file, HDF5 or .npz, into `Transitions`.

Whatever is wrong with a file ends in a `DataError` that names the file and the key. A file is data from somewhere else:
its declared shapes are held against its size before anything is allocated, and it cannot reach into other files.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np

from awac.data.transitions import Transitions
from awac.errors import DataError
from awac.runs.files import MAX_RATIO, SLACK, npy_header

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")
PHYSICS = ("infos/qpos", "infos/qvel")

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"

# D4RL's limit for every robot; stands in for the timeouts of files that have neither timeouts nor next_observations.
EPISODE_CAP = 1000
_MAX_BYTES = 16 << 30


def load_dataset(path: str | os.PathLike) -> Transitions:
    """Reads a data set in one of D4RL's layouts.

    The format is told from the content, not from the name. Keys: observations (N, O), actions (N, A) or integer (N,),
    rewards and terminals (N,) or (N, 1), and optionally timeouts and next_observations. Values of any numeric type
    become float32; flags are true where they are not 0.

    - With next_observations (D4RL v2) every row is kept; a timeout row is `truncated`, not `terminated`. Without
      timeouts, an episode also ends where the next row does not start at this row's next observation.
    - Without (v0, v1) next = observations[i + 1], so the last row and timeout rows, whose successor is another
      episode's start, are dropped, as D4RL's `qlearning_dataset` does. Without timeouts, episodes count as cut after
      1000 steps, as D4RL does.

    The last row is `truncated` if it is not `terminated`.

    Args:
        path: the file.

    Raises:
        DataError: the file is missing, unreadable, or its contents make no sound data set.
    """
    return transitions(load_columns(path, REQUIRED + OPTIONAL), str(Path(path).expanduser()))


def load_columns(path: str | os.PathLike, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Those of `keys` that a data set file holds, as `load_dataset` reads them but otherwise as they are stored.

    Raises:
        DataError: the file is missing or unreadable, lacks a required key, or shapes and types make no sense.
    """
    path = Path(path).expanduser()
    source = str(path)
    try:
        with open(path, "rb") as file:
            magic = file.read(8)
    except FileNotFoundError:
        raise DataError(f"{source}: no such file; check the path") from None
    except IsADirectoryError:
        raise DataError(f"{source}: is a folder; give the path of an .hdf5 or .npz file in it") from None
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror}); check its permissions") from None
    if magic == HDF5_MAGIC:
        return _read_hdf5(path, source, keys)
    if magic[:4] == ZIP_MAGIC:
        return _read_npz(path, source, keys)
    what = "empty" if not magic else "neither HDF5 nor .npz"
    raise DataError(f"{source}: is {what}; download or record it again")


def _read_hdf5(path: Path, source: str, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with h5py.File(path, "r") as file:
            found = {key: _hdf5_dataset(file, key, source) for key in keys if key in file}
            _check_declared({key: (data.shape, data.dtype) for key, data in found.items()}, source)
            columns = {}
            for key, data in found.items():
                _check_storage(data, path.stat().st_size, f"{source}: key '{key}'")
                # Converting while reading keeps a float64 file from being in memory twice.
                columns[key] = (data if data.dtype.kind in "biu" else data.astype(np.float32))[()]
            return columns
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{source}: is truncated or damaged ({reason[:120]}); download or record it again") from None


def _hdf5_dataset(file: h5py.File, key: str, source: str) -> h5py.Dataset:
    steps = (key[: match.start()] for match in re.finditer("/|$", key))  # the groups on the way, then the key
    if not all(isinstance(file.get(step, getlink=True), h5py.HardLink) for step in steps):
        raise DataError(f"{source}: key '{key}' is a link, not data; store the values in the file itself")
    data = file[key]
    if not isinstance(data, h5py.Dataset):
        raise DataError(f"{source}: key '{key}' is a group, not an array; store an array under that name")
    if data.is_virtual or data.external:
        raise DataError(f"{source}: key '{key}' keeps its values in another file; store them in the file itself")
    return data


def _check_storage(data: h5py.Dataset, file_bytes: int, where: str) -> None:
    """Refuses a declared size that the file's bytes cannot hold, before HDF5 allocates it."""
    packed = data.compression is not None or data.id.get_create_plist().get_nfilters() > 0
    chunk_bytes = math.prod(data.chunks) * data.dtype.itemsize if data.chunks else 0
    limit = min(data.id.get_storage_size(), file_bytes) * (MAX_RATIO if packed else 1) + SLACK
    if data.nbytes > limit or chunk_bytes > max(limit, data.nbytes + SLACK):
        raise DataError(f"{where} declares {data.nbytes} bytes, more than the file holds; download or record it again")


def _read_npz(path: Path, source: str, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            found = {key: members[key + ".npy"] for key in keys if key + ".npy" in members}
            declared = {key: npy_header(archive, info, f"{source}: key '{key}'") for key, info in found.items()}
            _check_declared(declared, source)
            columns = {}
            for key, info in found.items():
                with archive.open(info) as file:
                    values = np.lib.format.read_array(file, allow_pickle=False)
                columns[key] = values if values.dtype.kind in "biu" else values.astype(np.float32, copy=False)
            return columns
    except (OSError, RuntimeError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{source}: is truncated or damaged ({reason[:120]}); record it again") from None


def _check_declared(declared: dict[str, tuple[tuple[int, ...], np.dtype]], source: str) -> None:
    """Checks keys, types, shapes and lengths from the headers alone."""
    for key in REQUIRED:
        if key not in declared:
            raise DataError(f"{source}: key '{key}' is missing; a data set needs {', '.join(REQUIRED)}")
    for key, (shape, dtype) in declared.items():
        if dtype.kind not in "biuf":
            raise DataError(f"{source}: key '{key}' holds {dtype}, not numbers; store float32 (flags as bool)")
        vector = key in ("observations", "next_observations", "actions", *PHYSICS)
        if shape is None or not 1 <= len(shape) <= 2 or (len(shape) == 2 and not vector and shape[1] != 1):
            raise DataError(f"{source}: key '{key}' has shape {shape}; expected {'(N, D)' if vector else '(N,)'}")
        if 0 in shape:
            raise DataError(f"{source}: key '{key}' holds no values (shape {shape}); record it again")
    rows = declared["rewards"][0][0]
    for key, (shape, _) in declared.items():
        if shape[0] != rows:
            raise DataError(f"{source}: key '{key}' has {shape[0]} rows but 'rewards' has {rows}; record it again")
    total = sum(math.prod(shape) * max(dtype.itemsize, 4) for shape, dtype in declared.values())
    if total > _MAX_BYTES:
        raise DataError(f"{source}: declares {total >> 30} GiB, more than {_MAX_BYTES >> 30}; split the file")


def transitions(columns: dict[str, np.ndarray], source: str) -> Transitions:
    """Transitions from columns as `load_columns` gives them, by the rules of `load_dataset`.

    Raises:
        DataError: the columns make no sound data set.
    """
    observations = _matrix(columns["observations"])
    actions = _actions(columns["actions"], f"{source}: key 'actions'")
    rewards = columns["rewards"].reshape(-1).astype(np.float32, copy=False)
    terminated = _flags(columns["terminals"], f"{source}: key 'terminals'")
    timeouts = columns.get("timeouts")
    timeouts = None if timeouts is None else _flags(timeouts, f"{source}: key 'timeouts'") & ~terminated
    if "next_observations" in columns:
        successors = _matrix(columns["next_observations"])
        if successors.shape != observations.shape:
            sizes = f"{successors.shape[1]} columns but 'observations' has {observations.shape[1]}"
            raise DataError(f"{source}: key 'next_observations' has {sizes}; record it again")
        if timeouts is None:
            timeouts = np.zeros(len(rewards), bool)
            timeouts[:-1] = (successors[:-1] != observations[1:]).any(axis=1) & ~terminated[:-1]
        timeouts[-1] = not terminated[-1]
        data = Transitions(observations, actions, rewards, successors, terminated, timeouts)
    else:
        data = _shifted(observations, actions, rewards, terminated, timeouts, source)
    return data.check(source)


def _shifted(observations, actions, rewards, terminated, timeouts, source: str) -> Transitions:
    """The v0/v1 layouts: the successor is the next row's observation, where that belongs to the same episode."""
    if timeouts is None:
        timeouts = _capped(terminated)
    keep = ~timeouts
    keep[-1] = False
    if not keep.any():
        raise DataError(f"{source}: no row has a successor (single rows or timeouts only); record it again")
    # The row before a dropped one now is its episode's last.
    truncated = np.zeros_like(terminated)
    truncated[:-1] = ~keep[1:] & ~terminated[:-1]
    successors = np.concatenate([observations[1:], observations[-1:]])
    return Transitions(
        *(values[keep] for values in (observations, actions, rewards, successors, terminated, truncated))
    )


def _capped(terminated: np.ndarray) -> np.ndarray:
    """Timeouts of episodes that run for EPISODE_CAP rows without terminating."""
    rows = np.arange(len(terminated))
    starts = np.concatenate([[0], np.flatnonzero(terminated) + 1])
    age = rows - starts[np.searchsorted(starts, rows, side="right") - 1]
    return (age % EPISODE_CAP == EPISODE_CAP - 1) & ~terminated


def _matrix(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).astype(np.float32, copy=False)


def _actions(values: np.ndarray, where: str) -> np.ndarray:
    """Integers in one column are discrete actions (N,) int32; everything else is (N, A) float32."""
    if values.dtype.kind in "iu" and values.size == len(values):
        if values.min() < 0 or values.max() > np.iinfo(np.int32).max:
            raise DataError(f"{where} has an index outside 0..2^31-1; store indices of actions")
        return values.reshape(-1).astype(np.int32)
    return _matrix(values)


def _flags(values: np.ndarray, where: str) -> np.ndarray:
    values = values.reshape(-1)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(f"{where} has NaN or infinite values, first in row {row}; store it as bool")
    return values != 0
