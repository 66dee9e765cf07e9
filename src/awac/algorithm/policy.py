"""AWACPolicy: the networks, and the only place where std, log-probability, sampling and state value are defined.

`GaussianActor` serves Box actions, `CategoricalActor` Discrete ones; both offer the same four methods, so the learner
does not ask which it has. `NumpyPolicy` is the same policy on numpy.
"""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from awac.algorithm import losses
from awac.algorithm.networks import MLP


class GaussianActor(nn.Cell):
    """π(a|s) = N(tanh μ(s), σ²), actions clipped to [−1, 1]; log σ is squashed into (log_std_min, log_std_max)."""

    def __init__(self, obs_size: int, action_size: int, config, rng, name: str):
        super().__init__(auto_prefix=False)
        self.obs_size, self.action_size, self.columns, self.noise_size = obs_size, action_size, action_size, action_size
        self.low, self.high = config.log_std_min, config.log_std_max
        self.state_dependent_std = config.state_dependent_std
        outputs = 2 * action_size if config.state_dependent_std else action_size
        self.trunk = MLP((obs_size, *config.actor_hidden, outputs), rng, name)
        if not config.state_dependent_std:
            self.log_std = Parameter(Tensor(np.zeros((1, action_size), np.float32)), name=f"{name}.log_std")

    def construct(self, obs):
        """(B, O) → mean (B, A) and log-std (B, A) or (1, A)."""
        out = self.trunk(obs)
        raw = (
            ops.slice(out, (0, self.action_size), out.shape[:1] + (self.action_size,))
            if self.state_dependent_std
            else self.log_std
        )
        mean = ops.slice(out, (0, 0), out.shape[:1] + (self.action_size,)) if self.state_dependent_std else out
        return ops.tanh(mean), self.low + (self.high - self.low) * ops.sigmoid(raw)

    def sample(self, dist, noise):
        """Action from standard normal noise (B, A), clipped to the bounds."""
        return gaussian_sample(dist, noise)

    def log_prob(self, dist, action):
        """(B,) log-density of the unclipped Gaussian, as in eq. (13)."""
        return gaussian_log_prob(dist, action)

    def spread(self, dist):
        """Scalar: the mean standard deviation, for the log."""
        return ops.exp(dist[1]).mean()

    def state_value(self, dist, critic, obs, noise):
        """(B,) one-sample estimate of V(s) = E_{a∼π} min_i Q_i(s, a)."""
        return critic(obs, self.sample(dist, noise)).min(axis=0)


class CategoricalActor(nn.Cell):
    """π(a|s) = softmax of the logits; expectations over actions are exact sums."""

    def __init__(self, obs_size: int, action_size: int, config, rng, name: str):
        super().__init__(auto_prefix=False)
        self.obs_size, self.action_size, self.columns, self.noise_size = obs_size, action_size, 1, 1
        self.trunk = MLP((obs_size, *config.actor_hidden, action_size), rng, name)

    def construct(self, obs):
        """(B, O) → log-probabilities (B, A)."""
        return ops.log_softmax(self.trunk(obs), -1)

    def log_prob(self, dist, action):
        """(B,) log-probability of actions (B, 1) given as indices."""
        return at_action(dist, action)

    def spread(self, dist):
        """Scalar: the mean standard deviation of the action's indicator, √Σπ(1−π)."""
        probs = ops.exp(dist)
        return ops.sqrt((probs * (1.0 - probs)).sum(-1)).mean()

    def state_value(self, dist, critic, obs, noise):
        """(B,) V(s) = Σ_a π(a|s) min_i Q_i(s, a), exactly."""
        return losses.expected_value(ops.exp(dist), critic.all_actions(obs).min(axis=0))


class ContinuousCritic(nn.Cell):
    """Twin critics Q_i(s, a) run as one batched network."""

    def __init__(self, obs_size: int, action_size: int, config, rng, name: str):
        super().__init__(auto_prefix=False)
        sizes = (obs_size + action_size, *config.critic_hidden, 1)
        self.net = MLP(sizes, rng, name, copies=2, layer_norm=config.critic_layer_norm)

    def construct(self, obs, action):
        """(B, O), (B, A) → (2, B)."""
        x = ops.expand_dims(ops.concat((obs, action), -1), 0)
        return self.net(ops.tile(x, (2, 1, 1))).reshape(2, -1)


