"""The one place where an environment is reset and stepped: what it returns is converted and checked.

Collecting, training and evaluating all go through it, so a NaN, a wrong shape or an exception becomes a one-line error
that names environment and step, and is never stored.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping

import gymnasium
import numpy as np
from gymnasium import spaces

from awac.errors import AWACError, EnvironmentFault, Interrupted, one_line

LARGEST = float(np.finfo(np.float32).max)
"""Rows are stored in float32: beyond it they would be infinite."""
SEEDS = 2**31
"""Reset seeds of other people's environments are below: some keep them in a C int."""
OWN = ("awac", "gymnasium", "gym", "d4rl")
"""Packages whose environments get larger seeds as they are."""


class Guard(gymnasium.Wrapper):
    """Converts what environments return, and refuses what cannot be used.

    Accepted: observations as lists or of another shape with the right number of values, integers, Dict and Tuple (they
    are flattened, a Dict by key, as its parts are stored in files); `reset` without `seed` or `options`, or without
    info (of several wrappers, the outermost that does not simply pass everything on decides what it is given); four
    values from `step` (done, and `TimeLimit.truncated` in info); rewards and flags as arrays of one value.
    Returned: a copied observation vector of the space's float type (float64 for integers), a float, two bools, a dict.

    Args:
        env: its observation space is a Box, or a Dict or Tuple that can be flattened.
        name: for messages.

    Attributes:
        seedable: whether a seed reaches it.
        limit_note: what the log should say about its step limit; empty if that is as expected.
    """

    def __init__(self, env: gymnasium.Env, name: str):
        super().__init__(env)
        self.name, self.limit_note = name, ""
        original = env.observation_space
        self._flatten = None if isinstance(original, spaces.Box) else _by_key(original)
        box = spaces.flatten_space(original if self._flatten is None else self._flatten)
        assert isinstance(box, spaces.Box), "make_env gives no other"
        dtype: type[np.floating] = np.float32 if box.dtype in (np.float16, np.float32) else np.float64
        low, high = box.low.ravel().astype(dtype), box.high.ravel().astype(dtype)
        self.observation_space = spaces.Box(low, high, dtype=dtype)
        self._dtype, self._size = dtype, low.size
        inner = env
        while isinstance(inner, gymnasium.Wrapper):
            inner = inner.env
        self._takes, self._needs = _keywords(_deciding_reset(env))
        by_reset = self._takes & _keywords(inner.reset)[0]
        self._seed = getattr(inner, "seed", None) if "seed" not in by_reset else None
        self._small_seeds = type(env.unwrapped).__module__.partition(".")[0] not in OWN
        self.seedable = "seed" in self._takes or callable(self._seed)
        self._steps, self._episodes, self._closed = 0, 0, False
        self._last = np.zeros(self._size, dtype)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Starts an episode; returns (observation (O,), info).

        Args:
            seed: a whole number below 2**32; an environment of none of the packages in `OWN` gets it modulo 2**31.
            options: passed on where the environment takes them.

        Raises:
            EnvironmentFault: the environment raised, or its observation cannot be used.
        """
        self._steps, self._episodes = 0, self._episodes + 1
        if seed is not None and seed >= SEEDS and self._small_seeds:
            seed %= SEEDS
        arguments = {"seed": seed, "options": options}
        kwargs = {
            key: value for key, value in arguments.items() if key in (self._takes if value is not None else self._needs)
        }
        if seed is not None and callable(self._seed):
            self._call(self._seed, seed)
        result = self._call(self.env.reset, **kwargs)
        with_info = isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], (dict, type(None)))
        observation, info = result if with_info else (result, {})
        self._last = self._observation(observation, False)
        return self._last, info or {}

    def step(self, action):
        """Takes one step; returns (observation (O,), reward, terminated, truncated, info).

        Raises:
            EnvironmentFault: the environment raised, or what it returned cannot be used.
        """
        self._steps += 1
        result = self._call(self.env.step, action)
        count = len(result) if isinstance(result, (tuple, list)) else None
        if count not in (4, 5) or not isinstance(result[-1], (dict, type(None))):
            what = f"{count} values, the last is {_shown(result[-1])}" if count else type(result).__name__
            raise self._fault(f"step returned {what}; expected (observation, reward, terminated, truncated, info dict)")
        observation, reward, *flags, info = result
        info = info or {}
        ended = [self._flag(flag) for flag in flags]
        if len(ended) == 1:
            cut = bool(info.get("TimeLimit.truncated", False))
            ended = [ended[0] and not cut, ended[0] and cut]
        reward = self._number(reward)
        self._last = self._observation(observation, ended[0])
        return self._last, reward, ended[0], ended[1], info

    def close(self):
        """Closes the environment; a second call does nothing.

        A failure is only said: what was recorded or learnt is worth more, and an error that led here must be seen.
        """
        if not self._closed:
            self._closed = True
            try:
                self._call(self.env.close)
            except EnvironmentFault as error:
                print(f"Warning: {error}", flush=True)

    def _call(self, function, *args, **kwargs):
        try:
            return function(*args, **kwargs)
        except (AWACError, Interrupted):
            raise
        except (Exception, SystemExit) as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{frame.filename.rsplit('/', 1)[-1]}, line {frame.lineno}"
            raise self._fault(f"{one_line(error)} ({place})") from error

    def _observation(self, observation, terminated: bool) -> np.ndarray:
        # A copy in any case: some environments reuse their memory.
        if type(observation) is np.ndarray and observation.dtype == self._dtype and self._flatten is None:
            values = observation.flatten()
        else:
            values = self._converted(observation)
        if values.size != self._size:
            raise self._fault(
                f"the observation has shape {np.shape(observation)}, its space says {self.env.observation_space.shape}"
                if self._flatten is None
                else f"the observation has {values.size} values, its space {self._size}"
            )
        if not values.dot(values) <= LARGEST**2:  # a cheap test; the exact one runs only if it fails
            usable = np.abs(values) <= LARGEST
            if usable.all():
                return values
            if terminated:  # a terminal observation is never used
                return np.where(usable, values, self._last)
            index = int(usable.argmin())
            raise self._fault(f"value {index} of the observation is {values[index]}")
        return values

    def _converted(self, observation) -> np.ndarray:
        try:
            if self._flatten is not None:
                observation = spaces.flatten(self._flatten, observation)
            with np.errstate(over="ignore"):  # the caller reports an overflow
                return np.array(observation, self._dtype).reshape(-1)
        except (ValueError, TypeError, KeyError, IndexError, AssertionError) as error:
            raise self._fault(f"the observation does not fit its space: {one_line(error)}") from None

    def _number(self, reward) -> float:
        try:
            value = reward if type(reward) is float else float(np.asarray(reward, np.float64).item())
        except (ValueError, TypeError):
            raise self._fault(f"the reward is not a single number but {_shown(reward)}") from None
        if not abs(value) <= LARGEST:
            raise self._fault(f"the reward is {None if reward is None else value}")
        return value

    def _flag(self, flag) -> bool:
        if type(flag) is bool:
            return flag
        try:
            return bool(np.asarray(flag).item())
        except ValueError:
            raise self._fault(f"terminated or truncated is not a single flag but {_shown(flag)}") from None

    def _fault(self, text: str) -> EnvironmentFault:
        place = f"at step {self._steps} of its episode {self._episodes}" if self._steps else "at a reset"
        place = "when it was closed" if self._closed else place
        return EnvironmentFault(f"environment '{self.name}' failed {place}: {text}")


def _by_key(space: spaces.Space) -> spaces.Space:
    """The space with every Dict sorted by key, as Gymnasium sorts those that are made from a plain dict."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict(
            {key: _by_key(part) for key, part in sorted(space.spaces.items(), key=lambda item: str(item[0]))}
        )
    return spaces.Tuple([_by_key(part) for part in space.spaces]) if isinstance(space, spaces.Tuple) else space


