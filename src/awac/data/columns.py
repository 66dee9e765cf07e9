"""From the columns of a file, under whatever names, to `Transitions`.

D4RL's names come first; those of Gymnasium, Minari, d3rlpy, RLlib, Stable-Baselines3 and others are known as well.
`Loaded.notes` and `Loaded.warnings` say which columns were read under other names and what was guessed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import gymnasium
import numpy as np

from awac.data.action_unit import policy_actions
from awac.data.ends import (
    DONES,
    FLAGS,
    MASKS,
    TERMINALS,
    TERMINATED,
    find_ends,
    guessed_ends,
    limit_warnings,
    time_limit,
)
from awac.data.order import check_order
from awac.data.transitions import Transitions, check_observations
from awac.envs.actions import environment_action_space
from awac.envs.tasks import NAMESPACE
from awac.errors import DataError

VECTORS: dict[str, tuple[str, ...]] = {
    "observations": ("observations", "obs", "observation", "states", "state"),
    "actions": ("actions", "action", "acts"),
    "rewards": ("rewards", "reward"),
    "next_observations": ("next_observations", "next_obs", "next_observation", "next_states", "next_state", "new_obs"),
}
"""The names of each column; the first is D4RL's."""

PHYSICS = ("infos/qpos", "infos/qvel")
REQUIRED = ("observations", "actions", "rewards", "terminals")

_SAMPLE, _NEARLY_ALL = 20_000, 0.9
"""Rows looked at, and the share of them that says that a column is wrong."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A data set that was read.

    Attributes:
        data: the rows that can be trained on; actions in [-1, 1] if an action space was given, else as stored.
        rows: number of rows in the file; those without a next observation are not in `data`.
        returns: (E,) float64, undiscounted return of each episode, over all rows of the file.
        lengths: (E,) int64, steps of each episode, over all rows as well.
        notes: what was read under another name, or scaled; one line each.
        warnings: what may be wrong; one line each.
    """

    data: Transitions
    rows: int
    returns: np.ndarray
    lengths: np.ndarray
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def named(keys: Iterable[str]) -> dict[str, str]:
    """The file's keys for VECTORS and the terminal flag, as far as it has them: `{"rewards": "reward"}`."""
    keys = set(keys)
    present = {name: next((alias for alias in aliases if alias in keys), None) for name, aliases in VECTORS.items()}
    flags = (*TERMINATED, *TERMINALS, *MASKS, *DONES)
    present["terminals"] = next((name for name in flags if name in keys), None)
    return {name: key for name, key in present.items() if key is not None}


