"""Behaviour policies: small tanh-Gaussian networks in plain numpy, and uniform random actions."""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gymnasium import spaces

from awac.errors import DataError

LOG_STD_BOUNDS = (-5.0, 2.0)
# In a clone the policies lie under ckpt/; an installed wheel carries them inside the package.
_FOLDERS = (Path(__file__).parents[3] / "ckpt" / "behaviour", Path(__file__).parents[1] / "behaviour")


@dataclass(frozen=True, eq=False)
class BehaviourPolicy:
    """Acts on one raw observation at a time; calling it gives an action, `sample` its log-probability as well.

    Attributes:
        name: for logs and metadata, such as `ant_expert`.
        layers: (weight (in, out), bias (out,)) float32 pairs, ReLU between them; the last one gives mean and log-std of
            a Gaussian that tanh squashes. The first one's `in` may be less than the observation: the rest is not seen.
            Empty for uniform actions.
        action_space: what uniform actions are drawn from; None for a network.
    """

    name: str
    layers: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    action_space: spaces.Space | None = None

    @classmethod
    def load(cls, path: str | os.PathLike) -> BehaviourPolicy:
        """Reads a policy from .npz with `layers.{i}.weight` and `layers.{i}.bias`.

        Raises:
            DataError: the file is missing or holds no such network.
        """
        path = Path(path).expanduser()
        try:
            with np.load(path, allow_pickle=False) as arrays:
                count = sum(key.startswith("layers.") and key.endswith(".weight") for key in arrays)
                layers = tuple((arrays[f"layers.{i}.weight"], arrays[f"layers.{i}.bias"]) for i in range(count))
        except FileNotFoundError:
            raise DataError(f"{path}: no such behaviour policy; check the path") from None
        except (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile):
            raise DataError(f"{path}: is no behaviour policy (.npz with layers.0.weight, layers.0.bias, …)") from None
        policy = cls(path.stem, tuple((w.astype(np.float32), b.astype(np.float32)) for w, b in layers))
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
            deterministic: take tanh(μ) instead of tanh(μ + σ·ε); uniform actions ignore it.

        Returns:
            (action, log_prob).
        """
        if self.action_space is not None:
            return _uniform(self.action_space, rng)
        weight, _ = self.layers[0]
        hidden = np.asarray(observation[: len(weight)], np.float32)
        for i, (weight, bias) in enumerate(self.layers):
            # einsum, not BLAS: its sums do not depend on the number of threads, so neither does the recording.
            hidden = np.einsum("i,ij->j", hidden, weight) + bias
            if i < len(self.layers) - 1:
                hidden = np.maximum(hidden, 0.0)
        size = len(hidden) // 2
        mean, log_std = hidden[:size], np.clip(hidden[size:], *LOG_STD_BOUNDS)
        noise = np.zeros(size, np.float32) if deterministic else rng.standard_normal(size, np.float32)
        before_tanh = mean + np.exp(log_std) * noise
        gaussian = -0.5 * np.square(noise) - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 − tanh²u) written so that it neither underflows nor needs a tolerance.
        squash = 2.0 * (math.log(2.0) - before_tanh - np.logaddexp(0.0, -2.0 * before_tanh))
        return np.tanh(before_tanh), float((gaussian - squash).sum())

    def check_env(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        """Checks that the policy can act in an environment with these spaces.

        Raises:
            DataError: it wants more observation values than there are, or gives another number of actions.
        """
        if not self.layers:
            return
        wanted, given = len(self.layers[0][0]), len(self.layers[-1][1]) // 2
        if not isinstance(action_space, spaces.Box):
            raise DataError(f"behaviour policy {self.name} gives continuous actions but the task's are discrete")
        assert isinstance(observation_space, spaces.Box), "make_env gives no other"
        if wanted > observation_space.shape[0] or given != action_space.shape[0]:
            sizes = f"{observation_space.shape[0]} and {action_space.shape[0]}"
            raise DataError(
                f"behaviour policy {self.name} is made for {wanted} observation values and {given} actions; "
                f"the task has {sizes}"
            )

    def digest(self) -> str:
        """Short fingerprint of the weights, for names of cached files."""
        weights = hashlib.sha256(self.name.encode())
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
        if width is None or width % 2:
            raise DataError(
                f"{source}: the last layer must give mean and log-std of each action; found {width} outputs"
            )


def shipped_policy(name: str) -> BehaviourPolicy:
    """Loads a behaviour policy that ships with the project, such as `ant_expert`.

    Raises:
        DataError: it is not where the project keeps them.
    """
    for folder in _FOLDERS:
        if (folder / f"{name}.npz").is_file():
            return BehaviourPolicy.load(folder / f"{name}.npz")
    raise DataError(
        f"the shipped behaviour policy {name}.npz is missing from ckpt/behaviour; get it from the repository"
    )


def _uniform(space: spaces.Space, rng: np.random.Generator):
    """A uniform action from a bounded Box or a Discrete space, and its log-density."""
    if isinstance(space, spaces.Discrete):
        return int(rng.integers(space.n)), -math.log(space.n)
    assert isinstance(space, spaces.Box), "make_env gives no other"
    action = np.asarray(rng.uniform(space.low, space.high), np.float32)
    return action, -float(np.log(space.high - space.low).sum())
