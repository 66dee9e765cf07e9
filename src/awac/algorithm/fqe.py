"""Fitted Q evaluation (Le et al. 2019, arXiv 1903.08738): Q of a fixed policy from recorded rows.

The policy's actions in the next states are columns of the rows, computed once, so one graph serves any policy. Several
policies are evaluated at once, each by its own group of critics. One call is one iteration: the current critics compute
the targets, then K gradient steps are taken towards them.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import ParameterTuple, Tensor, nn, ops

from awac.algorithm import losses
from awac.algorithm.heads import one_hot
from awac.algorithm.networks import MLP
from awac.algorithm.optim import Adam
from awac.algorithm.policy import assign_array


class FittedQ(nn.Cell):
    """C independent critics Q_i(s, a) in one compiled graph, each with its own rows.

    Args:
        obs_size: O, after the normaliser.
        action_size: A, values of an action, or number of discrete ones.
        discrete: whether actions are indices.
        hidden: widths of the hidden layers, which are normalised (LayerNorm).
        copies: C.
        gamma: discount factor γ.
        learning_rate: Adam's.
        bounds: lowest and highest value that a state can have, in the rows' unit; targets are clipped to it.
        start: the value of every state before the first step, in the rows' unit.
        seed: of the initial weights.
        alike: how many of the critics begin with one and the same weights, those at i, i + C / alike,
            i + 2 C / alike, …: what they begin with then cancels in their differences.
    """

    def __init__(
        self, obs_size, action_size, discrete, hidden, *, copies, gamma, learning_rate, bounds, start=0.0, seed=0,
        alike=1,
    ):  # fmt: skip
        super().__init__()
        self.obs_size, self.action_size, self.discrete = obs_size, action_size, discrete
        self.columns = 1 if discrete else action_size
        self.gamma, (self.low, self.high) = gamma, bounds
        sizes = (obs_size, *hidden, action_size) if discrete else (obs_size + action_size, *hidden, 1)
        self.net = MLP(sizes, np.random.default_rng(seed), "fqe", copies=copies, layer_norm=True)
        for parameter in self.net.trainable_params():
            assign_array(parameter, np.concatenate([parameter.asnumpy()[: copies // alike]] * alike))
        assign_array(self.net.biases[-1], np.full(self.net.biases[-1].shape, start, np.float32))
        self.parameters = ParameterTuple(self.net.trainable_params())
        self.adam = Adam(self.parameters, learning_rate, "fqe_adam")
        self.gradient = ops.value_and_grad(self.loss, None, self.parameters)

    @property
    def width(self) -> int:
        """W: observation, next observation, action, next action, reward, terminated."""
        return 2 * (self.obs_size + self.columns) + 2

    def fit(self, rows: np.ndarray) -> float:
        """One iteration: K gradient steps on rows (C, K, B, W); returns their mean loss."""
        return float(self(Tensor(rows)).asnumpy())

    def values(self, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        """(C, B) values of (C, B, O) and (C, B, A), or (C, B, 1) indices."""
        return self.q(Tensor(obs), Tensor(action)).asnumpy()

    def construct(self, rows):
        copies, steps, batch, width = rows.shape
        targets = self.target(rows.reshape(copies, steps * batch, width)).reshape(copies, steps, batch)
        k = ops.scalar_to_tensor(0, ms.int32)
        total = ops.scalar_to_tensor(0.0)
        while k < steps:
            total = total + self.step(ops.gather(rows, k, 1), ops.gather(targets, k, 1))
            k = k + 1
        return total / steps

    def target(self, rows):
        """(C, B) r + γ·(1 − terminated)·Q(s′, π(s′)) of rows (C, B, W), clipped to the bounds."""
        size, end = self.obs_size, 2 * (self.obs_size + self.columns)
        next_value = self.value(_part(rows, size, size), _part(rows, end - self.columns, self.columns))
        reward, terminated = (ops.squeeze(_part(rows, end + i, 1), -1) for i in range(2))
        return ops.clamp(losses.td_target(reward, terminated, next_value, self.gamma), self.low, self.high)

    def step(self, rows, target):
        """One gradient step on rows (C, B, W) towards targets (C, B); returns the loss."""
        obs, action = _part(rows, 0, self.obs_size), _part(rows, 2 * self.obs_size, self.columns)
        loss, gradients = self.gradient(obs, action, target)
        self.adam(gradients)
        return loss

    def loss(self, obs, action, target):
        """Σ_i mean_B (Q_i(s, a) − y_i)²."""
        return losses.critic_loss(self.value(obs, action), target)

    def value(self, obs, action):
        """(C, B) of (C, B, O) and (C, B, A), or (C, B, 1) indices."""
        if self.discrete:
            return (self.net(obs) * one_hot(ops.squeeze(action, -1), self.action_size)).sum(-1)
        return ops.squeeze(self.net(ops.concat((obs, action), -1)), -1)

    @ms.jit
    def q(self, obs, action):
        """`value`, compiled."""
        return self.value(obs, action)


def _part(rows, start: int, width: int):
    """(C, B, width) columns of (C, B, W)."""
    return ops.slice(rows, (0, 0, start), (*rows.shape[:2], width))
