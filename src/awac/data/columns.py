"""From the columns of a file, under whatever names, to `Transitions`.

D4RL's names come first; names of Gymnasium, Minari, d3rlpy, RLlib, Stable-Baselines3 and others are known as well. What
was read under another name than D4RL's, and what had to be guessed, is said in `Loaded.notes` and `Loaded.warnings`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import gymnasium
import numpy as np

from awac.data.action_unit import policy_actions
from awac.data.transitions import Transitions, check_observations
from awac.envs.actions import environment_action_space
from awac.errors import DataError

VECTORS: dict[str, tuple[str, ...]] = {
    "observations": ("observations", "obs", "observation", "states"),
    "actions": ("actions", "action", "acts"),
    "rewards": ("rewards", "reward"),
    "next_observations": ("next_observations", "next_obs", "next_observation", "next_states", "new_obs"),
}
"""The names of each column, the first one being D4RL's."""

TERMINALS = ("terminals", "terminal")
TERMINATED = ("terminations", "terminated", "terminateds", "is_terminal")
"""The task ended. Gymnasium's names say only that; D4RL's are also used for "the episode ended"."""
DONES = ("dones", "done", "dones_float")
"""The episode ended, for whatever reason, where the file has a terminal flag as well; else the terminal flag."""
ENDS = (
    "timeouts",
    "timeout",
    "truncations",
    "truncated",
    "truncateds",
    "truncation",
    "episode_terminals",
    "episode_ends",
    "episode_end",
    "is_last",
)
"""The recording of the episode ends in this row."""
MASKS = ("masks",)
"""0 where the task ended."""
STARTS = ("episode_starts", "is_first")
IDS = ("episode_ids", "episode_id", "eps_id", "trajectory_ids", "traj_ids")

PHYSICS = ("infos/qpos", "infos/qvel")
FLAGS = (*TERMINALS, *TERMINATED, *DONES, *ENDS, *MASKS, *STARTS, *IDS)
KNOWN = (*(name for names in VECTORS.values() for name in names), *FLAGS)
REQUIRED = ("observations", "actions", "rewards", "terminals")

D4RL_LIMIT = 1000
"""Where episodes are cut that nothing else ends, as D4RL does for every robot."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A data set that was read.

    Attributes:
        data: the rows that can be trained on; actions in [-1, 1] where an action space was given, else as stored.
        rows: number of rows in the file; those without a next observation are not in `data`.
        returns: (E,) float64, undiscounted return of each episode, over all rows of the file.
        notes: what was read under another name, or scaled; one line each.
        warnings: what may be wrong; one line each.
    """

    data: Transitions
    rows: int
    returns: np.ndarray
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


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


def named(keys: Iterable[str]) -> dict[str, str]:
    """The key that holds each of VECTORS and the terminal flag, of those there are: `{"rewards": "reward"}`."""
    keys = set(keys)
    present = {name: next((alias for alias in aliases if alias in keys), None) for name, aliases in VECTORS.items()}
    flags = (*TERMINATED, *TERMINALS, *MASKS, *DONES)
    present["terminals"] = next((name for name in flags if name in keys), None)
    return {name: key for name, key in present.items() if key is not None}


def load(
    columns: dict[str, np.ndarray],
    source: str,
    *,
    env: gymnasium.Env | None = None,
    limit: int | None = None,
    action_unit: str = "auto",
    stored_unit: str | None = None,
) -> Loaded:
    """Transitions from columns under any of the known names, by the rules of `load_dataset`.

    Args:
        columns: arrays of N rows by name.
        source: file or data set name for messages.
        env: of `make_env`: sizes and bounds are checked against it, its time limit counts, and continuous actions are
            scaled from its units. None leaves actions as they are stored.
        limit: the time limit in steps instead of the environment's; None if it is not known.
        action_unit: `auto`, `env` or `scaled`; what the user says about the stored actions.
        stored_unit: `env` or `scaled`; what the file says, None if nothing.

    Raises:
        DataError: the columns make no sound data set.
    """
    keys = named(columns)
    missing = [name for name in REQUIRED if name not in keys]
    if missing:
        raise DataError(missing_key(source, missing[0], columns))
    observations = _matrix(columns[keys["observations"]])
    where = f"{source}: key '{keys['actions']}'"
    if env is not None:
        check_observations(source, observations.shape[1], env.observation_space)
    space = None if env is None else environment_action_space(env)
    actions = policy_actions(columns[keys["actions"]], where, space, action_unit, stored_unit)
    limit = limit or time_limit(env)
    rewards = columns[keys["rewards"]].reshape(-1).astype(np.float32, copy=False)
    ends = find_ends(columns, source)
    renamed = [f"{name} from '{key}'" for name, key in keys.items() if name not in ("terminals", key)]
    notes, warnings = [*renamed, *ends.notes, *actions.notes], [*actions.warnings]
    rows = len(rewards)
    successors = _successors(columns, keys, observations, source)
    cut = ends.cut if ends.cut.any() else _guessed_ends(ends, observations, successors, limit, notes, warnings)
    cut[-1] = not ends.terminated[-1]
    warnings += _limit_warnings(ends.terminated, cut, limit)
    returns = _returns(rewards, ends.terminated | cut)
    if successors is None:
        keep = ~cut  # a terminal row needs no successor
        successors = np.concatenate([observations[1:], observations[-1:]])
    else:
        successors, keep = _usable(successors, observations, ends.terminated, cut)
    if not keep.any():
        raise DataError(f"{source}: no row has a successor (single rows or timeouts only); record it again")
    truncated = cut.copy()
    # The row before a dropped one now is its episode's last.
    truncated[:-1] |= ~keep[1:] & ~ends.terminated[:-1]
    fields = (observations, actions.values, rewards, successors, ends.terminated, truncated)
    data = Transitions(*(fields if keep.all() else (values[keep] for values in fields))).check(source)
    if env is not None:
        data.check_env(source, env.observation_space, env.action_space)
    return Loaded(data, rows, returns, tuple(notes), tuple(warnings))