def parts_of(space: spaces.Space, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], spaces.Space]]:
    """The parts of a Dict or Tuple with their keys and positions, in the order in which `Guard` flattens them."""
    if not isinstance(space, (spaces.Dict, spaces.Tuple)):
        return [(path, space)]
    inner = _by_key(space).spaces  # type: ignore[attr-defined]
    items = inner.items() if isinstance(inner, dict) else enumerate(inner)
    return [pair for key, part in items for pair in parts_of(part, (*path, str(key)))]


def guard_of(env: gymnasium.Env) -> Guard | None:
    """The guard inside an environment of `make_env`; None in any other."""
    while isinstance(env, gymnasium.Wrapper) and not isinstance(env, Guard):
        env = env.env
    return env if isinstance(env, Guard) else None


def _deciding_reset(env: gymnasium.Env):
    """The outermost `reset` whose signature says what may be given: Gymnasium's wrappers and `**kwargs` pass it on."""
    while isinstance(env, gymnasium.Wrapper):
        parameters = _parameters(env.reset)
        passes_on = "seed" not in parameters and any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        if not passes_on and not str(getattr(env.reset, "__module__", "")).startswith("gymnasium."):
            break
        env = env.env
    return env.reset


def _parameters(reset) -> Mapping[str, inspect.Parameter]:
    """The parameters of a `reset`; those of Gymnasium's if they can't be read."""
    try:
        return inspect.signature(reset).parameters
    except (TypeError, ValueError):
        return inspect.signature(gymnasium.Env.reset).parameters


def _keywords(reset) -> tuple[set[str], set[str]]:
    """Which of `seed` and `options` a `reset` takes, and which it requires."""
    names, parameters = {"seed", "options"}, _parameters(reset).values()
    takes = names & {parameter.name for parameter in parameters}
    needs = {parameter.name for parameter in parameters if parameter.default is inspect.Parameter.empty} & names
    return (names if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters) else takes), needs


def _shown(value) -> str:
    return f"an array of shape {np.shape(value)}" if isinstance(value, np.ndarray) else repr(value)[:80]
