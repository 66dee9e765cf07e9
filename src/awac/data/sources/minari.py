"""Minari's data sets: `minari:ID`, or the path of a `main_data.hdf5`; the minari package isn't needed."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from awac.data.sources.files import episode_numbers, hdf5_dataset, read_dataset, read_file
from awac.data.sources.registry import Columns, Recording, Request, hdf5_layout, source
from awac.errors import DataError, HomeError

PREFIX = "minari:"
_ID = re.compile(r"[\w.-]+(/[\w.-]+)*-v\d+")


@source(prefix=PREFIX)
def minari(name: str, request: Request) -> Recording:
    """A data set in `$MINARI_DATASETS_PATH` or `~/.minari/datasets`, by its id."""
    dataset_id, folder = dataset_path(name)
    path = folder / "data" / "main_data.hdf5"
    if not path.is_file():
        if path.parent.is_dir():
            raise DataError(f"{path.parent}: holds no main_data.hdf5; only Minari's HDF5 storage can be read")
        raise DataError(f"{name}: {folder} is not there; `minari download {dataset_id}` fetches it")
    return replace(read_file(path, request.extra), kind="minari", detail=f"Minari's data set, {path}")


def dataset_path(name: str) -> tuple[str, Path]:
    """The id behind `minari:`, and the folder of that data set.

    Raises:
        DataError: it is not an id.
    """
    dataset_id = name[len(PREFIX) :]
    if not _ID.fullmatch(dataset_id) or ".." in dataset_id:
        raise DataError(f"'{name}' is not a Minari id; they look like minari:mujoco/ant/expert-v0")
    try:
        return dataset_id, Path(
            os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets"
        ).expanduser() / dataset_id
    except RuntimeError:
        raise HomeError from None


@hdf5_layout
def read_minari(file: h5py.File, name: str) -> tuple[Columns, str | None] | None:
    """Groups `episode_i` with observations (T + 1, …), actions, rewards, terminations and truncations (T,)."""
    episodes = episode_numbers(file, r"episode_(\d+)")
    if not episodes:
        return None
    for key in episodes:
        if not isinstance(file.get(key, getlink=True), h5py.HardLink):
            text = "is a link to another file, as earlier versions of Minari combined data sets"
            raise DataError(f"{name}: {key} {text}; combine them again with Minari 0.5.3, which copies")
    parts: dict[str, list[np.ndarray]] = {}
    for key in episodes:
        for column, values in _episode(file, key, name).items():
            parts.setdefault(column, []).append(values)
    try:
        return {column: np.concatenate(arrays) for column, arrays in parts.items()}, "env"
    except ValueError:
        raise DataError(f"{name}: its episodes differ in their number of values; record it again") from None


def _episode(file: h5py.File, key: str, name: str) -> Columns:
    observations = _values(file, f"{key}/observations", name)
    columns = {
        "actions": _values(file, f"{key}/actions", name),
        **{column: _array(file, f"{key}/{column}", name) for column in ("rewards", "terminations", "truncations")},
    }
    steps = len(columns["rewards"])
    lengths = {column: len(values) for column, values in columns.items()}
    if len(observations) != steps + 1 or set(lengths.values()) != {steps}:
        raise DataError(f"{name}: {key} has {len(observations)} observations and {lengths}; they need T + 1 and T")
    if steps == 0:
        return {}
    columns["truncations"] = columns["truncations"].astype(bool)
    columns["truncations"][-1] |= not columns["terminations"][-1]  # a recording that was broken off
    return {"observations": observations[:-1], "next_observations": observations[1:], **columns}


def _values(file: h5py.File, key: str, name: str) -> np.ndarray:
    """An array; a Dict or Tuple is flattened as `Guard` does it: by key, by position."""
    group = file.get(key)
    if not isinstance(group, h5py.Group):
        return _array(file, key, name)
    keys = sorted(group, key=lambda part: (len(part), part) if part.startswith("_index_") else (0, part))
    parts = [_values(file, f"{key}/{part}", name) for part in keys]
    if not parts:
        raise DataError(f"{name}: '{key}' is empty; record it again")
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _array(file: h5py.File, key: str, name: str) -> np.ndarray:
    if key not in file:
        raise DataError(f"{name}: looks like Minari's, but has no '{key}'; record it again")
    data = hdf5_dataset(file, key, name)
    if data.dtype.kind not in "biuf" or not data.shape:
        raise DataError(f"{name}: '{key}' holds {data.dtype} of shape {data.shape}, not numbers by step")
    return read_dataset(data, os.path.getsize(file.filename), f"{name}: key '{key}'")
