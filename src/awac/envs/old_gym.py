"""Old `gym` tasks behind Gymnasium's API. `gym` is optional and imported only when a task asks for it."""

from __future__ import annotations

import contextlib
import io
import warnings

import gymnasium
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from awac.envs.tasks import Task
from awac.errors import TaskError, one_line

PREFIX = "gym:"


def import_gym():
    """Imports `gym` without the notice that 0.26 prints to stderr; None if it is not installed."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import gym
        except ImportError:
            return None
    gym.logger.set_level(gym.logger.ERROR)
    return gym


def register_d4rl(task: str) -> None:
    """Registers d4rl's MuJoCo tasks with gym if d4rl is installed; `import d4rl` alone does not."""
    if not Task.parse(task).is_d4rl:
        return
    quiet = io.StringIO()  # d4rl prints a line for every missing optional package
    with contextlib.redirect_stderr(quiet), contextlib.redirect_stdout(quiet), contextlib.suppress(ImportError):
        import d4rl.gym_mujoco  # noqa: F401


def knows(task: str) -> bool:
    """True if `gym` is installed and has a task of that id."""
    gym = import_gym()
    if gym is None:
        return False
    try:
        gym.spec(task)
    except (gym.error.Error, ImportError):
        return False
    return True


def make(task: str, kwargs: dict) -> tuple[OldGymEnv, int | None]:
    """Makes a task of the old `gym`.

    Args:
        task: its id, without `gym:`.
        kwargs: arguments of the environment's constructor.

    Returns:
        The environment without gym's own step limit, and that limit or None.

    Raises:
        TaskError: `gym` is not installed, does not know the task, lacks a dependency of it, or the constructor raised.
    """
    gym = import_gym()
    if gym is None:
        raise TaskError(f"task 'gym:{task}' needs the old gym package: pip install gym==0.26.2")
    register_d4rl(task)
    new_api = tuple(int(part) for part in gym.__version__.split(".")[:2]) >= (0, 26)
    render_mode = kwargs.get("render_mode")
    if new_api:
        kwargs = {"disable_env_checker": True, **kwargs}
    else:  # its render takes the mode
        kwargs = {key: value for key, value in kwargs.items() if key != "render_mode"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env = gym.make(task, **kwargs)
    except Exception as error:
        raise TaskError(f"task 'gym:{task}' cannot be made: {one_line(error)}") from error
    limits = []
    while isinstance(env, (gym.wrappers.TimeLimit, gym.wrappers.OrderEnforcing)):
        limits += [env._max_episode_steps] if isinstance(env, gym.wrappers.TimeLimit) else []
        env = env.env
    limit = min(filter(None, limits), default=None)
    return OldGymEnv(env, f"{PREFIX}{task}", limit, render_mode, new_api), limit


class OldGymEnv(gymnasium.Env):
    """An env of either gym API: seed() and 4-tuples (up to 0.25), or reset(seed=) and 5-tuples (0.26).

    What `reset` and `step` return is passed on as it is; `Guard` converts it.
    """

    def __init__(self, env, name: str, limit: int | None = None, render_mode: str | None = None, new_api: bool = True):
        self.env, self._new_api = env, new_api
        self.render_mode = render_mode
        self.metadata = dict(getattr(env, "metadata", {}))
        self.observation_space = _convert(env.observation_space)
        self.action_space = _convert(env.action_space)
        self.spec = EnvSpec(name, max_episode_steps=limit)

    @property
    def unwrapped(self):
        return self.env.unwrapped

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        if seed is not None and callable(getattr(self.env.unwrapped, "seed", None)):
            self.env.unwrapped.seed(seed)
            return self.env.reset()
        return self.env.reset() if seed is None else self.env.reset(seed=seed)

    def step(self, action):
        return self.env.step(action)

    def render(self):
        return self.env.render() if self._new_api else self.env.render(mode=self.render_mode or "human")

    def close(self):
        self.env.close()


def _convert(space):
    """The Gymnasium space equal to an old one.

    Raises:
        TaskError: there is none of its kind.
    """
    if type(space).__name__ == "Dict":
        return spaces.Dict({key: _convert(part) for key, part in space.spaces.items()})
    if type(space).__name__ == "Tuple":
        return spaces.Tuple([_convert(part) for part in space.spaces])
    if type(space).__name__ == "Box":
        return spaces.Box(space.low, space.high, space.shape, space.dtype)
    if type(space).__name__ == "Discrete":
        return spaces.Discrete(int(space.n), start=int(getattr(space, "start", 0)))
    if type(space).__name__ == "MultiDiscrete":
        return spaces.MultiDiscrete(space.nvec)
    if type(space).__name__ == "MultiBinary":
        return spaces.MultiBinary(space.n)
    raise TaskError(f"a space of the old gym's kind {type(space).__name__} is not supported; wrap the environment")
