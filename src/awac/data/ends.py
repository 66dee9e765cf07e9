"""Where episodes end: from all columns that mark it, else guessed; and whether the marks are plausible."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import gymnasium
import numpy as np

from awac.errors import DataError

TERMINALS = ("terminals", "terminal")
TERMINATED = ("terminations", "terminated", "terminateds", "is_terminal")
"""The task ended. Gymnasium's names say only that; D4RL's are also used for "the episode ended"."""
DONES = ("dones", "done", "dones_float")
"""The end of an episode for any reason if the file also has a terminal flag; else the terminal flag."""
CUTS = ("timeouts", "timeout", "truncations", "truncated", "truncateds", "truncation")
"""The recording of the episode ends in this row although the task went on."""
ENDS = (*CUTS, "episode_terminals", "episode_ends", "episode_end", "is_last")
"""The recording of the episode ends in this row, some say for any reason."""
MASKS = ("masks",)
"""0 where the task ended."""
STARTS = ("episode_starts", "is_first")
IDS = ("episode_ids", "episode_id", "eps_id", "trajectory_ids", "traj_ids", "episode")
STEPS = ("step", "t", "timestep", "time_step", "frame_index")
"""The number of a step, in its episode or in all; tells whether rows are in order."""

FLAGS = (*TERMINALS, *TERMINATED, *DONES, *ENDS, *MASKS, *STARTS, *IDS)

D4RL_LIMIT = 1000
"""Step limit of episodes that have no other end; D4RL's for every robot."""


@dataclass
class Ends:
    """Where episodes end.

    Attributes:
        terminated: (N,) bool; the task ended.
        cut: (N,) bool; the recording of the episode ends although the task went on.
        marked: whether the file has a column for `cut`.
        notes: as in `Loaded`.
    """

    terminated: np.ndarray
    cut: np.ndarray
    marked: bool
    notes: list[str] = field(default_factory=list)


def before_starts(columns: dict[str, np.ndarray], rows: int, source: str) -> tuple[np.ndarray, list[str]]:
    """(`rows`,) bool, rows before an episode's start or a new episode number; and the columns that say so.

    Raises:
        DataError: a flag is NaN.
    """
    names = [name for name in (*STARTS, *IDS) if name in columns]
    before = np.zeros(rows, bool)
    for name in names:
        if name in STARTS:
            before[:-1] |= flags(columns[name], f"{source}: key '{name}'")[1:]
        else:
            numbers = columns[name].reshape(-1)
            before[:-1] |= numbers[1:] != numbers[:-1]
    return before, names


def find_ends(columns: dict[str, np.ndarray], source: str) -> Ends:
    """Terminal flag and ends of episodes from all columns that mark them.

    Raises:
        DataError: a flag is NaN.
    """
    present = {name: flags(columns[name], f"{source}: key '{name}'") for name in FLAGS if name in columns}
    present.update({name: ~present[name] for name in MASKS if name in present})
    groups = ((*TERMINATED, *MASKS), TERMINALS, DONES)
    terminal_names = next(names for group in groups if (names := [name for name in group if name in present]))
    terminated = np.logical_or.reduce([present[name] for name in terminal_names])
    notes = []
    if terminal_names != ["terminals"]:
        notes.append(f"terminals from {_quoted(terminal_names)}")
    if terminal_names[0] in DONES and (cut_names := [name for name in CUTS if name in present]):
        both = terminated & np.logical_or.reduce([present[name] for name in cut_names])
        terminated = terminated & ~both  # old gym: done = terminated or truncated
        if both.any():
            rows = f"{int(both.sum())} rows are in {_quoted([*terminal_names, *cut_names])}"
            notes.append(f"{rows}: read as cut, the task went on")
    # Beside an unambiguous terminal flag, `terminals` and `dones` mark the ends of episodes.
    end_names = [name for name in (*ENDS, *TERMINALS, *DONES) if name in present and name not in terminal_names]
    cut = np.zeros(len(terminated), bool)
    for name in end_names:
        cut |= present[name]
    before, names = before_starts(columns, len(terminated), source)
    cut |= before
    end_names += names
    if not end_names and (counted := _counted_anew(columns)):
        end_names = [counted]
        cut[:-1] |= np.diff(columns[counted].reshape(-1)) < 0
    if end_names not in ([], ["timeouts"]):
        notes.append(f"episode ends from {_quoted(end_names)}")
    return Ends(terminated, cut & ~terminated, bool(end_names), notes)


