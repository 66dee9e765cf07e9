"""Behaviour policies: small tanh-Gaussian or ε-greedy networks in plain numpy, and uniform random actions."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces

from awac.data.mlp import forward, product_of_one_row
from awac.errors import DataError
from awac.runs.files import READ_ERRORS

LOG_STD_BOUNDS = (-5.0, 2.0)
# In a clone the policies lie under ckpt/; an installed wheel carries them inside the package.
_FOLDERS = (Path(__file__).parents[3] / "ckpt" / "behaviour", Path(__file__).parents[1] / "behaviour")


@dataclass(frozen=True, eq=False)
class BehaviourPolicy:
    """Acts on one raw observation at a time; calling it returns an action, `sample` also its log-probability.

    Attributes:
        name: for logs and metadata, such as `ant_expert`.
        layers: (weight (in, out), bias (out,)) float32 pairs, ReLU between them; the last one gives mean and log-std of
            a Gaussian that tanh squashes. The first layer may take fewer values than an observation has; the rest is
            ignored. Empty for uniform actions.
        action_space: what uniform actions are drawn from; None for a network.
        epsilon: probability of a uniform action, for a network that gives a value per action of a Discrete space;
            otherwise the action of the largest value is taken. None for a Gaussian.
    """

    name: str
    layers: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    action_space: spaces.Space | None = None
    epsilon: float | None = None

    @classmethod
    def load(cls, path: str | os.PathLike) -> BehaviourPolicy:
        """Reads a policy from .npz with `layers.{i}.weight` and `layers.{i}.bias`, and `epsilon` if it is ε-greedy.

        Raises:
            DataError: the file is missing or holds no such network.
        """
        path = Path(path).expanduser()
        try:
            with np.load(path, allow_pickle=False) as arrays:
                if "weight_0" in arrays:
                    raise DataError(f"{path} is of `awac export`, which draws no actions; give the run's folder")
                count = sum(key.startswith("layers.") and key.endswith(".weight") for key in arrays)
                layers = tuple((arrays[f"layers.{i}.weight"], arrays[f"layers.{i}.bias"]) for i in range(count))
                epsilon = float(arrays["epsilon"]) if "epsilon" in arrays else None
            layers = tuple((w.astype(np.float32), b.astype(np.float32)) for w, b in layers)
        except FileNotFoundError:
            raise DataError(f"{path}: no such behaviour policy; check the path") from None
        except READ_ERRORS:
            raise DataError(
                f"{path}: is not a behaviour policy (.npz with layers.0.weight, layers.0.bias, …)"
            ) from None
        policy = cls(path.stem, layers, epsilon=epsilon)
        policy._check(str(path))
        return policy

    @classmethod
    def random(cls, action_space: spaces.Space) -> BehaviourPolicy:
        """Uniform actions from a bounded Box or a Discrete space."""
        return cls("random", action_space=action_space)

    def __call__(self, observation: np.ndarray, rng: np.random.Generator, deterministic: bool = False):
        """The action for one observation (O,): (A,) float32 in [-1, 1], or an int for a Discrete space."""
        return self.sample(observation, rng, deterministic)[0]

    def sample(self, observation: np.ndarray, rng: np.random.Generator, deterministic: bool = False):
        """One action and its log-density under the sampling distribution.

        Args:
            observation: (O,) raw.
            rng: source of the noise.
            deterministic: take tanh(μ) instead of tanh(μ + σ·ε), or the best action; uniform actions ignore it.

        Returns:
            (action, log_prob).
        """
        if self.action_space is not None:
            return _uniform(self.action_space, rng)
        seen = np.asarray(observation[: len(self.layers[0][0])], np.float32)
        outputs = forward(self.layers, seen, product=product_of_one_row)  # a recording depends on its seed alone
        if self.epsilon is not None:
            return _epsilon_greedy(outputs, 0.0 if deterministic else self.epsilon, rng)
        size = len(outputs) // 2
        mean, log_std = outputs[:size], np.clip(outputs[size:], *LOG_STD_BOUNDS)
        noise = np.zeros(size, np.float32) if deterministic else rng.standard_normal(size, np.float32)
        before_tanh = mean + np.exp(log_std) * noise
        gaussian = -0.5 * np.square(noise) - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 − tanh²u) in a form that does not underflow.
        squash = 2.0 * (math.log(2.0) - before_tanh - np.logaddexp(0.0, -2.0 * before_tanh))
        return np.tanh(before_tanh), float((gaussian - squash).sum())

    def check_env(self, env: gymnasium.Env) -> None:
        """Checks that the policy can act in an environment of `make_env`.

        Raises:
            DataError: it needs more observation values than there are, or the number of actions differs.
        """
        if not self.layers:
            return
        observation_space, action_space = env.observation_space, env.action_space
        assert isinstance(observation_space, spaces.Box), "make_env gives no other"
        wanted, outputs = len(self.layers[0][0]), len(self.layers[-1][1])
        if isinstance(action_space, spaces.Discrete):
            needs, given, actions = "discrete", outputs, int(action_space.n)
        else:
            assert isinstance(action_space, spaces.Box), "make_env gives no other"
            needs, given, actions = "continuous", outputs // 2, action_space.shape[0]
        gives = "continuous" if self.epsilon is None else "discrete"
        if gives != needs:
            raise DataError(f"behaviour policy {self.name} gives {gives} actions but the task's are {needs}")
        if wanted > observation_space.shape[0] or given != actions:
            sizes = f"{observation_space.shape[0]} and {actions}"
            raise DataError(
                f"behaviour policy {self.name} is made for {wanted} observation values and {given} actions; "
                f"the task has {sizes}"
            )

    def digest(self) -> str:
        """Short fingerprint of the weights, for names of cached files."""
        weights = hashlib.sha256(self.name.encode())
        if self.epsilon is not None:
            weights.update(np.float64(self.epsilon).tobytes())
        for layer in self.layers:
            for array in layer:
                weights.update(np.ascontiguousarray(array).tobytes())
        return weights.hexdigest()[:8]

    def _check(self, source: str) -> None:
        width = None
        for weight, bias in self.layers:
            if weight.ndim != 2 or bias.shape != weight.shape[1:] or width not in (None, len(weight)):
                raise DataError(f"{source}: layers do not fit each other; expected weight (in, out) and bias (out,)")
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise DataError(f"{source}: weights are NaN or infinite; train the policy again")
            width = len(bias)
        if self.epsilon is not None and not 0.0 <= self.epsilon <= 1.0:
            raise DataError(f"{source}: epsilon is {self.epsilon}; it must lie in [0, 1]")
        if width is None or (self.epsilon is None and width % 2):
            raise DataError(
                f"{source}: the last layer must give mean and log-std of each action; found {width} outputs"
            )


def shipped_names() -> list[str]:
    """Names that `shipped_policy` takes."""
    return sorted({file.stem for folder in _FOLDERS for file in folder.glob("*.npz")})


def shipped_policy(name: str) -> BehaviourPolicy:
    """Loads a behaviour policy that ships with the project, such as `ant_expert`.

    Raises:
        DataError: the file is missing.
    """
    for folder in _FOLDERS:
        if (folder / f"{name}.npz").is_file():
            return BehaviourPolicy.load(folder / f"{name}.npz")
    raise DataError(
        f"the shipped behaviour policy {name}.npz is missing from ckpt/behaviour; get it from the repository"
    )


def _epsilon_greedy(values: np.ndarray, epsilon: float, rng: np.random.Generator) -> tuple[int, float]:
    """The action of the largest value or, with probability ε, a uniform one; and its log-probability."""
    best = int(values.argmax())
    action = int(rng.integers(len(values))) if epsilon and rng.random() < epsilon else best
    with np.errstate(divide="ignore"):
        return action, float(np.log(epsilon / len(values) + (1.0 - epsilon) * (action == best)))


def _uniform(space: spaces.Space, rng: np.random.Generator):
    """A uniform action from a bounded Box or a Discrete space, and its log-density."""
    if isinstance(space, spaces.Discrete):
        return int(rng.integers(space.n)), -math.log(space.n)
    assert isinstance(space, spaces.Box), "make_env gives no other"
    action = np.asarray(rng.uniform(space.low, space.high), np.float32)
    return action, -float(np.log(space.high - space.low).sum())