def used_keys(keys: Iterable[str]) -> list[str]:
    """The keys of a file that `load` uses."""
    keys = set(keys)
    return [*dict.fromkeys((*named(keys).values(), *(name for name in FLAGS if name in keys)))]


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
        action_unit: `auto`, `env` or `scaled`, the user's choice for the stored actions.
        stored_unit: `env` or `scaled`, the unit that the file names; None if it names none.

    Raises:
        DataError: the columns are not a valid data set.
    """
    keys = named(columns)
    missing = [name for name in REQUIRED if name not in keys]
    if missing:
        raise DataError(missing_key(source, missing[0], columns))
    observations = _matrix(columns[keys["observations"]])
    where = f"{source}: key '{keys['actions']}'"
    task = "" if env is None or env.spec is None else env.spec.id.removeprefix(NAMESPACE)
    if env is not None:
        check_observations(source, observations.shape[1], env.observation_space, task)
    space = None if env is None else environment_action_space(env)
    actions = policy_actions(columns[keys["actions"]], where, space, action_unit, stored_unit)
    limit = limit or time_limit(env)
    rewards = columns[keys["rewards"]].reshape(-1).astype(np.float32, copy=False)
    ends = find_ends(columns, source)
    renamed = [f"{name} from '{key}'" for name, key in keys.items() if name not in ("terminals", key)]
    notes, warnings = [*renamed, *ends.notes, *actions.notes], [*actions.warnings]
    rows = len(rewards)
    successors = _successors(columns, keys, observations, source)
    if successors is not None:
        where = f"{source}: '{keys['next_observations']}'"
        if text := _own(successors, observations, ends.terminated | ends.cut, where):
            warnings.append(text)
        if text := _reset_too_early(successors, observations, ends.cut):
            warnings.append(text)
    cut = ends.cut if ends.cut.any() else guessed_ends(ends, observations, successors, limit, notes, warnings)
    cut[-1] = not ends.terminated[-1]
    if successors is not None and (text := _filled_in(successors, observations, ends.terminated, cut)):
        warnings.append(text)
    warnings += check_order(columns, successors is not None, source, ends.terminated | cut)
    warnings += limit_warnings(ends.terminated, cut, limit)
    starts = np.concatenate([[0], np.flatnonzero(ends.terminated | cut)[:-1] + 1])
    returns = np.add.reduceat(rewards.astype(np.float64), starts)
    lengths = np.diff(np.append(starts, rows))
    if successors is None:
        keep = ~cut  # a terminal row needs no successor
    else:
        successors, keep = _usable(successors, observations, ends.terminated, cut)
    if not keep.any():
        raise DataError(f"{source}: no row has a successor (single rows or timeouts only); record it again")
    truncated = cut.copy()
    # The row before a dropped one now ends its episode.
    truncated[:-1] |= ~keep[1:] & ~ends.terminated[:-1]
    used = slice(None) if keep.all() else keep
    later = np.minimum(np.flatnonzero(keep) + 1, rows - 1)
    next_observations = observations[later] if successors is None else successors[used]
    fields = (observations[used], actions.values[used], rewards[used], next_observations, ends.terminated[used])
    data = Transitions(*fields, truncated[used]).check(source)
    if env is not None:
        data.check_env(source, env.observation_space, env.action_space, task)
    return Loaded(data, rows, returns, lengths, tuple(notes), tuple(warnings))


def missing_key(source: str, key: str, keys: Iterable[str]) -> str:
    """The message for a missing required key."""
    known = sorted(keys)
    listed = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    hint = ""
    if key == "rewards" and {"observations", "actions", "terminals"} <= set(known):
        hint = "; OGBench's goal-conditioned files have none: compute them for your goal first"
    if key == "terminals":
        hint = "; if the task never ends by itself, it is a column of zeros"
    needed = f"a data set needs {', '.join(REQUIRED)}, this one has {listed or 'no arrays'}"
    return f"{source}: key '{key}' is missing; {needed}{hint}"


def _successors(columns, keys, observations: np.ndarray, source: str) -> np.ndarray | None:
    if "next_observations" not in keys:
        return None
    successors = _matrix(columns[keys["next_observations"]])
    if successors.shape != observations.shape:
        sizes = f"{successors.shape[1]} columns but '{keys['observations']}' has {observations.shape[1]}"
        raise DataError(f"{source}: key '{keys['next_observations']}' has {sizes}; record it again")
    return successors


def _own(successors: np.ndarray, observations: np.ndarray, ended: np.ndarray, where: str) -> str | None:
    """A warning if nearly all next observations are the rows' own although the next rows' observations are others.

    Raises:
        DataError: all are.
    """
    rows = np.flatnonzero(~ended[:-1])
    rows = rows[:: max(1, len(rows) // _SAMPLE)]
    here, following = observations[rows], observations[rows + 1]
    own = (successors[rows] == here).all(axis=1) & (here != following).any(axis=1)
    if not len(rows) or own.mean() <= _NEARLY_ALL:
        return None
    if not own.all():  # of a task that often stands still, shuffled
        return f"the next observations are the rows' own in {own.mean():.0%} of the rows: a buffer that is used again?"
    raise DataError(
        f"{where} are the rows' own observations: a buffer that is used again? Copy the observation before the step; "
        "of rows in their order the key can be left out; one-step episodes end in terminals"
    )


def _reset_too_early(successors: np.ndarray, observations: np.ndarray, cut: np.ndarray) -> str | None:
    """A warning if rows that are cut lead to the next row, another episode's first, and further than rows inside do.

    A task that goes on after the cut, such as a log that is stored by the day, leads to the next row too.
    """
    rows, inside = np.flatnonzero(cut[:-1]), np.flatnonzero(~cut)
    here, following = observations[rows], observations[rows + 1]
    leads = int(((successors[rows] == following).all(axis=1) & (here != following).any(axis=1)).sum())
    if 2 * leads <= len(rows) or not len(inside) or not _further(successors, observations, rows, inside):
        return None
    text = f"the next observations of {leads} of {len(rows)} cut rows are the next episode's first observation"
    return f"{text}: was the environment reset before they were stored? They would be bootstrapped from the wrong state"


def _filled_in(successors: np.ndarray, observations: np.ndarray, terminated: np.ndarray, cut: np.ndarray) -> str | None:
    """A warning if the next observations of most cut rows are one vector, such as zeros, that no step leads to."""
    rows, inside = np.flatnonzero(cut), np.flatnonzero(~terminated & ~cut)
    rows = rows[np.isfinite(successors[rows]).all(axis=1)]
    rows, inside = (indices[:: max(1, len(indices) // _SAMPLE)] for indices in (rows, inside))
    if len(rows) < 2 or not len(inside):
        return None
    common = np.median(successors[rows], axis=0)  # of equal vectors that are more than half
    count = int((successors[rows] == common).all(axis=1).sum())
    if 2 * count <= len(rows) or count < 2 or not _further(successors, observations, rows, inside):
        return None
    what = "zeros" if not common.any() else "one and the same vector"
    text = f"the next observations of {count} of {len(rows)} cut rows are {what}, far from their observations"
    return f"{text}: they would be bootstrapped from it; store NaN where there is none, and those rows are left out"


def _further(successors: np.ndarray, observations: np.ndarray, rows: np.ndarray, inside: np.ndarray) -> bool:
    """Whether `rows` lead further than nearly all rows inside episodes do."""
    scale = np.maximum(observations.std(axis=0), 1e-8)
    far, near = (np.abs((successors[i] - observations[i]) / scale).max(axis=1) for i in (rows, inside))
    return bool(np.nanmedian(far) > np.nanquantile(near, 0.99))


def _usable(successors, observations, terminated, cut) -> tuple[np.ndarray, np.ndarray]:
    """Successors without NaN where an episode ends, and the rows to keep.

    A terminal row's successor is never used and may hold anything; a truncated row without a successor is dropped.
    """
    keep = np.ones(len(successors), bool)
    ends = np.flatnonzero(terminated | cut)
    bad = ends[~np.isfinite(successors[ends]).all(axis=1)]
    if len(bad):
        successors = successors.copy()
        successors[bad] = observations[bad]
        keep[bad] = terminated[bad]
    return successors, keep


def _matrix(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).astype(np.float32, copy=False)
