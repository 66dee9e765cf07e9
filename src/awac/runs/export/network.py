"""A deployed policy as plain arrays: what every exported format is made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from awac.data.normalizer import CLIP
from awac.runs.deployed import DeployedPolicy


@dataclass(frozen=True, eq=False)
class Network:
    """From raw observations to actions in the environment's units; all arrays are float32 unless noted.

    x = clip((o[columns] − mean − mean_rest) / std, ±clip), then the layers with ReLU between them. Continuous actions
    are clip(centre + half·tanh(x), low, high), without tanh where `squash` is False; discrete ones argmax(x) + start.

    Attributes:
        obs_size: O, values in a raw observation.
        columns: (n,) int64, which of them are used.
        mean: (n,) of the data.
        mean_rest: (n,) exact mean minus float32 mean, usually zeros.
        std: (n,) of the data.
        clip: bound of the normalised observation.
        layers: (weight (in, out), bias (out,)) from first to last.
        low: (A,) lower bounds of the action; None for discrete actions.
        high: (A,) upper bounds, likewise.
        start: the first index of discrete actions.
        squash: whether the last layer goes through tanh.
    """

    obs_size: int
    columns: np.ndarray
    mean: np.ndarray
    mean_rest: np.ndarray
    std: np.ndarray
    clip: float
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    low: np.ndarray | None
    high: np.ndarray | None
    start: int
    squash: bool

    @classmethod
    def of(cls, policy: DeployedPolicy) -> Network:
        """The arrays of a loaded policy; outputs for a state-dependent std are left out."""
        normalizer, space = policy.network.normalizer, policy.space
        low = high = None
        outputs = int(space.n) if isinstance(space, spaces.Discrete) else len(space.low)
        if isinstance(space, spaces.Box):
            low, high = space.low, space.high
        layers = [(weight, bias.reshape(-1)) for weight, bias in policy.network.layers]
        weight, bias = layers[-1]
        layers[-1] = np.ascontiguousarray(weight[:, :outputs]), bias[:outputs]
        rest = normalizer.mean_rest
        return cls(
            obs_size=normalizer.obs_size,
            columns=normalizer.columns,
            mean=normalizer.mean,
            mean_rest=np.zeros_like(normalizer.mean) if rest is None else rest,
            std=normalizer.std,
            clip=CLIP,
            layers=tuple(layers),
            low=low,
            high=high,
            start=int(space.start) if isinstance(space, spaces.Discrete) else 0,
            squash=policy.network.config.squash_mean,
        )

    @property
    def centre(self) -> np.ndarray:
        """(A,) middle of the action's bounds."""
        assert self.low is not None and self.high is not None, "only continuous actions have bounds"
        return ((self.low.astype(np.float64) + self.high) / 2).astype(np.float32)

    @property
    def half(self) -> np.ndarray:
        """(A,) half the width of the action's bounds."""
        assert self.low is not None and self.high is not None, "only continuous actions have bounds"
        return ((self.high.astype(np.float64) - self.low) / 2).astype(np.float32)
