"""The data of a run and its environment, or under `no_env` a stand-in with the spaces only."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import NamedTuple

import gymnasium

from awac.config import Config
from awac.data.doctor import quick
from awac.data.sources import Origin, resolve_alone, resolve_dataset
from awac.data.sources.resolve import has_dataset
from awac.data.transitions import Transitions
from awac.envs.make import make_env, notes
from awac.envs.tasks import Task
from awac.errors import ConfigError, DataError


class Material(NamedTuple):
    """The data of a run and where it acts; without an environment, `env` has spaces only."""

    task: Task
    env: gymnasium.Env
    data: Transitions
    origin: Origin


def offline_episodes(config: Config) -> int:
    """Training episodes of the offline phase."""
    return config.train.offline_train_steps // config.train.n_steps_per_episode


def check_environment(config: Config, episodes: int) -> Config:
    """The configuration of a run of `episodes`; without an environment it names no task.

    Raises:
        ConfigError: `no_env` without a data set or with an online phase, or its keys are set without it.
    """
    env = config.env
    if not env.no_env:
        if env.action_low is not None or env.action_high is not None:
            raise ConfigError("action_low and action_high are for no_env; an environment has its own bounds")
        return config
    if env.dataset is None:
        raise ConfigError("no_env needs a data set; give one with --dataset")
    if env.env_kwargs:
        raise ConfigError("no_env makes no environment, so env_kwargs has no use; leave it out")
    if episodes > offline_episodes(config) or not offline_episodes(config):
        steps = config.train.n_steps_per_episode
        raise ConfigError(
            f"no_env trains offline only, and {episodes} episodes of {steps} steps are more than the offline phase of "
            f"{config.train.offline_train_steps}; raise offline_train_steps, or ask for {offline_episodes(config)}"
        )
    return dataclasses.replace(config, env=dataclasses.replace(env, task=""))


def collect_material(config: Config, stack: contextlib.ExitStack) -> Material:
    """Makes the environment, reads the data, and prints the log lines about both.

    Args:
        config: the run.
        stack: closes the environment.

    Raises:
        AWACError: any mistake in either.
    """
    task, keys = Task.of(config.env), config.env
    if keys.no_env:
        data, origin, env = resolve_alone(
            str(keys.dataset),
            low=keys.action_low,
            high=keys.action_high,
            limit=keys.max_episode_steps,
            action_unit=keys.action_unit,
            download=keys.download,
        )
        print("No environment (no_env): training is offline only, and nothing is evaluated", flush=True)
    else:
        env = stack.enter_context(contextlib.closing(make_env(task)))
        for line in notes(env):
            print(line, flush=True)
        if keys.dataset is None and not has_dataset(task.id):
            raise DataError(
                f"task '{task.id}' has no data set of its own; give one with --dataset (awac collect records it)"
            )
        data, origin = resolve_dataset(
            keys.dataset or task.id, env=env, action_unit=keys.action_unit, download=keys.download
        )
    print(*origin.lines(), sep="\n", flush=True)
    for finding in quick(data, env, task):
        print(f"Data warning: {finding.check}: {finding.text}", flush=True)
    return Material(task, env, data, origin)
