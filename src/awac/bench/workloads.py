"""The training steps that are timed, with their floating point operations."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from awac.config import AlgoConfig, load_config

CHECK_STEPS = 5


@dataclass(frozen=True)
class Workload:
    """One training step.

    Attributes:
        name: on the command line.
        about: sizes, for a reader.
        obs_size: observation columns that the networks see.
        action_size: action dimensions, or the number of discrete actions.
        discrete: whether actions are indices.
        algo: networks, losses, optimisers.
    """

    name: str
    about: str
    obs_size: int
    action_size: int
    discrete: bool
    algo: AlgoConfig

    @property
    def actor_sizes(self) -> tuple[int, ...]:
        """Widths of the policy from input to output."""
        outputs = self.action_size * (2 if self.algo.state_dependent_std else 1)
        return (self.obs_size, *self.algo.actor_hidden, outputs)

    @property
    def critic_sizes(self) -> tuple[int, ...]:
        """Widths of one critic from input to output."""
        if self.discrete:
            return (self.obs_size, *self.algo.critic_hidden, self.action_size)
        return (self.obs_size + self.action_size, *self.algo.critic_hidden, 1)

    def settings(self) -> dict:
        """What a process is told: every value as JSON knows it."""
        return {
            **dataclasses.asdict(self.algo),
            "name": self.name,
            "obs_size": self.obs_size,
            "action_size": self.action_size,
            "discrete": self.discrete,
        }

    def products(self) -> list[tuple[int, int, int]]:
        """(m, k, n) of every matrix product that one step can't do without.

        Forward: Q(s, a), Q(s, a_π), Q̄(s′, a′) of both critics, π(s), π(s′); discrete critics give all actions at once,
        so Q(s, ·) and Q̄(s′, ·) are enough. Backward: Q(s, a) and π(s), without the gradient of their inputs.
        """
        batch, found = self.algo.batch_size, []
        for sizes, forward, copies in ((self.critic_sizes, 2 if self.discrete else 3, 2), (self.actor_sizes, 2, 1)):
            for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)):
                found += [(batch, a, b)] * (forward * copies) + [(a, batch, b)] * copies
                found += [(batch, b, a)] * (copies if i else 0)
        return found

    def flops(self) -> int:
        """Floating point operations of `products`."""
        return sum(2 * m * k * n for m, k, n in self.products())

    def weights(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Initial weights: `policy.{i}.weight`, `policy.{i}.bias`, `policy.log_std`, `value.…` with the twins first."""
        rng, found = np.random.default_rng(seed), {}
        for name, sizes, lead in (("policy", self.actor_sizes, ()), ("value", self.critic_sizes, (2,))):
            for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)):
                found[f"{name}.{i}.weight"] = rng.uniform(-1, 1, (*lead, a, b)) / np.sqrt(a)
                found[f"{name}.{i}.bias"] = rng.uniform(-1, 1, (*lead, 1, b)) / np.sqrt(a)
        if not self.discrete and not self.algo.state_dependent_std:
            found["policy.log_std"] = np.zeros((1, self.action_size))
        return {key: value.astype(np.float32) for key, value in found.items()}

    def rows(self, count: int, seed: int = 1) -> dict[str, np.ndarray]:
        """`count` random transitions by name."""
        rng = np.random.default_rng(seed)
        obs, next_obs = rng.standard_normal((2, count, self.obs_size), np.float32)
        action = rng.uniform(-1, 1, (count, self.action_size)).astype(np.float32)
        if self.discrete:
            action = rng.integers(self.action_size, size=(count, 1)).astype(np.float32)
        reward = rng.standard_normal(count, np.float32)
        terminated = (rng.random(count) < 0.01).astype(np.float32)
        return {"obs": obs, "next_obs": next_obs, "action": action, "reward": reward, "terminated": terminated}

    def noise(self, steps: int, seed: int = 2) -> np.ndarray:
        """Standard normal noise (steps, 2, B, A): for π(s′), then for π(s)."""
        shape = (steps, 2, self.algo.batch_size, self.action_size)
        return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _workloads() -> dict[str, Workload]:
    deep = dataclasses.replace(load_config("mindrl").algo, update_order="together")  # the order that all peers have
    small = dataclasses.replace(deep, actor_hidden=(256,) * 3, critic_hidden=(256,) * 3, batch_size=256)
    cartpole = dataclasses.replace(
        load_config("paper").algo, actor_hidden=(128, 64), critic_hidden=(128, 128), actor_weight_decay=0.0
    )
    return {
        w.name: w
        for w in (
            Workload("w1", "obs 27, act 8, 3 nets of 4×256, B 1024", 27, 8, False, deep),
            Workload("w2", "obs 17, act 6, 3 nets of 3×256, B 256", 17, 6, False, small),
            Workload("w3", "obs 4, 2 actions, critics 128-128, actor 128-64, B 1024", 4, 2, True, cartpole),
            Workload("default", "obs 27, act 8, nets 2×256, LayerNorm in critics, B 256", 27, 8, False,
                     load_config().algo),
            Workload("corl", "obs 17, act 6, the preset corl", 17, 6, False, load_config("corl").algo),
            Workload("d3rlpy", "obs 17, act 6, the preset d3rlpy", 17, 6, False, load_config("d3rlpy").algo),
        )
    }  # fmt: skip


WORKLOADS = _workloads()
TIMED = ("w1", "w2", "w3", "default")
"""Those of a plain `awac bench`; the others hold a preset against the code that it is named after."""
