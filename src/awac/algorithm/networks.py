"""The networks: one MLP cell that serves as policy trunk and, with a leading axis of 2, as the twin critics."""

from __future__ import annotations

import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops


class MLP(nn.Cell):
    """Fully connected ReLU network; with `copies` it holds several independent ones, run as one batched matmul.

    Args:
        sizes: widths from input to output.
        rng: numpy generator of the initial weights, uniform in ±1/√fan_in.
        name: prefix of the parameter names.
        copies: number of independent networks (a leading axis on weights and outputs), or None for a single one.
        layer_norm: normalise each hidden layer to mean 0 and variance 1, without affine part.
    """

    def __init__(self, sizes, rng: np.random.Generator, name: str, copies=None, layer_norm=False):
        super().__init__(auto_prefix=False)
        lead = () if copies is None else (copies,)
        self.copies, self.layer_norm = copies, layer_norm
        self.depth = len(sizes) - 1
        weights, biases = [], []
        for i, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
            bound = 1.0 / np.sqrt(fan_in)
            weight = rng.uniform(-bound, bound, (*lead, fan_in, fan_out)).astype(np.float32)
            bias = rng.uniform(-bound, bound, (*lead, 1, fan_out)).astype(np.float32)
            weights.append(Parameter(Tensor(weight), name=f"{name}.{i}.weight"))
            biases.append(Parameter(Tensor(bias), name=f"{name}.{i}.bias"))
        self.weights = ParameterTuple(weights)
        self.biases = ParameterTuple(biases)
        # The primitives, not ops.matmul: their gradients transpose inside the kernel instead of copying.
        self.product = ops.MatMul() if copies is None else ops.BatchMatMul()

    def construct(self, x):
        """(B, sizes[0]) → (B, sizes[-1]), or (copies, B, sizes[-1]) with copies."""
        if self.copies is not None and x.ndim == 2:
            x = ops.tile(ops.expand_dims(x, 0), (self.copies, 1, 1))
        for i in range(self.depth):
            weight, bias = self.weights[i], self.biases[i]
            normalise = self.layer_norm and i < self.depth - 1
            if normalise:  # centring the weights centres the output and costs less
                weight, bias = self._centre(weight), self._centre(bias)
            x = self.product(x, weight) + self._spread(bias, -2, x.shape[-2])
            if normalise:
                x = x * self._inverse_rms(x)
            if i < self.depth - 1:
                x = ops.relu(x)
        return x

    # On CPU a product with ones is many times faster than a reduction or a broadcast, in both directions.

    def _mean(self, x):
        ones = ops.ones((*x.shape[:-2], x.shape[-1], 1), x.dtype)
        return self.product(x, ones / x.shape[-1])

    def _spread(self, x, axis, size):
        if axis == -2:
            return self.product(ops.ones((*x.shape[:-2], size, 1), x.dtype), x)
        return self.product(x, ops.ones((*x.shape[:-2], 1, size), x.dtype))

    def _centre(self, x):
        return x - self._spread(self._mean(x), -1, x.shape[-1])

    def _inverse_rms(self, x):
        return self._spread(ops.rsqrt(self._mean(x * x) + 1e-5), -1, x.shape[-1])
