"""`awac convert SRC minari:ID`: a data set in Minari's local folder, written by the package minari."""

from __future__ import annotations

import contextlib
import io
import shutil
import warnings

import numpy as np
from gymnasium import spaces

from awac.data.columns import PHYSICS, load, named
from awac.data.sources.minari import dataset_path
from awac.data.sources.registry import Recording
from awac.data.spaces import action_space
from awac.data.transitions import Transitions
from awac.envs.tasks import Task
from awac.errors import DataError
from awac.runs.files import first_line


def write_minari(recording: Recording, name: str, dataset: str) -> str:
    """Writes a recording as episodes of T steps and T + 1 observations.

    Args:
        recording: the data.
        name: `minari:` and the new data set's id.
        dataset: name of the source data set, for the description.

    Returns:
        What was written, and what was lost.

    Raises:
        DataError: the package minari is missing, the id exists or is invalid, or the data are not a valid data set.
    """
    identifier, folder = dataset_path(name)
    if folder.exists():
        raise DataError(f"{name}: {folder} exists already; remove it or choose another id")
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
    except ImportError:
        raise DataError(f"{name}: writing Minari's format needs minari: pip install 'awac[minari]'") from None
    source, keys = str(recording.path), named(recording.columns)
    loaded = load(recording.columns, source, stored_unit=recording.action_unit)
    data, scaled = loaded.data, recording.action_unit == "scaled"
    bounds = {"low": (-1.0,), "high": (1.0,)} if Task.parse(dataset).is_d4rl else {}
    where = f"{source}: key '{keys['actions']}'"
    space, _ = action_space(
        recording.columns[keys["actions"]], where, scaled=scaled, text=recording.kind == "table", **bounds
    )
    actions = data.actions.reshape(-1).astype(np.int64) if isinstance(space, spaces.Discrete) else data.actions
    if isinstance(space, spaces.Box):
        actions = np.clip(actions.reshape(len(data), -1), space.low, space.high)  # D4RL's round by a last digit
    ends = np.flatnonzero(data.terminated | data.truncated) + 1
    buffers = [
        EpisodeBuffer(
            id=i,
            observations=_observations(data, rows, "next_observations" in keys),
            actions=actions[rows],
            rewards=data.rewards[rows],
            terminations=data.terminated[rows],
            truncations=data.truncated[rows],
            infos={},
        )
        for i, rows in enumerate(map(slice, [0, *ends[:-1]], ends))
    ]
    quiet = io.StringIO()  # it prints a line for every piece of metadata that is not given
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            warnings.simplefilter("ignore")
            minari.create_dataset_from_buffers(
                identifier,
                buffers,
                observation_space=spaces.Box(-np.inf, np.inf, (data.obs_size,), np.float32),
                action_space=space,
                description=f"{recording.detail}; converted by awac",
                data_format="hdf5",  # the other one needs numpy 2
            )
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, (OSError, ValueError, AssertionError)):
            raise DataError(f"{name}: cannot be written ({first_line(error)})") from error
        raise
    lost = _lost(recording, data, loaded.rows, "next_observations" in keys)
    return f"{folder}: {len(data)} rows, {len(buffers)} episodes; not carried over: {', '.join(lost)}"


def _observations(data: Transitions, rows: slice, successors: bool) -> np.ndarray:
    """(T + 1, O): the rows' observations and the one after the last row; if there is none, the last is repeated."""
    last = rows.stop - 1
    final = data.observations if data.terminated[last] and not successors else data.next_observations
    return np.concatenate([data.observations[rows], final[last : last + 1]])


def _lost(recording: Recording, data: Transitions, rows: int, successors: bool) -> list[str]:
    lost = ["metadata and other columns", *(key for key in PHYSICS if key in recording.columns)]
    if recording.action_unit == "scaled":
        lost.append("the unit of the actions")
    if rows > len(data):
        lost.append(f"{rows - len(data)} rows without a next observation")
    ends = data.terminated | data.truncated
    apart = int(((data.next_observations[:-1] != data.observations[1:]).any(axis=1) & ~ends[:-1]).sum())
    if apart:
        lost.append(f"the next observations of {apart} rows that don't lead to the next row")
    if not successors and data.terminated.any():
        lost.append(f"the observation after {int(data.terminated.sum())} terminal rows (their own is repeated)")
    return lost
