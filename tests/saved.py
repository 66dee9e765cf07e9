"""Checkpoints with random weights, made without training: policies of every kind for tests that read them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from awac.config import load_config
from awac.data.normalizer import Normalizer
from awac.runs import checkpoint
from awac.runs.folder import NETWORKS

HIDDEN = (32, 16)
BOXES = {
    "unit": ([-1.0] * 3, [1.0] * 3),
    "own": ([-2.0, 0.0, 5.0], [2.0, 0.5, 5.0]),  # the last one is locked
    "far": ([1000.0, -1e-3, -40.0], [1001.0, 1e-3, -30.0]),
}


def save(
    folder: Path, kind: str, task: str = "Pendulum-v1", episode: int = 3, gain: float = 1.0, seed: int = 0
) -> Path:
    """Saves a policy on six observations, of which one is constant and one has a large offset.

    Args:
        folder: of the checkpoint.
        kind: a key of BOXES, `std` (as `own`, the std depends on the state), `plain` (as `own`, a mean without tanh),
            `discrete`, or `discrete from 5`.
        task: its task.
        episode: its number.
        gain: factor on the last layer.
        seed: of the weights.
    """
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(500, 6)).astype(np.float32) * [1, 5, 0.01, 0, 1, 0.3] + [0, 3, 0, 7, -1, 450000]
    normalizer = Normalizer.fit(data.astype(np.float32))
    discrete = kind.startswith("discrete")
    algo = dataclasses.replace(load_config().algo, actor_hidden=HIDDEN)
    algo = dataclasses.replace(algo, state_dependent_std=kind == "std", squash_mean=kind != "plain")
    config = dataclasses.replace(load_config(overrides={"task": task}), algo=algo)
    outputs = 4 if discrete else 6 if kind == "std" else 3
    policy = {}
    sizes = (normalizer.size, *HIDDEN, outputs)
    for i, shape in enumerate(zip(sizes, sizes[1:], strict=False)):
        scale = gain if i == len(HIDDEN) else 1.0
        policy[f"{i}.weight"] = (scale * rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
        policy[f"{i}.bias"] = (scale * rng.normal(size=(1, shape[1])) * 0.3).astype(np.float32)
    if not discrete and kind != "std":
        policy["log_std"] = np.zeros((1, 3), np.float32)
    policy |= {f"normalizer.{name}": value for name, value in normalizer.arrays().items()}
    about = {
        "config": dataclasses.asdict(config),
        "spaces": {"obs_size": 5, "raw_obs_size": 6, "action_size": 4 if discrete else 3, "discrete": discrete},
        "data": {"sha256": "ab" * 32, "kind": "file", "dataset": "d.npz", "rows": 500},
        "versions": {"awac": "0.1.0", "mindspore": "2.7.0"},
    }
    if kind == "discrete from 5":
        about["action_start"] = 5
    elif not discrete:
        about["action_bounds"] = list(BOXES["own" if kind in ("std", "plain") else kind])
    value = {"0.weight": np.zeros((2, 1), np.float32)}
    networks = {name: policy if name == "policy" else value for name in NETWORKS}
    checkpoint.save(folder, episode, networks, None, about, keep=5)
    return folder
