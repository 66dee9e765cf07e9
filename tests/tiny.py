"""Tiny networks, rows and settings for tests of the algorithm: widths (16, 16), 8 rows per batch, 4 steps per call."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from awac.algorithm.learner import AWACLearner
from awac.algorithm.policy import AWACPolicy
from awac.config import AlgoConfig, load_config

needs_a_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and "CI" not in os.environ, reason="there is no g++ on this machine"
)
RECORDED = Path(__file__).parent / "data" / "ant_recorded.hdf5"
OBS, ACT, BATCH, STEPS = 5, 3, 8, 4
NETWORKS = ("actor_net", "average_actor_net", "critic_net", "target_critic_net")

# A real run of six episodes, the last three online, in about three seconds.
RUN = {
    "n_steps_per_episode": 20,
    "steps_per_call": 10,
    "offline_train_steps": 60,
    "online_warmup": 0,
    "batch_size": 8,
    "actor_hidden": "[16,16]",
    "critic_hidden": "[16,16]",
    "log_every": 2,
    "eval_every": 2,
    "save_every": 1,
    "eval_episodes": 1,
}


def settings(**changes) -> list[str]:
    """`--set` and the tiny run's values, as arguments of the command line."""
    return ["--set", *(f"{key}={value}" for key, value in {**RUN, **changes}.items())]


def algo(preset: str = "ant", **changes) -> AlgoConfig:
    """A preset's algorithm with every hidden layer 16 wide and learning rates that make a step visible."""
    config = load_config(preset).algo
    tiny = {
        "actor_hidden": (16,) * len(config.actor_hidden),
        "critic_hidden": (16,) * len(config.critic_hidden),
        "batch_size": BATCH,
        "actor_lr": 1e-2,
        "critic_lr": 2e-2,
        "tau": 0.1,
    }
    return dataclasses.replace(config, **{**tiny, **changes})


def networks(config: AlgoConfig, discrete: bool = False, seed: int = 0) -> dict:
    """AWACPolicy's networks by name."""
    params = {"config": config, "seed": seed, "state_space_dim": OBS, "action_space_dim": ACT, "discrete": discrete}
    policy = AWACPolicy(params)
    return {name: getattr(policy, name) for name in NETWORKS}


def learner(config: AlgoConfig, discrete: bool = False, seed: int = 0) -> AWACLearner:
    return AWACLearner({"config": config, **networks(config, discrete, seed)})


def experience(discrete: bool = False, steps: int = STEPS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows (K, B, W) as `Replay` packs them, a third of them terminated, and noise (K, 2, B, A)."""
    rng = np.random.default_rng(seed)
    action = rng.integers(ACT, size=(steps, BATCH, 1)) if discrete else rng.uniform(-1, 1, (steps, BATCH, ACT))
    parts = (
        rng.normal(size=(steps, BATCH, OBS)),
        rng.normal(size=(steps, BATCH, OBS)),
        action,
        rng.normal(size=(steps, BATCH, 1)),
        np.arange(steps * BATCH).reshape(steps, BATCH, 1) % 3 == 0,
    )
    noise = rng.normal(size=(steps, 2, BATCH, 1 if discrete else ACT))
    return np.concatenate(parts, axis=-1).astype(np.float32), noise.astype(np.float32)


def parameters(cell) -> dict[str, np.ndarray]:
    """Copies of all parameters by full name."""
    return {p.name: p.asnumpy().copy() for p in cell.get_parameters()}