class DiscreteCritic(nn.Cell):
    """Twin critics Q_i(s, ·) run as one batched network."""

    def __init__(self, obs_size: int, action_size: int, config, rng, name: str):
        super().__init__(auto_prefix=False)
        self.action_size = action_size
        sizes = (obs_size, *config.critic_hidden, action_size)
        self.net = MLP(sizes, rng, name, copies=2, layer_norm=config.critic_layer_norm)

    def all_actions(self, obs):
        """(B, O) → (2, B, A)."""
        return self.net(ops.tile(ops.expand_dims(obs, 0), (2, 1, 1)))

    def construct(self, obs, action):
        """(B, O), (B, 1) indices → (2, B)."""
        return at_action(self.all_actions(obs), action)


def gaussian_sample(dist, noise):
    """(…, B, A) actions from a distribution (mean, log-std) and standard normal noise, clipped to the bounds."""
    mean, log_std = dist
    return ops.clamp(mean + ops.exp(log_std) * noise, -1.0, 1.0)


def gaussian_log_prob(dist, action):
    """(B,) log-density of the unclipped Gaussian (mean, log-std)."""
    mean, log_std = dist
    z = (action - mean) * ops.exp(-log_std)
    return (-0.5 * ops.square(z) - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


def one_hot(action, size):
    """Indices of actions (…,) → (…, size) float32."""
    return ops.one_hot(action.astype(ms.int32), size, Tensor(1.0, ms.float32), Tensor(0.0, ms.float32))


def at_action(values, action):
    """(…, B) entries of values (…, B, A) at actions (B, 1) given as indices."""
    return (values * one_hot(action.reshape(-1), values.shape[-1])).sum(-1)


class AWACPolicy:
    """The networks of one run, as mindspore-rl wires them: policy, its running average, critics, target critics.

    Args:
        params: `config` (AlgoConfig), `seed`, `state_space_dim` (O after the normaliser), `action_space_dim` (A) and
            `discrete`. Targets and the average start as exact copies.
    """

    def __init__(self, params):
        config, obs_size, action_size = params["config"], params["state_space_dim"], params["action_space_dim"]
        actor = CategoricalActor if params["discrete"] else GaussianActor
        critic = DiscreteCritic if params["discrete"] else ContinuousCritic
        # The same seed twice makes the copies.
        self.actor_net, self.average_actor_net = (
            actor(obs_size, action_size, config, np.random.default_rng([params["seed"], 0]), name)
            for name in ("policy", "average_policy")
        )
        self.critic_net, self.target_critic_net = (
            critic(obs_size, action_size, config, np.random.default_rng([params["seed"], 1]), name)
            for name in ("value", "target_value")
        )


def parameter_arrays(cell: nn.Cell) -> dict[str, np.ndarray]:
    """Copies of a network's parameters under their own short names (`0.weight`, `0.bias`, …, `log_std`)."""
    return {_short(p.name): p.asnumpy().copy() for p in cell.get_parameters()}


def assign_array(parameter: Parameter, value: np.ndarray) -> None:
    """Gives a parameter another value, also where a compiled graph already uses it."""
    # Not set_data: once a graph is compiled, it leaves the graph with memory that is freed.
    ops.assign(parameter, Tensor(np.asarray(value, order="C")))


def load_parameter_arrays(cell: nn.Cell, arrays: dict[str, np.ndarray]) -> None:
    """The inverse of `parameter_arrays`.

    Raises:
        KeyError: a parameter is missing.
        ValueError: a shape differs.
    """
    check_parameter_arrays(cell, arrays)
    for parameter in cell.get_parameters():
        assign_array(parameter, arrays[_short(parameter.name)])


def check_parameter_arrays(cell: nn.Cell, arrays: dict[str, np.ndarray]) -> None:
    """Whether arrays are those of such a network.

    Raises:
        KeyError: a parameter is missing.
        ValueError: a shape differs.
    """
    for parameter in cell.get_parameters():
        shape = arrays[_short(parameter.name)].shape
        if shape != parameter.shape:
            raise ValueError(f"{parameter.name} has shape {parameter.shape}, the file holds {shape}")


def _short(name: str) -> str:
    return name.rsplit(".", 1)[-1] if name.endswith("log_std") else ".".join(name.rsplit(".", 2)[-2:])
