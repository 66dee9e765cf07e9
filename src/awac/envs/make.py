"""From a task to an environment: `make_env("ant-expert-v2")`, `make_env("Pendulum-v1")`.

Every result has Gymnasium's API, observes a finite float vector, takes either a float vector in [-1, 1] or an index
0..n-1, and ends every episode. The rest of the package relies on this.
"""

from __future__ import annotations

import contextlib
import difflib
import operator
import os
import re
import warnings
from collections.abc import Iterator

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import OrderEnforcing, TimeLimit

from awac.envs import old_gym
from awac.envs.actions import PolicyActions
from awac.envs.guard import Guard, guard_of
from awac.envs.mujoco_v2 import ROBOTS, TIME_LIMIT
from awac.envs.tasks import MIXES, NAMESPACE, VERSIONS, Task, known_d4rl_ids
from awac.errors import AWACError, TaskError, nearest, one_line

DEFAULT_LIMIT = 10_000
"""Step limit of an episode if the environment has none."""
RUNNING = {
    "NormalizeObservation": "awac normalises observations itself",
    "NormalizeReward": "reward_scale scales the rewards that are learnt from",
}
"""Wrappers, of Gymnasium and of the old gym, that scale by statistics of what this one instance has seen."""
UNBOUNDED = 1e30
"""Beyond it a bound is a placeholder for infinity, such as float32's largest number: nothing acts over such a range."""


def make_env(
    task: str | Task,
    *,
    render_mode: str | None = None,
    env_kwargs: dict | None = None,
    max_episode_steps: int | None = None,
) -> gymnasium.Env:
    """Makes an environment that AWAC can work with.

    Args:
        task: a D4RL id such as `ant-expert-v2` (D4RL's own dynamics, 1000-step limit); a Gymnasium id; `gym:Id-v0` or a
            plain id that only an installed old `gym` knows; or a parsed `Task`.
        render_mode: as Gymnasium's.
        env_kwargs: further arguments of the environment's constructor.
        max_episode_steps: step limit of an episode, in place of the registered one; None takes that, else
            `DEFAULT_LIMIT`. A shorter limit inside the environment holds in any case.

    Returns:
        An environment with an observation vector (O,) and either a float action (A,) in [-1, 1] (scaled to the task's
        own bounds) or an index 0..n-1. `spec.max_episode_steps` is the limit that ends its episodes.

    Raises:
        TaskError: the task is no name, is unknown, cannot be made here, its spaces are not supported, a wrapper
            normalises by running statistics, or `max_episode_steps` is not a positive whole number.
        EnvironmentFault: from `reset` and `step` of the result.
    """
    if not isinstance(task, (str, Task)):
        text = f"make_env takes a task's name, not {type(task).__name__}"
        raise TaskError(f"{text}; register an environment of your own with gymnasium.register and give its id")
    task = Task.parse(task)
    asked = _asked_limit(task.max_episode_steps if max_episode_steps is None else max_episode_steps)
    kwargs = {**task.env_kwargs, **(env_kwargs or {})}
    if render_mode is not None:
        kwargs["render_mode"] = render_mode
    env: gymnasium.Env
    place = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
    try:
        if task.id.startswith(old_gym.PREFIX):
            env, registered = old_gym.make(task.id[len(old_gym.PREFIX) :], kwargs)
        else:
            env, registered = _make_gymnasium(task, kwargs)
    finally:
        os.fchdir(place)  # some simulators go elsewhere, but the run's relative paths start here
        os.close(place)
    try:
        _check_spaces(env, task.id)
        _refuse_running_statistics(env, task.id)
        limits = [limit for limit in (asked or registered, _inner_limit(env)) if limit]
        limit = min(limits, default=DEFAULT_LIMIT)
        env = guard = Guard(env, task.id)
        if not limits:
            guard.limit_note = f"it has no step limit: episodes are cut after {limit} steps (max_episode_steps)"
        elif asked and limit < asked:
            guard.limit_note = f"it ends episodes after {limit} steps itself: max_episode_steps = {asked} has no effect"
        return PolicyActions(TimeLimit(env, limit))
    except BaseException:
        with contextlib.suppress(Exception):  # it would hide the reason
            env.close()
        raise


