"""Adam and Polyak averaging, inside a compiled graph."""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

BETA1, BETA2 = 0.9, 0.999
LATE, LATE_BETA2 = 1e-30, 1.0 - 2.0**-18
"""The factor of β₂ᵗ in a step once it is below LATE, in place of β₂. Adam's own correction is over by then, but
`average_rate` tells t from it, and β₂ᵗ itself would leave the range of float32 after 97,000 steps."""


class Adam(nn.Cell):
    """Adam (Kingma & Ba 2015) with L2 weight decay, one fused kernel per parameter.

    Two `nn.Adam` in one graph clash on their step counter; here all state is in named parameters.
    """

    def __init__(self, parameters, learning_rate: float, name: str, weight_decay: float = 0.0):
        super().__init__(auto_prefix=False)
        self.parameters = ParameterTuple(parameters)
        self.m = self._zeros_like(parameters, f"{name}.m")
        self.v = self._zeros_like(parameters, f"{name}.v")
        self.beta1_power = Parameter(Tensor(1.0, ms.float32), name=f"{name}.beta1_power", requires_grad=False)
        self.beta2_power = Parameter(Tensor(1.0, ms.float32), name=f"{name}.beta2_power", requires_grad=False)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.update = ops.Adam()

    @staticmethod
    def _zeros_like(parameters, name):
        return ParameterTuple(
            [
                Parameter(Tensor(np.zeros(p.shape, np.float32)), name=f"{name}.{i}", requires_grad=False)
                for i, p in enumerate(parameters)
            ]
        )

    def state(self) -> list[Parameter]:
        """The optimiser's state."""
        return [*self.m, *self.v, self.beta1_power, self.beta2_power]

    def construct(self, gradients):
        self.beta1_power *= BETA1
        late = self.beta2_power <= LATE
        self.beta2_power = ops.select(late, self.beta2_power * LATE_BETA2, self.beta2_power * BETA2)
        for i in range(len(self.parameters)):
            gradient = gradients[i]
            if self.weight_decay > 0:
                gradient = gradient + self.weight_decay * self.parameters[i]
            self.update(
                self.parameters[i],
                self.m[i],
                self.v[i],
                self.beta1_power,
                self.beta2_power,
                self.learning_rate,
                BETA1,
                BETA2,
                1e-8,
                gradient,
            )
        return True


def polyak(slow, fast, rate):
    """slow ← (1 − rate)·slow + rate·fast, Polyak averaging."""
    for i in range(len(slow)):
        ops.assign(slow[i], slow[i] * (1.0 - rate) + fast[i] * rate)
    return True


def average_rate(rate: float, beta2_power):
    """Weight of the newest term in a bias-corrected running average, (1 − d) / (1 − dᵗ).

    It is Adam's correction (algorithm 1 there): 1 at the first step, 1 − d in the long run.

    Args:
        rate: 1 − d.
        beta2_power: 0.999ᵗ as Adam keeps it.
    """
    log_decay, log_power = math.log1p(-rate), ops.log(beta2_power)
    late = math.log(LATE) / math.log(BETA2) + (log_power - math.log(LATE)) / math.log(LATE_BETA2)
    # dᵗ; not 1 − pow: the difference of two numbers near 1 has few digits left in float32.
    log_rest = ops.select(beta2_power <= LATE, late * log_decay, log_power * (log_decay / math.log(BETA2)))
    return -rate / ops.expm1(log_rest)
