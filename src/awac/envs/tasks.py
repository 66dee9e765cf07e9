"""Parses a task's name: `Task.parse("ant-expert-v2")`. A run does this once and passes the result on."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from awac.config import EnvConfig
from awac.envs.mujoco_v2 import ROBOTS, TIME_LIMIT

MIXES = ("random", "medium", "expert", "medium-replay", "medium-expert", "full-replay")
VERSIONS = ("v0", "v1", "v2")
NAMESPACE = "awac/"
"""Prefix of D4RL's tasks in Gymnasium's registry."""


@dataclass(frozen=True)
class Task:
    """An environment by name, with the options to make it.

    Attributes:
        id: D4RL id (`ant-expert-v2`), Gymnasium id (`Pendulum-v1`, `module:Name-v0`), or `gym:` and an old gym id.
        robot: key of `ROBOTS`, empty if it is not a D4RL id. All mixes and versions of a robot share its dynamics.
        mix: such as `medium-expert`; empty as above.
        version: `v0`, `v1` or `v2`; empty as above.
        env_kwargs: arguments of the environment's constructor.
        max_episode_steps: step limit of an episode instead of the environment's own.
    """

    id: str
    robot: str = ""
    mix: str = ""
    version: str = ""
    env_kwargs: dict = field(default_factory=dict, hash=False)
    max_episode_steps: int | None = None

    @classmethod
    def parse(cls, text: str | Task, env_kwargs: dict | None = None, max_episode_steps: int | None = None) -> Task:
        """`ant-medium-expert-v2` → robot `ant`, mix `medium-expert`, version `v2`; any other name is kept as it is.

        A parsed task is returned as it is.
        """
        if isinstance(text, Task):
            return text
        name = text.removeprefix(NAMESPACE)
        robot, _, rest = name.partition("-")
        mix, _, version = rest.rpartition("-")
        options = (dict(env_kwargs or {}), max_episode_steps)
        if robot in ROBOTS and mix in MIXES and version in VERSIONS:
            return cls(name, robot, mix, version, *options)
        return cls(text, "", "", "", *options)

    @classmethod
    def of(cls, env: EnvConfig) -> Task:
        """The task of a configuration, with its `env_kwargs` and step limit."""
        return cls.parse(env.task, env.env_kwargs, env.max_episode_steps)

    @property
    def is_d4rl(self) -> bool:
        """Whether it is one of D4RL's locomotion tasks."""
        return bool(self.robot)

    @property
    def score_range(self) -> tuple[float, float] | None:
        """Mean returns that score 0 and 100; None for tasks without reference returns, or with another step limit."""
        if not self.robot or self.max_episode_steps not in (None, TIME_LIMIT):
            return None
        return ROBOTS[self.robot].score_range

    @property
    def hidden_positions(self) -> int | None:
        """Number of leading joint positions that are not in an observation; None if it is not a D4RL task."""
        return ROBOTS[self.robot].hidden_positions if self.robot else None


def normalized_score(task: str | Task, episode_return: float) -> float | None:
    """D4RL's score: 0 for a random policy, 100 for D4RL's expert; None for tasks without reference returns."""
    bounds = Task.parse(task).score_range
    return None if bounds is None else 100.0 * (episode_return - bounds[0]) / (bounds[1] - bounds[0])


def known_d4rl_ids() -> list[str]:
    """Every D4RL id that `Task.parse` knows."""
    return ["-".join(parts) for parts in itertools.product(ROBOTS, MIXES, VERSIONS)]
