"""Checks whether rows were recorded with these physics, by repeating recorded actions from recorded states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from awac.data.checks import Finding
from awac.data.columns import PHYSICS
from awac.data.transitions import Transitions
from awac.envs.actions import environment_action_space, to_environment
from awac.envs.guard import guard_of
from awac.envs.old_gym import OldGymEnv
from awac.envs.tasks import Task
from awac.errors import one_line

OBSERVATION_TOLERANCE, REWARD_TOLERANCE = 1e-5, 5e-3
"""Median errors up to which rows count as recorded with these physics. Files hold states in float32, which alone gives
observation errors near 1e-6; rewards also depend on where the engine last computed the body positions."""


def check_physics(data: Transitions, env: gymnasium.Env, task: Task, limit: int, columns) -> Iterator[Finding]:
    """Sets recorded states, takes the recorded actions, and compares the result with the file.

    Args:
        data: rows whose actions are in [-1, 1].
        env: of `make_env`.
        task: of that environment.
        limit: largest number of steps.
        columns: of the file, for `infos/qpos` and `infos/qvel`.
    """
    states = _states(data, env, task, limit, columns)
    if states is None:
        if hasattr(env.unwrapped, "set_state"):
            text = "not checked: the file has no infos/qpos and infos/qvel for the rows that are used"
            yield Finding("warn", "physics", text)
        return
    rows, qpos, qvel = states
    if len(rows) == 0:
        yield Finding("warn", "physics", "not checked: no recorded state gives its row's observation")
        return
    if (reason := _untouched(env)) is not None:
        yield Finding("warn", "physics", f"not checked: {reason}")
        return
    known = task.hidden_positions is not None  # D4RL's robots: the state is all that a step depends on
    try:
        errors = _errors(data, env, rows, qpos, qvel, relative=not known)
    except Exception as error:  # of an environment that is not ours
        yield Finding("warn", "physics", f"not checked: the task can't step from a recorded state ({one_line(error)})")
        return
    observation_error, reward_error, ends = (float(x) for x in (*np.median(errors[:2], axis=1), np.mean(errors[2])))
    text = f"median error of the next observation {observation_error:.1e} over {len(rows)} steps"
    if observation_error <= OBSERVATION_TOLERANCE:
        yield Finding("ok", "physics", f"{text}: recorded on these physics")
    elif not known:
        text += ": another engine, other settings of the task, or observations that depend on more than the state"
        yield Finding("warn", "physics", text)
    elif observation_error < 0.1:
        text += ": recorded on another engine (Gymnasium's v4/v5 robots give about 5e-3)"
        yield Finding("warn", "physics", f"{text}; online training starts with a change of dynamics")
    else:
        yield Finding("fail", "physics", f"{text}: these rows are not from this robot, or their keys are mixed up")
    text = f"median error of the reward {reward_error:.1e}"
    text += (
        "" if reward_error <= REWARD_TOLERANCE else ": another reward than the task's (scaled, shifted, other terms?)"
    )
    yield Finding("ok" if reward_error <= REWARD_TOLERANCE else "warn", "physics", text)
    if ends > 0.01:
        text = f"in {ends:.0%} of the steps the task ends where the file doesn't, or goes on where it does"
        yield Finding("warn", "physics", f"{text}; check terminals")


def _untouched(env: gymnasium.Env) -> str | None:
    """Why a step of the innermost environment is not a step of the task; None if it is one."""
    guard = guard_of(env)
    outer = inner = guard.env if guard else env
    if isinstance(inner, OldGymEnv):
        inner = inner.env
    if inner is not env.unwrapped:
        return f"its wrapper {type(inner).__name__} may change what a step gives"
    return None if isinstance(outer.observation_space, spaces.Box) else "its observations are not a plain vector"


def _errors(data: Transitions, env: gymnasium.Env, rows, qpos, qvel, relative: bool) -> np.ndarray:
    """(3, N): errors of the next observation and of the reward, and whether the flag of the end differs.

    Values above 1 count by their own size if `relative`: they are stored with float32's digits.
    """
    robot: Any = env.unwrapped
    space, found = environment_action_space(env), []
    env.reset(seed=0)
    for row, position, speed in zip(rows, qpos, qvel, strict=True):
        robot.set_state(position, speed)
        observation, reward, terminated, *_ = robot.step(to_environment(space, data.actions[row]))
        stored = data.next_observations[row]
        error = np.abs(np.ravel(observation) - stored) / (np.maximum(np.abs(stored), 1) if relative else 1)
        found.append((error.max(), abs(reward - data.rewards[row]), terminated != data.terminated[row]))
    return np.array(found, np.float64).T


def _states(data: Transitions, env, task: Task, limit: int, columns):
    """(rows, qpos, qvel) of at most `limit` steps: recorded states, or for D4RL's robots those in the observations."""
    robot = env.unwrapped
    if not hasattr(robot, "set_state") or not hasattr(getattr(robot, "model", None), "nq"):  # no MuJoCo robot
        return None
    positions, speeds = robot.model.nq, robot.model.nv
    qpos, qvel = (columns.get(key) for key in PHYSICS)
    hidden = task.hidden_positions  # the position along the ground, which has no effect
    if qpos is not None and qvel is not None and len(qpos) == len(data):
        if qpos.shape[1:] != (positions,) or qvel.shape[1:] != (speeds,):
            return np.arange(0), qpos, qvel
        rows = np.arange(len(data))
        if hidden is not None:
            # Some recorders store the state after the step, which is the next row's.
            shifted = np.abs(qpos[:-1, hidden:] - data.observations[1:, : positions - hidden]).max(axis=1, initial=0)
            direct = np.abs(qpos[:, hidden:] - data.observations[:, : positions - hidden]).max(axis=1, initial=0)
            if len(data) > 1 and np.median(shifted) < 1e-5 < np.median(direct):
                rows = 1 + _evenly(np.flatnonzero(shifted < 1e-5), limit)
                return rows, qpos[rows - 1].astype(np.float64), qvel[rows - 1].astype(np.float64)
            rows = np.flatnonzero(direct < 1e-5)
        rows = _evenly(rows, limit)
        return rows, qpos[rows].astype(np.float64), qvel[rows].astype(np.float64)
    if hidden is None:
        return None
    seen = data.observations[:, : positions - hidden + speeds]
    rows = np.flatnonzero((np.abs(seen[:, positions - hidden :]) < 10).all(axis=1))  # Hopper and Walker2d clip there
    rows = _evenly(rows, limit)
    state = seen[rows].astype(np.float64)
    qpos = np.concatenate([np.zeros((len(rows), hidden)), state[:, : positions - hidden]], axis=1)
    return rows, qpos, state[:, positions - hidden :]


def _evenly(rows: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` rows, evenly spaced from first to last."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, limit).astype(int))] if len(rows) else rows
