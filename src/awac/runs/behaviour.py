"""A trained policy that records data: `awac collect --policy FOLDER`."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces

from awac.algorithm.numpy_policy import NumpyPolicy
from awac.data.behaviour import BehaviourPolicy
from awac.data.mlp import forward, product_of_one_row
from awac.envs.actions import environment_action_space
from awac.errors import DataError
from awac.runs.deployed import load_policy


@dataclass(frozen=True, eq=False)
class TrainedPolicy(BehaviourPolicy):
    """The policy of a checkpoint; its draws are clipped to [-1, 1], and log-probabilities are of those before that.

    Attributes:
        network: of the checkpoint.
        actions: number of actions, or the length of the action vector.
        space: of the actions in the units of the run's environment; None if the checkpoint does not hold it.
    """

    network: NumpyPolicy | None = None
    actions: int = 0
    space: spaces.Space | None = None

    def sample(self, observation: np.ndarray, rng: np.random.Generator, deterministic: bool = False):
        """One action and its log-probability, as `BehaviourPolicy.sample`; `deterministic` takes the mode."""
        assert self.network is not None
        layers = [(weight, bias.reshape(-1)) for weight, bias in self.network.layers]
        out = forward(layers, self.network.normalizer(observation), product=product_of_one_row)
        if self.network.discrete:
            action = int((out if deterministic else out + rng.gumbel(size=out.shape)).argmax())
            return action, float(out[action] - np.logaddexp.reduce(out))
        mean, log_std = (np.ravel(part) for part in self.network.gaussian(out))
        noise = np.zeros_like(mean) if deterministic else rng.standard_normal(mean.shape, np.float32)
        density = -0.5 * np.square(noise) - log_std - 0.5 * math.log(2 * math.pi)
        return np.clip(mean + np.exp(log_std) * noise, -1.0, 1.0).astype(np.float32), float(density.sum())

    def check_env(self, env: gymnasium.Env) -> None:
        """Checks that the policy was trained in an environment with the spaces of this one, of `make_env`.

        Raises:
            DataError: they differ in their sizes, or in the units of the actions.
        """
        observation_space, action_space, here = env.observation_space, env.action_space, environment_action_space(env)
        assert self.network is not None and observation_space.shape and action_space.shape is not None
        discrete = isinstance(action_space, spaces.Discrete)
        actions = int(action_space.n) if isinstance(action_space, spaces.Discrete) else action_space.shape[0]
        own = _sizes(self.network.normalizer.obs_size, self.actions, self.network.discrete)
        if own != (given := _sizes(observation_space.shape[0], actions, discrete)):
            raise DataError(f"{self.name} is made for {own}; the task has {given}: give its own with --task")
        if self.space is not None and (before := _unit(self.space)) != (now := _unit(here)):
            raise DataError(
                f"{self.name} was trained on actions {before}, the task's go {now}: give its own task with --task and "
                "--env_kwargs"
            )


def _sizes(observations: int, actions: int, discrete: bool) -> str:
    return f"{observations} observation values and {actions} {'discrete' if discrete else 'continuous'} actions"


def _unit(space: spaces.Space) -> str:
    if isinstance(space, spaces.Discrete):
        return f"from index {int(space.start)}"
    assert isinstance(space, spaces.Box)
    low, high = (np.round(np.ravel(side).astype(np.float64), 6).tolist() for side in (space.low, space.high))
    return f"from {low} to {high}"


def trained_policy(folder: str | Path) -> TrainedPolicy:
    """The policy of a run's newest sound checkpoint, or of a folder that `awac export --out` wrote.

    Raises:
        CheckpointError: no sound checkpoint there.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        policy = load_policy(str(folder))
    for item in caught:
        if str(item.message).startswith("Skip checkpoint"):  # the other one is about units, which `collect` knows
            print(f"Warning: {item.message}", flush=True)
    name = f"{Path(folder).resolve().name}, checkpoint {policy.episode}"
    space = policy.space if policy.knows_units else None
    actions = int(policy.manifest["spaces"]["action_size"])
    return TrainedPolicy(name, network=policy.network, actions=actions, space=space)
