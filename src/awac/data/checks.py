"""Checks of a data set's rows: constant columns, repeated rows, rewards, ends of episodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from awac.data.normalizer import describe_columns, varying_columns
from awac.data.transitions import Transitions
from awac.envs.guard import guard_of, parts_of
from awac.envs.make import UNBOUNDED
from awac.envs.tasks import Task, normalized_score

_SATURATED = 0.999
_SAMPLE = 20_000
_BLOCK = 65536
_NARROW = 0.1
"""Share of its bounds that an action uses, below which it may be in another unit."""
_BEYOND, _FEW = 0.01, 0.01
"""How far a value may lie outside its bounds, as a share of their width, and how many rows may lie further out."""


class Finding(NamedTuple):
    """One line of the report: `verdict` is ok, warn or fail."""

    verdict: str
    check: str
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:<5}{self.check:<14}{self.text}"


def check_rows(
    data: Transitions,
    task: Task | None = None,
    limit: int | None = None,
    returns: np.ndarray | None = None,
    scaled: bool = True,
    lengths: np.ndarray | None = None,
) -> Iterator[Finding]:
    """Yields the findings about the rows.

    Args:
        data: the rows.
        task: for the normalised score; None leaves it out.
        limit: the task's time limit in steps; None if it has none.
        returns: (E,) of the episodes, including rows that are not in `data`; None takes those of `data`.
        scaled: the actions are in [-1, 1]; else their bounds are not known, and each column's own range stands in.
        lengths: (E,) of the episodes in steps, as `returns`.
    """
    yield from _check_columns(data, scaled)
    yield from _check_rewards(data)
    if returns is None:
        returns = data.episode_returns()
    if lengths is None:
        lengths = np.diff(np.flatnonzero(data.terminated | data.truncated), prepend=-1)
    yield from _check_episodes(data, task, limit, returns, lengths)


def _check_columns(data: Transitions, scaled: bool) -> Iterator[Finding]:
    varies = varying_columns(data.observations)
    yield Finding("ok" if varies.any() else "fail", "observations", describe_columns(varies))
    sample = data.observations[:: max(1, len(data) // _SAMPLE)]
    _, first, inverse = np.unique(sample[:, varies], axis=1, return_index=True, return_inverse=True)
    doubled = np.flatnonzero(first[inverse.reshape(-1)] != np.arange(int(varies.sum())))
    if len(doubled) and len(sample) > 1:
        names = ", ".join(map(str, np.flatnonzero(varies)[doubled][:5]))
        yield Finding("warn", "observations", f"{len(doubled)} columns repeat another one ({names}): is one missing?")
    weights = np.random.default_rng(0).normal(size=data.obs_size)
    keys = sample @ weights + data.actions[:: max(1, len(data) // _SAMPLE)].reshape(len(sample), -1).sum(axis=1)
    repeats = 1 - len(np.unique(keys)) / len(sample)
    if repeats > 0.01 and not data.discrete:
        yield Finding("warn", "rows", f"{repeats:.0%} of the rows repeat another one: was a file joined to itself?")
    if data.discrete:
        yield Finding("ok", "actions", f"discrete, indices {data.actions.min()} to {data.actions.max()}")
        return
    still = int((np.ptp(data.actions, axis=0) == 0).sum())
    if still:
        yield Finding(
            "warn", "actions", f"{still} of {data.action_size} columns are constant: the policy can't vary them"
        )
    used = np.ptp(data.actions, axis=0) / 2
    narrow = np.flatnonzero((used > 0) & (used < _NARROW))
    if scaled and len(narrow):
        names = ", ".join(map(str, narrow[:5])) + (", …" if len(narrow) > 5 else "")
        text = f"column {names} uses only {used[narrow].max():.1%} of the bounds: is its unit the task's?"
        yield Finding("warn", "actions", text)
    actions, bounds = data.actions, "bounds"
    if not scaled:
        low, span = actions.min(axis=0), np.maximum(np.ptp(actions, axis=0), np.finfo(np.float32).tiny)
        actions, bounds = 2 * (actions - low) / span - 1, "ends of their range"
    edge = float((np.abs(actions) > _SATURATED).mean())
    text = f"{data.actions.min():.3g} to {data.actions.max():.3g}, {edge:.0%} of the values at the {bounds}"
    hint = "; the Gaussian policy fits such actions badly" if edge > 0.5 else ""
    yield Finding("warn" if hint else "ok", "actions", text + hint)


def _check_rewards(data: Transitions) -> Iterator[Finding]:
    rewards = data.rewards
    text = f"{rewards.min():.4g} to {rewards.max():.4g}, mean {rewards.mean(dtype=np.float64):.4g}"
    costly_ends = rewards[0] != 0 and data.terminated.any()  # then a constant reward still rates episodes by length
    if rewards.min() == rewards.max() and not costly_ends:
        yield Finding(
            "warn", "rewards", f"all are {rewards[0]:.4g}: no action is better than another, AWAC only clones"
        )
    elif (largest := float(np.abs(rewards).max())) > 1e4:
        text += f": values up to {largest:.1e} make the critics' loss explode; set reward_scale"
        yield Finding("warn", "rewards", text)
    else:
        yield Finding("ok", "rewards", text)


def _check_episodes(
    data: Transitions, task: Task | None, limit: int | None, returns: np.ndarray, lengths: np.ndarray
) -> Iterator[Finding]:
    terminals, timeouts = int(data.terminated.sum()), int(data.truncated.sum())
    text = f"{terminals} terminals, {timeouts} other ends"
    if terminals == len(data):
        yield Finding("warn", "ends", f"{text}: every row is terminal, so nothing is ever bootstrapped; check the key")
    else:
        yield Finding("ok", "ends", text)
    span = f"{lengths.min()} / {np.median(lengths):.0f} / {lengths.max()} (shortest, median, longest)"
    text = f"{len(lengths)}, lengths {span}"
    if limit and lengths.max() > limit:
        reason = "timeouts are missing, or the rows are not in order"
        yield Finding("warn", "episodes", f"{text}: longer than the task's {limit} steps, so {reason}")
    else:
        yield Finding("ok", "episodes", text)
    apart = ~(data.terminated | data.truncated)[:-1]
    for start in range(0, len(apart), _BLOCK):  # in blocks: a mask of all values would be a quarter of the data
        block, next_block = slice(start, start + _BLOCK), slice(start + 1, start + 1 + _BLOCK)
        apart[block] &= (data.next_observations[:-1][block] != data.observations[next_block]).any(axis=1)
    if apart.any():
        text = f"within episodes {int(apart.sum())} rows don't lead to the next one: shuffled, thinned or ends missing"
        unharmed = "" if 2 * apart.sum() <= len(apart) else " if the next observations are right"
        text = f"{text}; training is not affected{unharmed}, but episode returns are meaningless"
        yield Finding("warn", "episodes", text)
    quartiles = np.percentile(returns, [0, 25, 50, 75, 100])
    text = " / ".join(f"{value:.1f}" for value in quartiles) + " (lowest, quartiles, highest)"
    score = normalized_score(task, float(returns.mean())) if task else None
    yield Finding("ok", "returns", text if score is None else f"{text}, mean normalised score {score:.1f}")


def check_bounds(data: Transitions, env: gymnasium.Env) -> Iterator[Finding]:
    """A warning if observations lie outside the environment's own bounds, as those of swapped columns do.

    Args:
        data: the rows; their observations have the environment's size.
        env: of `make_env`, or a stand-in, which has no bounds.
    """
    box = env.observation_space
    assert isinstance(box, spaces.Box), "make_env gives no other"
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)
    low, high = np.where(low > -UNBOUNDED, low, -np.inf), np.where(high < UNBOUNDED, high, np.inf)
    width = np.where(np.isfinite(high - low), high - low, np.maximum(1, np.minimum(np.abs(low), np.abs(high))))
    sample = data.observations[:: max(1, len(data) // _SAMPLE)]
    with np.errstate(invalid="ignore"):  # a column without any bound
        share = ((sample < low - _BEYOND * width) | (sample > high + _BEYOND * width)).mean(axis=0)
    outside = np.flatnonzero(share > _FEW)
    if not len(outside):
        return
    guard = guard_of(env)
    parts = parts_of(guard.env.observation_space) if guard else []
    keys = [".".join(path) for path, part in parts for _ in range(spaces.flatdim(part))]
    first = int(outside[0])
    name = f"{first} ({keys[first]})" if keys and keys[first] else str(first)
    reach = f"{data.observations[:, first].min():.4g} to {data.observations[:, first].max():.4g}"
    text = f"column {name} reaches from {reach}, the task's bounds are [{low[first]:.4g}, {high[first]:.4g}]"
    more = f"; so do columns {', '.join(map(str, outside[1:6]))}" if len(outside) > 1 else ""
    yield Finding("warn", "observations", f"{text}{more}: are the columns in the task's order and units?")
