"""Which policy is best, without an environment: fitted Q evaluation of policies on a data set.

All policies are evaluated at once, on the same batches and from the same initial weights, so that what they share
cancels in their differences.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from awac.algorithm.fqe import FittedQ
from awac.data.normalizer import Normalizer
from awac.data.transitions import Transitions
from awac.errors import ConfigError, DivergenceError

POINTS = 20
"""How often the estimates are recorded; the result is the mean of the last `AVERAGED`."""
AVERAGED = 3
_STARTS = 1000
_COMPARED = 10_000
_BLOCK = 65536

Policy = Callable[[np.ndarray], np.ndarray]
"""Raw observations (B, O) to actions (B, A) in [−1, 1], or indices (B,)."""


@dataclass(frozen=True)
class Settings:
    """How the critics are fitted.

    Attributes:
        gamma: discount factor γ of the value that is estimated.
        steps: gradient steps.
        critics: independent critics for each policy; with one there is no standard deviation.
        hidden: widths of their hidden layers.
        batch_size: rows of a gradient step.
        steps_per_target: gradient steps between two computations of the targets.
        learning_rate: Adam's.
        seed: of the weights and the batches.
    """

    gamma: float = 0.99
    steps: int = 10_000
    critics: int = 3
    hidden: tuple[int, ...] = (128, 128)
    batch_size: int = 128
    steps_per_target: int = 10
    learning_rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class Estimate:
    """The value of one policy, E[Σ γᵗ r_t] from the data's first states.

    Attributes:
        value: mean over the critics.
        std: standard deviation over the critics; NaN with a single one. It tells how far they agree, not how far
            they are right.
        drift: change of the value over the last fifth of the steps; NaN with too few steps to tell.
        off_data: how far the policy's actions are from the data's: root mean square over the rows, 10,000 of them at
            most, in the policy's unit [−1, 1]; for discrete actions the share of rows with another action.
    """

    value: float
    std: float
    drift: float
    off_data: float


def first_states(data: Transitions) -> np.ndarray:
    """(E,) rows in which episodes begin."""
    ends = np.flatnonzero(data.terminated | data.truncated) + 1
    return np.concatenate([[0], ends[ends < len(data)]])


def fitted_q(
    data: Transitions,
    policies: Sequence[Policy],
    action_count: int | None = None,
    settings: Settings | None = None,
    progress: bool = False,
) -> list[Estimate]:
    """Estimates the value of each policy from recorded rows.

    Args:
        data: the rows; continuous actions in [−1, 1].
        policies: deterministic policies.
        action_count: number of discrete actions; None for continuous ones.
        settings: None for the defaults.
        progress: show a bar on stderr if that is a terminal.

    Raises:
        ConfigError: γ is not below 1, or another setting is not positive.
        DivergenceError: the critics' loss is not finite.
    """
    settings = settings or Settings()
    check(settings)
    rng = np.random.default_rng([settings.seed, 1])
    batches = _Batches(data, policies, settings, rng)
    low, high = batches.bounds
    critics = FittedQ(
        batches.obs.shape[1],
        action_count or data.actions.shape[1],
        action_count is not None,
        tuple(int(width) for width in settings.hidden),
        copies=len(policies) * settings.critics,
        gamma=settings.gamma,
        learning_rate=settings.learning_rate,
        bounds=(low / batches.scale, high / batches.scale),
        start=batches.start / batches.scale,
        seed=settings.seed,
        alike=len(policies),
    )
    begin = first_states(data)
    if len(begin) > _STARTS:
        begin = np.random.default_rng([settings.seed, 3]).choice(begin, _STARTS, replace=False)
    first = np.stack([_columns(policy(data.observations[begin])) for policy in policies])
    first = np.repeat(first, settings.critics, axis=0)
    obs = np.repeat(batches.obs[begin][None], len(first), axis=0)
    calls = max(1, round(settings.steps / settings.steps_per_target))
    recorded_at = {round(calls * (i + 1) / POINTS) for i in range(POINTS)}
    history = []
    for call in tqdm(range(1, calls + 1), "evaluate", disable=None if progress else True, leave=False):
        loss = critics.fit(batches.draw())
        if not np.isfinite(loss):
            raise DivergenceError(f"the critics' loss is {loss:g} after {call * settings.steps_per_target} steps")
        if call in recorded_at:
            history.append(batches.scale * critics.values(obs, first).mean(-1).astype(np.float64))
    values = np.stack(history).reshape(len(history), len(policies), settings.critics)
    last, before = values[-AVERAGED:].mean(0), values[-AVERAGED - POINTS // 5 :][:AVERAGED].mean(0)
    if len(values) < AVERAGED + POINTS // 5:
        before = np.full_like(before, np.nan)
    std = last.std(-1, ddof=1) if settings.critics > 1 else np.full(len(policies), np.nan)
    drift = (last - before).mean(-1)
    return [
        Estimate(float(value), float(s), float(d), distance)
        for value, s, d, distance in zip(last.mean(-1), std, drift, batches.off_data, strict=True)
    ]


class _Batches:
    """Rows of the data as `FittedQ` takes them, with each policy's actions in the next states.

    Attributes:
        obs: (N, O) normalised.
        bounds: lowest and highest value that rewards of this size can sum up to.
        scale: the value of rewards of mean size without their signs, with episodes that end as often as in the data;
            rewards are divided by it.
        start: the same with their signs.
        off_data: as in `Estimate`, for each policy.
    """

    def __init__(self, data: Transitions, policies: Sequence[Policy], settings: Settings, rng: np.random.Generator):
        normalizer = Normalizer.fit(data.observations)
        self.obs, self._next_obs = normalizer(data.observations), normalizer(data.next_observations)
        self._actions = _columns(data.actions)
        self._next_actions = np.stack([_in_blocks(policy, data.next_observations) for policy in policies])
        count = len(data)
        rows = np.arange(count) if count <= _COMPARED else rng.choice(count, _COMPARED, replace=False)
        self.off_data = [self._distance(data, policy, rows) for policy in policies]
        gamma, rewards = settings.gamma, data.rewards.astype(np.float64)
        ends = [0.0, *(float(r) for r in (rewards.min(), rewards.max()))]
        self.bounds = min(ends) / (1 - gamma), max(ends) / (1 - gamma)
        steps = 1 / (1 - gamma * (1 - float(data.terminated.mean())))  # that a value sums up, on average
        self.start, self.scale = float(rewards.mean()) * steps, float(np.abs(rewards).mean()) * steps or 1.0
        self._tail = np.stack([rewards / self.scale, data.terminated], axis=1).astype(np.float32)
        self._settings, self._policies = settings, len(policies)
        self._rngs = [np.random.default_rng([settings.seed, 2, i]) for i in range(settings.critics)]
        size, columns = self.obs.shape[1], self._actions.shape[1]
        shape = (len(policies), settings.critics, settings.steps_per_target, settings.batch_size)
        self._rows = np.empty((*shape, 2 * (size + columns) + 2), np.float32)

    def draw(self) -> np.ndarray:
        """(P·C, K, B, W) rows; the i-th critics of all policies share them. The next call overwrites them."""
        size, columns = self.obs.shape[1], self._actions.shape[1]
        rows, end = self._rows, 2 * (size + columns)
        for i, rng in enumerate(self._rngs):
            index = rng.integers(len(self.obs), size=rows.shape[2:4])
            rows[:, i, ..., :size] = self.obs[index]
            rows[:, i, ..., size : 2 * size] = self._next_obs[index]
            rows[:, i, ..., 2 * size : end - columns] = self._actions[index]
            rows[:, i, ..., end - columns : end] = self._next_actions[:, index]
            rows[:, i, ..., end:] = self._tail[index]
        return rows.reshape(-1, *rows.shape[2:])

    def _distance(self, data: Transitions, policy: Policy, rows: np.ndarray) -> float:
        theirs, ours = self._actions[rows], _columns(policy(data.observations[rows]))
        if data.discrete:
            return float((theirs != ours).mean())
        return float(np.sqrt(np.square(theirs - ours).mean()))


def _in_blocks(policy: Policy, observations: np.ndarray) -> np.ndarray:
    blocks = (observations[i : i + _BLOCK] for i in range(0, len(observations), _BLOCK))
    return np.concatenate([_columns(policy(block)) for block in blocks])


def _columns(actions: np.ndarray) -> np.ndarray:
    """(N, A) float32; indices as one column."""
    return np.asarray(actions).reshape(len(actions), -1).astype(np.float32)


def check(settings: Settings) -> None:
    """Refuses settings that nothing can be fitted with, before data are read."""
    if not (isinstance(settings.gamma, numbers.Real) and 0.0 <= settings.gamma < 1.0):
        raise ConfigError(f"gamma is {settings.gamma!r}; the values of endless episodes need one from 0 to below 1")
    for name in ("steps", "critics", "batch_size", "steps_per_target", "learning_rate", "seed"):
        value, kind = getattr(settings, name), numbers.Real if name == "learning_rate" else numbers.Integral
        if isinstance(value, bool) or not isinstance(value, kind) or value < 0 or (value == 0 and name != "seed"):
            words = "a number" if kind is numbers.Real else "a whole number"
            raise ConfigError(f"{name} is {value!r}; it must be {words}{' from' if name == 'seed' else ' above'} 0")
    widths = settings.hidden
    if not isinstance(widths, (list, tuple, np.ndarray)) or not all(
        isinstance(w, numbers.Integral) and w > 0 for w in widths
    ):
        raise ConfigError(f"hidden is {widths!r}; it must be a list of the layers' widths, such as (128, 128)")


def rank_correlation(a, b) -> float:
    """Spearman's: 1 where both sort the same way, −1 the other way; NaN where one of them is constant."""
    values = [np.asarray(x, np.float64) for x in (a, b)]
    ranks = [(x[:, None] > x).sum(1) + 0.5 * (x[:, None] == x).sum(1) for x in values]
    if min(np.ptp(r) for r in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])