def notes(env: gymnasium.Env) -> list[str]:
    """Lines for the log about an environment from `make_env`; usually none."""
    guard = guard_of(env)
    assert guard, "make_env gives no other"
    lines, original = [], guard.env.observation_space
    if guard.limit_note:
        lines.append(guard.limit_note)
    if len(original.shape or (0, 0)) != 1:
        kind, size = type(original).__name__, guard.observation_space.shape
        lines.append(f"its observations ({kind}) are flattened to {size[0] if size else 0} values")
    if not guard.seedable:
        lines.append("its reset takes no seed: runs cannot be repeated exactly")
    return [f"Environment {guard.name}: {line}" for line in lines]


def register_tasks() -> None:
    """Registers D4RL's tasks with Gymnasium, as `awac/ant-expert-v2` and so on."""
    for name in known_d4rl_ids():
        if NAMESPACE + name not in gymnasium.registry:
            robot = ROBOTS[name.partition("-")[0]]
            place = f"{robot.__module__}:{robot.__name__}"  # a string, so that a spec can be stored
            gymnasium.register(NAMESPACE + name, entry_point=place, max_episode_steps=TIME_LIMIT)


def _make_gymnasium(task: Task, kwargs: dict) -> tuple[gymnasium.Env, int | None]:
    """A bare environment and its registered step limit, without wrappers that expect Gymnasium's current API."""
    if task.is_d4rl:
        register_tasks()
    if task.id.count(":") > 1:
        raise TaskError(f"task '{task.id}' cannot be made: a name has one colon at most, as module:Name-v0")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "a newer version exists": the user named the one to use
            name = NAMESPACE + task.id if task.is_d4rl else task.id
            env = gymnasium.make(name, max_episode_steps=-1, disable_env_checker=True, **kwargs)
    except (gymnasium.error.UnregisteredEnv, ImportError) as error:
        if old_gym.knows(task.id):
            return old_gym.make(task.id, kwargs)
        if isinstance(error, gymnasium.error.UnregisteredEnv):
            raise _unknown(task.id) from None
        raise TaskError(f"task '{task.id}' cannot be made: {one_line(error)}") from None
    except gymnasium.error.DependencyNotInstalled as error:
        raise TaskError(f"task '{task.id}' needs a package that is not installed: {one_line(error)}") from None
    except gymnasium.error.Error as error:
        if "No registered env" in str(error) or "Malformed environment ID" in str(error):
            raise _unknown(task.id) from None
        raise TaskError(f"task '{task.id}' cannot be made: {one_line(error)}") from None
    except AWACError:
        raise
    except (Exception, SystemExit) as error:
        text = one_line(error).partition(" was raised from the environment creator")[0]  # gymnasium's addition
        hint = _hint(text, kwargs) if isinstance(error, TypeError) else ""
        raise TaskError(f"task '{task.id}' cannot be made: {text}{hint}") from error
    registered = gymnasium.registry.get(env.unwrapped.spec.id) if env.unwrapped.spec else None
    if isinstance(env, OrderEnforcing):
        env = env.env
    return env, registered.max_episode_steps if registered else None


def _hint(text: str, kwargs: dict) -> str:
    """What to do about a TypeError of a constructor."""
    if "required" in text and "missing" in text:
        return "; give its constructor arguments as env_kwargs"
    found = re.search(r"(unexpected keyword argument|multiple values for (keyword )?argument) '(\w+)'", text)
    name = found[3] if found else None
    if name not in kwargs:  # a mistake inside the constructor
        return ""
    if name == "render_mode":
        return "; it can't be rendered or filmed"
    own = " (it is a setting of its own)" if name == "max_episode_steps" else ""
    return f"; take {name} out of env_kwargs{own}"


def _asked_limit(steps) -> int | None:
    """The user's step limit as Gymnasium takes it.

    Raises:
        TaskError: it is not a positive whole number.
    """
    try:
        limit = None if steps is None else operator.index(steps)
    except TypeError:
        limit = 0
    if limit is not None and limit < 1:
        raise TaskError(f"max_episode_steps = {steps!r} is not a positive whole number")
    return limit


def _layers(env) -> Iterator[tuple[gymnasium.Env, set[str]]]:
    """Each wrapper from the outside, those of the old gym too, then the innermost environment; and its class names."""
    while True:
        names = {cls.__name__ for cls in type(env).__mro__}
        yield env, names
        if "Wrapper" not in names and not isinstance(env, old_gym.OldGymEnv):
            return
        env = env.env


