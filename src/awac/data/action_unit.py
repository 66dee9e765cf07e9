"""The unit of a file's actions, and their conversion to the policy's unit, [-1, 1].

D4RL, Gymnasium and Minari store actions in the environment's own units. A file can say otherwise (`action_unit` in its
metadata), or the user can (`--action_unit`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from awac.data.transitions import BOUND_TOLERANCE
from awac.envs.actions import to_policy
from awac.errors import DataError

UNITS = ("auto", "env", "scaled")
STORED_NAMES = {"env": "env", "environment": "env", "scaled": "scaled", "normalized": "scaled", "policy": "scaled"}
"""What a file's key `action_unit` may hold."""
_MAX_INDEX = np.iinfo(np.int32).max


@dataclass(frozen=True, eq=False)
class Actions:
    """Actions as `Transitions` takes them; `notes` and `warnings` as in `columns.Loaded`."""

    values: np.ndarray
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def policy_actions(
    values: np.ndarray, where: str, space: spaces.Space | None, unit: str = "auto", stored: str | None = None
) -> Actions:
    """Stored actions in the policy's units.

    Args:
        values: (N, A), (N,) or (N, 1) of any numeric type.
        where: file and key for messages.
        space: the environment's own action space; None leaves the values unscaled; one column of an integer or bool
            type then holds indices of discrete actions.
        unit: `auto`, `env` or `scaled`, the user's choice; `auto` takes the file's unit, else `env`.
        stored: `env` or `scaled`, the unit that the file names; None if it names none.

    Returns:
        (N, A) float32 in [-1, 1], or (N,) int32 indices 0..n-1.

    Raises:
        DataError: user and file contradict each other, or the values are outside the space.
    """
    if unit not in UNITS:
        raise DataError(f"{where}: action unit '{unit}' is unknown; it is one of {', '.join(UNITS)}")
    if stored and unit not in ("auto", stored):
        raise DataError(
            f"{where}: the file says its actions are in unit '{stored}', not '{unit}'; leave action_unit out"
        )
    scaled = (stored or unit) == "scaled"
    if isinstance(space, spaces.Discrete):
        return Actions(_indices(values, where, space, scaled))
    if space is None and values.dtype.kind in "biu" and values.size == len(values):
        if values.min() < 0 or values.max() > _MAX_INDEX:
            raise DataError(f"{where} has an index outside 0..2^31-1; store indices, or floats for continuous actions")
        return Actions(values.reshape(-1).astype(np.int32))
    vectors = values.reshape(len(values), -1)
    actions = vectors.astype(np.float32, copy=False)
    if not isinstance(space, spaces.Box) or actions.shape[1] != int(np.prod(space.shape)):
        return Actions(actions)  # `Transitions.check_env` reports different sizes
    low, high = space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)
    if (low == -1).all() and (high == 1).all():
        _check_bounds(actions, actions, where, "[-1, 1]", "")
        return Actions(actions)
    bounds = _interval(low, high)
    if scaled:
        _check_bounds(actions, actions, where, "[-1, 1]", " of the scaled unit")
        return Actions(actions, (f"actions are scaled to [-1, 1] already (the environment's units are {bounds})",))
    result = to_policy(space, vectors)
    assumed = stored is None and unit == "auto"
    inside = bool((np.abs(actions) <= 1 + BOUND_TOLERANCE).all())
    hint = " (scaled to [-1, 1] already? Then --action_unit scaled)" if assumed and inside else ""
    _check_bounds(result, actions, where, bounds, hint)
    warnings = []
    # Where the bounds are ±1 both units are the same, and scaled actions below 0 are outside of bounds from 0 on.
    wide = (np.maximum(np.abs(low), np.abs(high)) >= 1.2) & (low < 0) & (low < high)
    if assumed and inside and wide.any() and float(np.abs(actions[:, wide]).max(initial=0.0)) > 0.9:
        least, largest = actions[:, wide].min(), actions[:, wide].max()
        warnings.append(
            f"actions reach only {least:.3g} to {largest:.3g} of {_interval(low[wide], high[wide])}: if they are "
            "scaled to [-1, 1] already, give --action_unit scaled"
        )
    locked = low == high
    if (np.abs(actions[:, locked] - low[locked]) > BOUND_TOLERANCE * np.maximum(1, np.abs(low[locked]))).any():
        columns = ", ".join(map(str, np.flatnonzero(locked)))
        warnings.append(f"the environment holds action {columns} at a constant, the data have other values there")
    return Actions(result, (f"actions in environment units {bounds}, scaled to [-1, 1]",), tuple(warnings))


def _indices(values: np.ndarray, where: str, space: spaces.Discrete, scaled: bool) -> np.ndarray:
    """Indices 0..n-1 from whole numbers of any type; vectors are left for `Transitions.check_env` to report."""
    if values.size != len(values):
        return values.reshape(len(values), -1).astype(np.float32, copy=False)
    flat = values.reshape(-1)
    first, count = (0, int(space.n)) if scaled else (int(space.start), int(space.n))
    with np.errstate(invalid="ignore"):
        wrong = (
            (flat != np.floor(flat)) | (flat < first) | (flat >= first + count)
            if flat.dtype.kind == "f"
            else ((flat.astype(np.int64) < first) | (flat.astype(np.int64) >= first + count))
        )
    if wrong.any():
        row = int(wrong.argmax())
        known = f"{first}..{first + count - 1}"
        raise DataError(f"{where}: action {flat[row]} in row {row} is not one of the task's {known}")
    return (flat.astype(np.int64) - first).astype(np.int32)


def _check_bounds(scaled: np.ndarray, stored: np.ndarray, where: str, bounds: str, hint: str) -> None:
    with np.errstate(invalid="ignore"):
        outside = (np.abs(scaled) > 1 + BOUND_TOLERANCE).any(axis=1)  # `Transitions.check` reports NaN
    if outside.any():
        row = int(outside.argmax())
        raise DataError(
            f"{where}: {int(outside.sum())} actions are outside the task's bounds, first in row {row}: they reach from "
            f"{np.nanmin(stored):.4g} to {np.nanmax(stored):.4g}, the bounds are {bounds}{hint}; clip or rescale them"
        )


def _interval(low: np.ndarray, high: np.ndarray) -> str:
    """`[-2, 2]`, or one pair per column if the bounds differ."""
    if (low == low[0]).all() and (high == high[0]).all():
        return f"[{low[0]:.4g}, {high[0]:.4g}]"
    shown = ", ".join(f"[{a:.4g}, {b:.4g}]" for a, b in zip(low[:4], high[:4], strict=True))
    return shown + (", …" if len(low) > 4 else "")
