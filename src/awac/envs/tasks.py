"""From a task's name to an environment: `make_env("ant-expert-v2")`, `make_env("Pendulum-v1")`.

Whatever the name, the result speaks Gymnasium's API, observes a vector, and takes either a float vector in [-1, 1] or a
discrete action. Everything behind this file (collecting, training, evaluating) relies on that and nothing else.
"""

from __future__ import annotations

import difflib
import itertools
import re
import warnings
from typing import NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from awac.envs.actions import PolicyActions
from awac.envs.mujoco_v2 import ROBOTS, TIME_LIMIT
from awac.errors import TaskError

MIXES = ("random", "medium", "expert", "medium-replay", "medium-expert", "full-replay")
VERSIONS = ("v0", "v1", "v2")
OLD_GYM_PREFIX = "gym:"

# Return of a random and of an expert policy in D4RL's reference runs; the same for v0, v1 and v2.
REFERENCE_SCORES = {
    "ant": (-325.6, 3879.7),
    "hopper": (-20.272305, 3234.3),
    "halfcheetah": (-280.178953, 12135.0),
    "walker2d": (1.629008, 4592.3),
}

_D4RL_ID = re.compile(rf"({'|'.join(ROBOTS)})-({'|'.join(MIXES)})-({'|'.join(VERSIONS)})")


class D4RLTask(NamedTuple):
    """A D4RL locomotion task, `<robot>-<mix>-<version>`. All mixes and versions of a robot share its dynamics."""

    robot: str
    mix: str
    version: str

    @property
    def id(self) -> str:
        return "-".join(self)


def parse_d4rl_id(task: str) -> D4RLTask | None:
    """`"ant-medium-expert-v2"` → `D4RLTask("ant", "medium-expert", "v2")`; None if it is no such id."""
    match = _D4RL_ID.fullmatch(task)
    return D4RLTask(*match.groups()) if match else None


def normalized_score(task: str, episode_return: float) -> float | None:
    """D4RL's score: 0 for a random policy, 100 for D4RL's expert; None for tasks without reference returns."""
    d4rl_task = parse_d4rl_id(task)
    if d4rl_task is None:
        return None
    low, high = REFERENCE_SCORES[d4rl_task.robot]
    return 100.0 * (episode_return - low) / (high - low)


def make_env(task: str, *, render_mode: str | None = None) -> gymnasium.Env:
    """Makes an environment that AWAC can work with.

    Args:
        task: a D4RL id such as `ant-expert-v2` (D4RL's own dynamics, 1000-step limit); a Gymnasium id; `gym:Id-v0` or a
            plain id that only an installed old `gym` knows.
        render_mode: as Gymnasium's.

    Returns:
        An environment with a vector observation and either a float action in [-1, 1] (scaled to the task's own bounds)
        or a discrete one.

    Raises:
        TaskError: the task is unknown or needs a package that is missing, or its spaces are not supported.
    """
    d4rl_task = parse_d4rl_id(task)
    if d4rl_task is not None:
        return TimeLimit(ROBOTS[d4rl_task.robot](render_mode=render_mode), TIME_LIMIT)
    env = _make_old_gym(task, render_mode) if task.startswith(OLD_GYM_PREFIX) else _make_gymnasium(task, render_mode)
    try:
        return _adapt(env, task)
    except TaskError:
        env.close()
        raise


def _make_gymnasium(task: str, render_mode: str | None) -> gymnasium.Env:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "a newer version exists": the user named the one to use
            return gymnasium.make(task, render_mode=render_mode, disable_env_checker=True)
    except (gymnasium.error.UnregisteredEnv, ImportError) as error:
        from awac.envs import old_gym

        if old_gym.knows(task):
            return _make_old_gym(OLD_GYM_PREFIX + task, render_mode)
        if isinstance(error, gymnasium.error.UnregisteredEnv):
            raise _unknown(task) from None
        raise TaskError(f"task '{task}' cannot be made: {_one_line(error)}") from None
    except gymnasium.error.DependencyNotInstalled as error:
        raise TaskError(f"task '{task}' needs a package that is not installed: {_one_line(error)}") from None
    except gymnasium.error.Error:
        raise _unknown(task) from None


def _make_old_gym(task: str, render_mode: str | None) -> gymnasium.Env:
    from awac.envs import old_gym

    return old_gym.make(task[len(OLD_GYM_PREFIX) :], render_mode)


def _adapt(env: gymnasium.Env, task: str) -> gymnasium.Env:
    """Checks the spaces and scales a continuous action to [-1, 1]."""
    seen, acted = env.observation_space, env.action_space
    if not isinstance(seen, spaces.Box) or len(seen.shape) != 1:
        raise TaskError(f"task '{task}' observes {_describe(seen)}; supported is a Box with one dimension (a vector)")
    if isinstance(acted, spaces.Discrete):
        if acted.start != 0:
            raise TaskError(f"task '{task}' has discrete actions from {acted.start} on; supported are 0..n-1")
        return env
    if not isinstance(acted, spaces.Box) or len(acted.shape) != 1 or not np.issubdtype(acted.dtype, np.floating):
        raise TaskError(f"task '{task}' acts in {_describe(acted)}; supported are a float Box vector and Discrete")
    if not acted.is_bounded():
        raise TaskError(f"task '{task}' has actions without bounds; wrap it so that every action has a low and a high")
    return PolicyActions(env)


def _describe(space) -> str:
    shape = f" of shape {space.shape}" if isinstance(space, spaces.Box) else ""
    return f"{type(space).__name__}{shape}"


def _one_line(error: BaseException) -> str:
    """An exception's message without line breaks, or its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def known_d4rl_ids() -> list[str]:
    """Every id that `parse_d4rl_id` knows."""
    return ["-".join(parts) for parts in itertools.product(ROBOTS, MIXES, VERSIONS)]


def nearest(name: str, known: list[str]) -> str:
    """The known name most like `name`, regardless of case."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    return by_lower[difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.0)[0]]


def _unknown(task: str) -> TaskError:
    known = nearest(task, known_d4rl_ids() + list(gymnasium.registry))
    pattern = "-".join(f"<{'|'.join(names)}>" for names in (ROBOTS, MIXES, VERSIONS))
    return TaskError(f"unknown task '{task}'; the nearest known one is '{known}' (D4RL ids are {pattern})")