def _counted_anew(columns: dict[str, np.ndarray]) -> str | None:
    """The column that counts the steps of each episode: 0, 1, 2, … or 1, 2, 3, …, and from there again."""
    for name in (name for name in STEPS if name in columns):
        steps = columns[name].reshape(-1)
        falls = np.diff(steps) < 0
        counts = np.where(falls, steps[1:] == steps.min(), np.diff(steps) == 1).all()
        if falls.any() and counts and steps.min() in (0, 1) and steps.max() >= 2:  # no switch between 0 and 1
            return name
    return None


def time_limit(env: gymnasium.Env | None) -> int | None:
    """The number of steps after which an environment truncates an episode; None if it has no limit."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            return env._max_episode_steps
        env = env.env
    return env.spec.max_episode_steps if env is not None and env.spec is not None else None


def guessed_ends(ends: Ends, observations, successors, limit: int | None, notes: list[str], warnings: list[str]):
    """Ends of episodes of a file that marks none: a jump to another state, else the task's time limit."""
    if successors is not None:
        if ends.marked:
            return ends.cut
        notes.append("episode ends from jumps: no column marks them")
        cut = np.zeros(len(observations), bool)
        cut[:-1] = (successors[:-1] != observations[1:]).any(axis=1) & ~ends.terminated[:-1]
        return cut
    cut = _capped(ends.terminated, limit or D4RL_LIMIT)
    if ends.marked and cut.any():
        text = f"no row is marked as a time limit, but episodes run on for {limit or D4RL_LIMIT} rows: cut there"
        warnings.append(f"{text}; check the flags")
    elif not ends.marked and limit:
        text = f"no column marks ends other than terminals: episodes are cut after the task's {limit} steps"
        warnings.append(f"{text}; store timeouts or truncations if they ended earlier")
    elif not ends.marked:
        text = (
            f"no column marks ends other than terminals, and the task's limit is not known: cut after {D4RL_LIMIT} rows"
        )
        warnings.append(f"{text}; name the task, or store timeouts or truncations")
    return cut


def limit_warnings(terminated, cut, limit: int | None) -> list[str]:
    """Terminal rows exactly at the time limit: the sign of Gymnasium's or gym's `done` stored as terminals."""
    at = np.flatnonzero(terminated | cut)
    lengths = np.diff(np.concatenate([[-1], at]))
    terminal = terminated[at]
    if limit:
        exact = lengths == limit
        count, rest = int((exact & terminal).sum()), int((exact & ~terminal).sum())
        if count > rest:
            text = f"{count} of {int(terminal.sum())} terminal rows are the task's last step ({limit})"
            return [f"{text}: is a time limit stored as terminal? It cuts the bootstrap; store it in timeouts instead"]
        return []
    if terminal.sum() >= 3 and terminal[:-1].all() and len(set(lengths[terminal])) == 1 and lengths[0] >= 50:
        text = f"all {int(terminal.sum())} terminal rows end an episode of {lengths[0]} steps"
        return [f"{text}: is a time limit stored as terminal? It cuts the bootstrap; store it in timeouts instead"]
    return []


def _capped(terminated: np.ndarray, limit: int) -> np.ndarray:
    """Timeouts of episodes that run for `limit` rows without terminating."""
    rows = np.arange(len(terminated))
    starts = np.concatenate([[0], np.flatnonzero(terminated) + 1])
    age = rows - starts[np.searchsorted(starts, rows, side="right") - 1]
    return (age % limit == limit - 1) & ~terminated


def flags(values: np.ndarray, where: str) -> np.ndarray:
    """A column of marks as (N,) bool.

    Raises:
        DataError: one is NaN or infinite.
    """
    values = values.reshape(-1)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(f"{where} has NaN or infinite values, first in row {row}; store it as bool")
    return values != 0


def _quoted(names: Iterable[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)
