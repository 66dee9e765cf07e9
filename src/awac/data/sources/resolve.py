"""From a data set's name to its rows, and where they come from.

A name is an id or a prefix that a source has registered, else a file. The `Origin` says which source it was, for the
log.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gymnasium

from awac.data.columns import Loaded, load, named
from awac.data.ends import D4RL_LIMIT
from awac.data.order import check_order
from awac.data.rlds import is_rlds, transitions_of_steps
from awac.data.sources.d4rl import d4rl_files
from awac.data.sources.files import read_file
from awac.data.sources.generated import GENERATED, cache_file
from awac.data.sources.key_order import by_keys, by_names
from awac.data.sources.registry import Recording, Request, claimed, known_ids
from awac.data.spaces import Bound, action_space
from awac.data.transitions import Transitions
from awac.envs.make import make_env
from awac.envs.stand_in import stand_in
from awac.envs.tasks import Task
from awac.errors import DataError, nearest


@dataclass(frozen=True)
class Origin:
    """Where a data set's rows come from.

    Attributes:
        kind: of the source: "file" (the user's), "d4rl" (D4RL's recording), "generated" (by shipped policies), …
        dataset: id or path as requested.
        path: the file that was read.
        rows: number of rows in the file.
        used: number of rows used for training; those without a next observation are not.
        episodes: number of episodes, an unfinished last one included.
        mean_return: mean undiscounted return of the episodes, over all rows of the file.
        detail: for the log, such as who generated it.
        notes: what was read under another name than D4RL's, and the unit of the actions.
        warnings: what may be wrong.
        columns: (O,) names of a table's observation columns, in the order in which they are used; empty for other
            sources.
    """

    kind: str
    dataset: str
    path: Path
    rows: int
    used: int
    episodes: int
    mean_return: float
    detail: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def describe(self) -> str:
        """One log line."""
        unused = self.rows - self.used
        used = f" ({self.used} used, {unused} have no next observation)" if unused else ""
        figures = f"{self.rows} rows{used}, {self.episodes} episodes, mean return {self.mean_return:.1f}"
        return f"Data set {self.dataset}: {figures} ({self.detail})"

    def lines(self) -> list[str]:
        """All log lines: the description, the notes and the warnings."""
        notes = [f"Data: {note}" for note in self.notes]
        return [self.describe(), *notes, *(f"Data warning: {text}" for text in self.warnings)]


def load_dataset(
    path: str | os.PathLike,
    task: str | gymnasium.Env | None = None,
    *,
    limit: int | None = None,
    action_unit: str = "auto",
) -> Transitions:
    """Reads a data set: an HDF5 or .npz file, or any name that `awac train --dataset` takes.

    Keys: observations (N, O), actions (N, A) or indices (N,), rewards and terminals (N,) or (N, 1), and optionally
    timeouts and next_observations, or other libraries' names for them (`awac.data.columns`). Values of any numeric type
    become float32; flags are true where they are not 0.

    - With next_observations (D4RL v2) every row is kept; a timeout row is `truncated`, not `terminated`. Without a
      column that marks ends, an episode also ends where the next row does not start at this row's next observation.
    - Without (v0, v1) next = observations[i + 1]; rows that a time limit ended, and a last row that is not terminal,
      have none and are dropped, as D4RL's `qlearning_dataset` does. Terminal rows need none. Without a column that
      marks ends, episodes count as cut after the time limit.

    The last row is `truncated` if it is not `terminated`. Doubtful contents raise a Python warning.

    Args:
        path: the file or data set id.
        task: a task of `make_env`, or its environment: rows are checked against its sizes and bounds, continuous
            actions are scaled from its units to [-1, 1], and its time limit counts. None leaves actions as they are
            stored.
        limit: the time limit in steps, if no task is given; else D4RL's 1000.
        action_unit: `env` or `scaled` ([-1, 1]), the unit of the stored actions; `auto` is what the file says,
            else `env`.

    Raises:
        DataError: the file is missing, unreadable, or not a valid data set.
        TaskError: from `make_env`.
    """
    with contextlib.ExitStack() as stack:
        env = stack.enter_context(contextlib.closing(make_env(task))) if isinstance(task, str) else task
        loaded, _ = _load(str(path), find(path), env, action_unit, limit)
    for text in loaded.warnings:
        warnings.warn(f"{path}: {text}", stacklevel=2)
    return loaded.data


def resolve_dataset(
    id_or_path: str | os.PathLike,
    *,
    env: gymnasium.Env | None = None,
    action_unit: str = "auto",
    download: bool = False,
    rows: int | None = None,
    seed: int = 0,
    progress: bool = True,
    columns: Sequence[str] = (),
) -> tuple[Transitions, Origin]:
    """Finds, downloads or generates a data set and reads it.

    Args:
        id_or_path: a D4RL id such as `ant-expert-v2`, `CartPole-v1`, another registered name, or a path to a file.
        env: an environment of `make_env`, as `task` of `load_dataset`.
        action_unit: as in `load_dataset`.
        download: fetch D4RL's file if it is not on the machine.
        rows: rows to generate, None for the default of `generate`; a file is always read whole.
        seed: of the generation.
        progress: show bars on stderr if that is a terminal.
        columns: names of the observation columns that a policy was trained on; a table's are put in their order.

    Raises:
        DataError: no such file, an unknown id, an invalid file, or a failed download.
    """
    recording = by_names(find(id_or_path, Request(download, rows, seed, progress)), columns)
    loaded, origin = _load(str(id_or_path), recording, env, action_unit)
    return loaded.data, origin


def resolve_alone(
    id_or_path: str | os.PathLike,
    *,
    low: Bound = None,
    high: Bound = None,
    limit: int | None = None,
    action_unit: str = "auto",
    download: bool = False,
) -> tuple[Transitions, Origin, gymnasium.Env]:
    """Reads a data set without an environment.

    Args:
        id_or_path: as for `resolve_dataset`.
        low: the actions' lower bound, as in `action_space`.
        high: their upper bound.
        limit: steps after which an episode was cut, for files that don't mark it.
        action_unit: as in `load_dataset`.
        download: as for `resolve_dataset`.

    Returns:
        The rows, where they come from, and a stand-in environment with their spaces.

    Raises:
        DataError: as `resolve_dataset`, or bounds that don't fit the actions.
    """
    recording = find(id_or_path, Request(download))
    env, note = stand_in_of(recording, low=low, high=high, limit=limit, action_unit=action_unit)
    loaded, origin = _load(str(id_or_path), recording, env, action_unit)
    return loaded.data, dataclasses.replace(origin, notes=(note, *origin.notes)), env


def stand_in_of(
    recording: Recording, *, low: Bound = None, high: Bound = None, limit: int | None = None, action_unit: str = "auto"
) -> tuple[gymnasium.Env, str]:
    """A stand-in environment with a recording's spaces, arguments as for `resolve_alone`; and a line for the log.

    Raises:
        DataError: a key is missing, or the bounds don't fit the actions.
    """
    name, keys = str(recording.path), named(recording.columns)
    if "actions" not in keys or "observations" not in keys:
        load(recording.columns, name)  # raises, and says what is missing
    actions, observations = (recording.columns[keys[key]] for key in ("actions", "observations"))
    scaled, where = "scaled" in (recording.action_unit, action_unit), f"{name}: key '{keys['actions']}'"
    space, note = action_space(actions, where, scaled=scaled, text=recording.kind == "table", low=low, high=high)
    return stand_in(observations[:1].size, space, limit), note


def find(id_or_path: str | os.PathLike, request: Request | None = None) -> Recording:
    """The columns of a data set as they are stored, but for RLDS's steps, which become transitions.

    Raises:
        DataError: as `resolve_dataset`.
    """
    recording = _find(id_or_path, request or Request())
    if is_rlds(recording.columns):
        steps = recording.columns
        recording.columns = transitions_of_steps(steps, str(recording.path))
        recording.warnings += tuple(check_order(steps, False, str(recording.path)))
        recording.detail += ", RLDS's steps"
    return recording


def _find(id_or_path: str | os.PathLike, request: Request) -> Recording:
    name = str(id_or_path)
    entry = claimed(name)
    if entry is not None:
        return entry.find(name, request)
    check_there(name)
    return read_file(name, request.extra)


def check_there(name: str) -> None:
    """Checks that a data set's name is a known id, a file, or begins with a known prefix such as `minari:`.

    Raises:
        DataError: it is none of them.
    """
    path, entry = Path(name).expanduser(), claimed(name)
    if path.exists() or (entry is not None and (name in entry.ids or ":" in name)):
        return
    if os.sep not in name and not path.suffix:
        known = nearest(name, known_ids())
        raise DataError(f"data set '{name}' is neither a file nor a known id; the nearest known one is '{known}'")
    raise DataError(f"{path}: no such file; check the path")


def has_dataset(task: str) -> bool:
    """Whether a task's name is also a data set's."""
    return task in known_ids()


def at_hand(id_or_path: str) -> bool:
    """Whether a data set can be read without being generated or fetched first."""
    if id_or_path in GENERATED:
        files = [*d4rl_files(id_or_path), cache_file(id_or_path)]
        return any(map(os.path.isfile, files))
    return claimed(id_or_path) is not None or Path(id_or_path).expanduser().exists()


def _load(
    name: str, recording: Recording, env: gymnasium.Env | None, action_unit: str, limit: int | None = None
) -> tuple[Loaded, Origin]:
    if env is None and limit is None and Task.parse(name).is_d4rl:
        limit = D4RL_LIMIT
    recording = by_keys(recording, env)
    loaded = load(
        recording.columns,
        str(recording.path),
        env=env,
        limit=limit,
        action_unit=action_unit,
        stored_unit=recording.action_unit,
    )
    notes, warnings = (*recording.notes, *loaded.notes), (*recording.warnings, *loaded.warnings)
    loaded = dataclasses.replace(loaded, notes=notes, warnings=warnings)
    returns = loaded.returns
    origin = Origin(
        recording.kind,
        name,
        recording.path,
        loaded.rows,
        len(loaded.data),
        len(returns),
        float(returns.mean()),
        recording.detail,
        loaded.notes,
        loaded.warnings,
        recording.names,
    )
    return loaded, origin