def _inner_limit(env: gymnasium.Env) -> int | None:
    """The smallest step limit of the wrappers that an environment comes with."""
    limits = (getattr(layer, "_max_episode_steps", None) for layer, names in _layers(env) if "TimeLimit" in names)
    return min(filter(None, limits), default=None)


def _refuse_running_statistics(env: gymnasium.Env, name: str) -> None:
    """Refuses wrappers that scale by running statistics, unless these are frozen.

    Raises:
        TaskError: names the wrapper.
    """
    for layer, names in _layers(env):
        running = hasattr(layer, "obs_rms") or hasattr(layer, "return_rms")  # other classes may have the name
        for wrapper in RUNNING.keys() & names if running and getattr(layer, "update_running_mean", True) else ():
            raise TaskError(
                f"task '{name}' has the wrapper {wrapper}, whose running statistics are others in every evaluation and "
                f"after a restart; take it off ({RUNNING[wrapper]}), or freeze it with update_running_mean = False"
            )


def _check_spaces(env: gymnasium.Env, name: str) -> None:
    """Refuses spaces that can't become a vector of observations and a bounded vector or an index as action.

    Raises:
        TaskError: says what the space is and what is supported.
    """
    observed, acted = getattr(env, "observation_space", None), getattr(env, "action_space", None)
    if not _is_vector(observed):
        raise TaskError(
            f"task '{name}' observes {_describe(observed)}; supported are a Box of one or two dimensions, and a Dict "
            "or Tuple of such"
        )
    if isinstance(acted, spaces.Discrete):
        return
    if not isinstance(acted, spaces.Box) or not np.issubdtype(acted.dtype, np.floating) or not acted.low.size:
        raise TaskError(f"task '{name}' acts in {_describe(acted)}; supported are a float Box and Discrete")
    bounded = (np.abs(acted.low) <= UNBOUNDED) & (np.abs(acted.high) <= UNBOUNDED)
    if not bounded.all():
        index = int(bounded.ravel().argmin())
        bounds = f"{acted.low.ravel()[index]} to {acted.high.ravel()[index]}"
        raise TaskError(
            f"task '{name}' has actions without bounds (value {index}: {bounds}); wrap it so that every action has a "
            "low and a high"
        )
    if (acted.low > acted.high).any():
        raise TaskError(f"task '{name}' has an action whose low is above its high; correct its action space")


def _is_vector(space) -> bool:
    if isinstance(space, spaces.Box):
        image = len(space.shape) == 2 and space.dtype == np.uint8
        return len(space.shape) <= 2 and not image and space.low.size > 0
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else getattr(space, "spaces", ())
    inner = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    kinds = isinstance(space, (spaces.Dict, spaces.Tuple)) and len(parts) > 0
    return kinds and all(isinstance(part, inner) or _is_vector(part) for part in parts)


def _describe(space) -> str:
    if not isinstance(space, spaces.Box):
        module, name = type(space).__module__.partition(".")[0], type(space).__name__
        return f"{name} of the package gym, not of Gymnasium" if module == "gym" else name
    return f"Box of shape {space.shape} of {space.dtype}"


def _unknown(name: str) -> TaskError:
    module, _, wanted = name.rpartition(":")
    if module and (own := [spec.id for spec in gymnasium.registry.values() if _module(spec).startswith(f"{module}.")]):
        near = difflib.get_close_matches(wanted, own, n=8, cutoff=0.0)
        more = f" and {len(own) - len(near)} more" if len(near) < len(own) else ""
        return TaskError(f"unknown task '{name}'; {module} registers {', '.join(near)}{more}")
    known = nearest(name, known_d4rl_ids() + [i for i in gymnasium.registry if not i.startswith(NAMESPACE)])
    pattern = "-".join(f"<{'|'.join(names)}>" for names in (ROBOTS, MIXES, VERSIONS))
    return TaskError(f"unknown task '{name}'; the nearest known one is '{known}' (D4RL ids are {pattern})")


def _module(spec) -> str:
    """The module that a registered environment comes from, and a dot."""
    entry = spec.entry_point
    return f"{entry.partition(':')[0] if isinstance(entry, str) else getattr(entry, '__module__', '')}."
