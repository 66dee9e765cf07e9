"""The twin critics on numpy, to choose among several actions while acting."""

from __future__ import annotations

import numpy as np

from awac.data.mlp import forward


class NumpyCritic:
    """min_i Q_i(s, a) of several actions in one state.

    Args:
        weights: the twin critics' arrays by name, from `parameter_arrays`: weights (2, in, out), biases (2, 1, out).
        normalizer: `Normalizer` fitted on the data.
        layer_norm: whether hidden layers are normalised.
        discrete: whether actions are indices.
    """

    def __init__(self, weights: dict[str, np.ndarray], normalizer, layer_norm: bool, discrete: bool):
        depth = sum(name.endswith(".weight") for name in weights)
        self.layers = [(weights[f"{i}.weight"], weights[f"{i}.bias"]) for i in range(depth)]
        self.normalizer, self.layer_norm, self.discrete = normalizer, layer_norm, discrete

    def __call__(self, observation, actions: np.ndarray) -> np.ndarray:
        """(K,) values of actions (K, A), or of indices (K,), in a raw observation (O,)."""
        x = self.normalizer(np.asarray(observation)[None])
        if not self.discrete:
            x = np.concatenate([np.repeat(x, len(actions), axis=0), actions], axis=1)
        value = forward(self.layers, x, layer_norm=self.layer_norm).min(axis=0)
        return value[0, actions] if self.discrete else value[:, 0]
