"""`awac convert SRC minari:ID`: a data set in Minari's local folder, written by the package minari."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gymnasium import spaces

from awac.data.columns import PHYSICS, load, named
from awac.data.sources.minari import dataset_path
from awac.data.sources.registry import Recording
from awac.data.spaces import action_space
from awac.data.transitions import BOUND_TOLERANCE, Transitions
from awac.envs.tasks import Task
from awac.errors import EXTRAS, DataError, first_line

_ROOT = "MINARI_DATASETS_PATH"


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
        raise DataError(f"{name}: writing Minari's format needs minari: pip install {EXTRAS['minari']}") from None
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
        actions = _inside(actions.reshape(len(data), -1), space, where)
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
        with (
            _drafted(identifier, folder),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(quiet),
            contextlib.redirect_stderr(quiet),
        ):
            warnings.simplefilter("ignore")
            minari.create_dataset_from_buffers(
                identifier,
                buffers,
                observation_space=spaces.Box(-np.inf, np.inf, (data.obs_size,), np.float32),
                action_space=space,
                description=f"{recording.detail}; converted by awac",
                data_format="hdf5",  # the other one needs numpy 2
            )
    except (OSError, ValueError, AssertionError) as error:
        raise DataError(f"{name}: cannot be written ({first_line(error)})") from error
    untyped = recording.kind == "table" and isinstance(space, spaces.Discrete)
    indices = f"; actions written as indices 0..{int(actions.max())}" if untyped else ""
    lost = _lost(recording, data, loaded.rows, "next_observations" in keys)
    return f"{folder}: {len(data)} rows, {len(buffers)} episodes; not carried over: {', '.join(lost)}{indices}"


@contextlib.contextmanager
def _drafted(identifier: str, folder: Path) -> Iterator[None]:
    """Minari writes into a hidden folder beside the others; if nothing fails, its result is moved to `folder`."""
    root, before = folder.absolute().parents[identifier.count("/")], os.environ.get(_ROOT)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".awac-", dir=root) as draft:
        os.environ[_ROOT] = draft  # Minari takes neither ~ nor an empty path
        try:
            yield
        finally:
            os.environ.pop(_ROOT)
            os.environ.update({} if before is None else {_ROOT: before})
        folder.parent.mkdir(parents=True, exist_ok=True)
        for path in Path(draft).rglob("namespace_metadata.json"):  # one in each folder on the way
            if not (target := root / path.relative_to(draft)).exists():
                os.replace(path, target)
        os.replace(Path(draft) / identifier, folder)


def _inside(actions: np.ndarray, space: spaces.Box, where: str) -> np.ndarray:
    """Actions without what lies outside the bounds by rounding, as D4RL's do by a last digit.

    Raises:
        DataError: an action lies outside by more.
    """
    inside = np.clip(actions, space.low, space.high)
    wrong = (np.abs(actions - inside) > BOUND_TOLERANCE).any(axis=1)
    if wrong.any():
        reach = f"{actions.min():.4g} to {actions.max():.4g}"
        text = f"{int(wrong.sum())} actions are outside the bounds, first in row {int(wrong.argmax())}"
        raise DataError(f"{where}: {text}: they reach from {reach}, the bounds are [-1, 1]; clip or rescale them")
    return inside


def _observations(data: Transitions, rows: slice, successors: bool) -> np.ndarray:
    """(T + 1, O): the rows' observations and the one after the last row; if there is none, the last is repeated."""
    last = rows.stop - 1
    final = data.observations if data.terminated[last] and not successors else data.next_observations
    return np.concatenate([data.observations[rows], final[last : last + 1]])


def _lost(recording: Recording, data: Transitions, rows: int, successors: bool) -> list[str]:
    lost = ["metadata and other columns", *(key for key in PHYSICS if key in recording.columns)]
    if recording.rounded:
        lost.append(f"digits beyond float32 ({', '.join(recording.rounded)})")
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
