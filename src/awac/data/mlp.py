"""The forward pass of an MLP on numpy: behaviour policies, and the copies of policy and critics that act.

The reader that `awac export --format npz` prints has its own, since it runs without awac.
"""

from __future__ import annotations

import numpy as np

EPSILON = 1e-5
"""LayerNorm's, as in `algorithm.networks.MLP`."""


def forward(layers, x: np.ndarray, *, layer_norm: bool = False, product=np.matmul) -> np.ndarray:
    """The last layer's outputs, with ReLU between the layers.

    Args:
        layers: (weight (…, in, out), bias that broadcasts to (…, out)) from first to last.
        x: (…, in) of the first layer.
        layer_norm: whether hidden layers are normalised before their ReLU, without scale and offset.
        product: of inputs and weight.
    """
    for i, (weight, bias) in enumerate(layers):
        x = product(x, weight) + bias
        if i < len(layers) - 1:
            if layer_norm:
                x = x - x.mean(-1, keepdims=True)
                x = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON)
            x = np.maximum(x, 0.0)
    return x


def product_of_one_row(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(in,) times (in, out); unlike a BLAS product, its rounding doesn't depend on the number of threads."""
    return np.einsum("i,ij->j", x, weight)
