"""RunContext: what a session hands to its trainer."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import gymnasium
import numpy as np

from awac.config import Config
from awac.data.normalizer import Normalizer
from awac.data.replay import Replay
from awac.envs.make import make_env
from awac.envs.tasks import Task
from awac.errors import CheckpointError
from awac.training.evaluate import Evaluation, Evaluator
from awac.training.video import Film


@dataclass(frozen=True)
class RunContext:
    """One training or evaluation run.

    Attributes:
        config: the run.
        folder: of the checkpoints.
        normalizer: fitted to the data.
        task: of the configuration, parsed.
        env: the environment to collect in.
        evaluator: runs evaluation episodes.
        manifest: checkpoint to resume or to evaluate, or None.
        replay: filled with the offline data; None for evaluation.
        source: folder and manifest of the run whose learner a new one starts with, or None.
        about: JSON-able facts for the manifest.
        sampler: draws the actions of evaluations; None takes the policy's mode.
        results: the trainer's `load_and_eval` adds its Evaluation here.
    """

    config: Config
    folder: Path
    normalizer: Normalizer
    task: Task
    env: gymnasium.Env
    evaluator: Evaluator
    manifest: dict | None = None
    replay: Replay | None = None
    source: tuple[Path, dict] | None = None
    about: dict | None = None
    sampler: np.random.Generator | None = None
    results: list[Evaluation] = field(default_factory=list)

    @cached_property
    def spaces(self) -> dict:
        """Sizes of the networks, from `network_spaces`."""
        return network_spaces(self.env, self.normalizer)

    @property
    def display(self) -> str:
        """The folder as the log shows it."""
        return f"{str(self.folder).rstrip('/')}/" if os.path.isabs(self.folder) else f"./{self.folder}/"


def network_spaces(env: gymnasium.Env, normalizer: Normalizer) -> dict:
    """`obs_size`, `action_size`, `discrete` of the networks, `raw_obs_size` of the environment.

    Raises:
        CheckpointError: the normaliser was fitted to another number of observations.
    """
    space = env.action_space
    discrete = isinstance(space, gymnasium.spaces.Discrete)
    size = int(space.n) if isinstance(space, gymnasium.spaces.Discrete) else math.prod(space.shape or ())
    raw = math.prod(env.observation_space.shape or ())
    if raw != normalizer.obs_size:
        raise CheckpointError(f"the task has {raw} observations, the normaliser was fitted to {normalizer.obs_size}")
    return {"obs_size": normalizer.size, "raw_obs_size": raw, "action_size": size, "discrete": discrete}


def make_evaluator(config: Config, task: Task, env: gymnasium.Env, seed: int) -> Evaluator:
    """The evaluator of a run.

    Args:
        config: the run; under `no_env`, `env` only has spaces and takes the place of an environment.
        task: makes the environments.
        env: the training environment, used where no other can be made; or a film, used for the first episode.
        seed: of the episodes.
    """
    film = [env] if isinstance(env, Film) else []

    def make():
        return env if config.env.no_env else film.pop() if film else make_env(task)

    return Evaluator(make, config.env.eval_episodes, seed, spare=None if film else env)
