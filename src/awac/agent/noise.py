"""Noise for the action samples of one compiled call of `AWAC`."""

from __future__ import annotations

import numpy as np


def action_noise(rng: np.random.Generator, shape: tuple[int, int, int, int, int], discrete: bool) -> np.ndarray:
    """Standard normal noise, or Gumbel noise for discrete actions, as `unpack_noise` takes it.

    Args:
        rng: the generator.
        shape: (K, U, N, B, A): steps, uses in a step, samples (0 for the exact expectation), rows, actions.
        discrete: whether actions are indices.

    Returns:
        (K, U, N, B, A) float32, without N for a single normal sample; one 0 a step if nothing is drawn.
    """
    steps, uses, samples = shape[:3]
    if not uses or not samples:
        return np.zeros((steps, 1, 1, 1, 1), np.float32)
    if not discrete:
        noise = rng.standard_normal(shape, np.float32)
        return noise[:, :, 0] if samples == 1 else noise
    tiny = np.finfo(np.float32).tiny
    return -np.log(np.maximum(rng.standard_exponential(shape, np.float32), tiny))