def missing_key(source: str, key: str, keys: Iterable[str]) -> str:
    """The message for a required key that is under none of its names."""
    known = sorted(keys)
    listed = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    hint = ""
    if key == "rewards" and {"observations", "actions", "terminals"} <= set(known):
        hint = "; OGBench's goal-conditioned files have none: compute them for your goal first"
    needed = f"a data set needs {', '.join(REQUIRED)}, this one has {listed or 'no arrays'}"
    return f"{source}: key '{key}' is missing; {needed}{hint}"


def find_ends(columns: dict[str, np.ndarray], source: str) -> Ends:
    """Terminal flag and ends of episodes from all columns that tell them.

    Raises:
        DataError: a flag that is NaN.
    """
    present = {name: _flags(columns[name], f"{source}: key '{name}'") for name in FLAGS if name in columns}
    present.update({name: ~present[name] for name in MASKS if name in present})
    groups = ((*TERMINATED, *MASKS), TERMINALS, DONES)
    terminal_names = next(names for group in groups if (names := [name for name in group if name in present]))
    terminated = np.logical_or.reduce([present[name] for name in terminal_names])
    # Beside an unambiguous terminal flag, `terminals` and `dones` mark the ends of episodes.
    end_names = [name for name in (*ENDS, *TERMINALS, *DONES) if name in present and name not in terminal_names]
    cut = np.zeros(len(terminated), bool)
    for name in end_names:
        cut |= present[name]
    for name in (name for name in STARTS if name in present):
        cut[:-1] |= present[name][1:]
        end_names.append(name)
    for name in (name for name in IDS if name in columns):
        values = columns[name].reshape(-1)
        cut[:-1] |= values[1:] != values[:-1]
        end_names.append(name)
    notes = []
    if terminal_names != ["terminals"]:
        notes.append(f"terminals from {_quoted(terminal_names)}")
    if end_names not in ([], ["timeouts"]):
        notes.append(f"episode ends from {_quoted(end_names)}")
    return Ends(terminated, cut & ~terminated, bool(end_names), notes)


def time_limit(env: gymnasium.Env | None) -> int | None:
    """The number of steps after which an environment truncates an episode; None if it has no limit."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            return env._max_episode_steps
        env = env.env
    return env.spec.max_episode_steps if env is not None and env.spec is not None else None


def _guessed_ends(ends: Ends, observations, successors, limit: int | None, notes: list[str], warnings: list[str]):
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


def _limit_warnings(terminated, cut, limit: int | None) -> list[str]:
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


def _successors(columns, keys, observations: np.ndarray, source: str) -> np.ndarray | None:
    if "next_observations" not in keys:
        return None
    successors = _matrix(columns[keys["next_observations"]])
    if successors.shape != observations.shape:
        sizes = f"{successors.shape[1]} columns but '{keys['observations']}' has {observations.shape[1]}"
        raise DataError(f"{source}: key '{keys['next_observations']}' has {sizes}; record it again")
    return successors


def _usable(successors, observations, terminated, cut) -> tuple[np.ndarray, np.ndarray]:
    """Successors without NaN where an episode ends, and the rows to keep.

    A terminal row's successor is never used, so anything may stand there; a cut row without one is dropped.
    """
    keep = np.ones(len(successors), bool)
    ends = np.flatnonzero(terminated | cut)
    bad = ends[~np.isfinite(successors[ends]).all(axis=1)]
    if len(bad):
        successors = successors.copy()
        successors[bad] = observations[bad]
        keep[bad] = terminated[bad]
    return successors, keep


def _returns(rewards: np.ndarray, ends: np.ndarray) -> np.ndarray:
    starts = np.concatenate([[0], np.flatnonzero(ends)[:-1] + 1])
    return np.add.reduceat(rewards.astype(np.float64), starts)


def _capped(terminated: np.ndarray, limit: int) -> np.ndarray:
    """Timeouts of episodes that run for `limit` rows without terminating."""
    rows = np.arange(len(terminated))
    starts = np.concatenate([[0], np.flatnonzero(terminated) + 1])
    age = rows - starts[np.searchsorted(starts, rows, side="right") - 1]
    return (age % limit == limit - 1) & ~terminated


def _matrix(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).astype(np.float32, copy=False)


def _flags(values: np.ndarray, where: str) -> np.ndarray:
    values = values.reshape(-1)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(f"{where} has NaN or infinite values, first in row {row}; store it as bool")
    return values != 0


def _quoted(names: Iterable[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)
