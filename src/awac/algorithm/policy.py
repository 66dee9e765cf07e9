"""AWACPolicy: the networks of a run, made from its configuration.

`GaussianActor` and `ContinuousCritic` serve Box actions, `CategoricalActor` and `DiscreteCritic` Discrete ones; the
gradient step is the same for both. `NumpyPolicy` is the same policy on numpy.
"""

from __future__ import annotations

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from awac.algorithm.heads import CategoricalHead, GaussianHead, at_action
from awac.algorithm.networks import MLP


class GaussianActor(GaussianHead):
    """Mean and log-std from an MLP.

    The mean is squashed by tanh (`squash_mean`). log σ is one free vector or an output (`state_dependent_std`) and kept
    in (log_std_min, log_std_max) by a sigmoid or a clamp (`log_std_bound`).
    """

    def __init__(self, obs_size: int, action_size: int, config, rng, name: str):
        super().__init__(auto_prefix=False)
        self.obs_size, self.action_size, self.columns, self.noise_size = obs_size, action_size, action_size, action_size
        self.low, self.high, self.squash = config.log_std_min, config.log_std_max, config.squash_mean
        self.clamp_std, self.state_dependent_std = config.log_std_bound == "clamp", config.state_dependent_std
        outputs = 2 * action_size if config.state_dependent_std else action_size
        self.trunk = MLP((obs_size, *config.actor_hidden, outputs), rng, name)
        start = _start_inside(self.low, self.high) if self.clamp_std else 0.0
        if not config.state_dependent_std:
            self.log_std = Parameter(Tensor(np.full((1, action_size), start, np.float32)), name=f"{name}.log_std")
        elif start:
            bias = self.trunk.biases[-1].asnumpy().copy()
            bias[:, action_size:] += np.float32(start)
            assign_array(self.trunk.biases[-1], bias)

    def construct(self, obs):
        """(B, O) → mean (B, A) and log-std (B, A) or (1, A)."""
        out = self.trunk(obs)
        raw, mean = self.log_std if not self.state_dependent_std else None, out
        if self.state_dependent_std:
            shape = out.shape[:1] + (self.action_size,)
            mean, raw = ops.slice(out, (0, 0), shape), ops.slice(out, (0, self.action_size), shape)
        if self.squash:
            mean = ops.tanh(mean)
        if self.clamp_std:
            return mean, ops.clamp(raw, self.low, self.high)
        return mean, self.low + (self.high - self.low) * ops.sigmoid(raw)


def _start_inside(low: float, high: float) -> float:
    """Where a clamped log-std starts: 0, or 1 inside its bounds. At a bound its gradient is 0, so it would stay."""
    margin = min(1.0, (high - low) / 2)
    return min(max(0.0, low + margin), high - margin)


class CategoricalActor(CategoricalHead):
    """π(a|s) = softmax of an MLP's logits."""

    def __init__(self, obs_size: int, action_size: int, config, rng, name: str):
        super().__init__(auto_prefix=False)
        self.obs_size, self.action_size, self.columns, self.noise_size = obs_size, action_size, 1, 1
        self.trunk = MLP((obs_size, *config.actor_hidden, action_size), rng, name)

    def construct(self, obs):
        """(B, O) → log-probabilities (B, A)."""
        return ops.log_softmax(self.trunk(obs), -1)


class ContinuousCritic(nn.Cell):
    """Twin critics Q_i(s, a) run as one batched network."""

    def __init__(self, obs_size: int, action_size: int, config, rng, name: str):
        super().__init__(auto_prefix=False)
        sizes = (obs_size + action_size, *config.critic_hidden, 1)
        self.net = MLP(sizes, rng, name, copies=2, layer_norm=config.critic_layer_norm)

    def construct(self, obs, action):
        """(B, O), (B, A) → (2, B)."""
        return self.net(ops.concat((obs, action), -1)).reshape(2, -1)


class DiscreteCritic(nn.Cell):
    """Twin critics Q_i(s, ·) run as one batched network."""

    def __init__(self, obs_size: int, action_size: int, config, rng, name: str):
        super().__init__(auto_prefix=False)
        self.action_size = action_size
        sizes = (obs_size, *config.critic_hidden, action_size)
        self.net = MLP(sizes, rng, name, copies=2, layer_norm=config.critic_layer_norm)

    def all_actions(self, obs):
        """(B, O) → (2, B, A)."""
        return self.net(obs)

    def construct(self, obs, action):
        """(B, O), (B, 1) indices → (2, B)."""
        return at_action(self.all_actions(obs), action)


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
    return {short_name(p): p.asnumpy().copy() for p in cell.get_parameters()}


def assign_array(parameter: Parameter, value: np.ndarray) -> None:
    """Sets a parameter's value, even if a compiled graph already uses it."""
    # Not set_data: a compiled graph would keep using the old memory, which is freed.
    ops.assign(parameter, Tensor(np.asarray(value, order="C")))


def load_parameter_arrays(cell: nn.Cell, arrays: dict[str, np.ndarray]) -> None:
    """The inverse of `parameter_arrays`.

    Raises:
        KeyError: a parameter is missing.
        ValueError: a shape differs.
    """
    check_parameter_arrays(cell, arrays)
    for parameter in cell.get_parameters():
        assign_array(parameter, arrays[short_name(parameter)])


def check_parameter_arrays(cell: nn.Cell, arrays: dict[str, np.ndarray]) -> None:
    """Checks that arrays fit a network.

    Raises:
        KeyError: a parameter is missing.
        ValueError: a shape differs.
    """
    for parameter in cell.get_parameters():
        shape = arrays[short_name(parameter)].shape
        if shape != parameter.shape:
            raise ValueError(f"{parameter.name} has shape {parameter.shape}, the file holds {shape}")


def short_name(parameter: Parameter) -> str:
    """Its name within its network."""
    name = parameter.name
    return name.rsplit(".", 1)[-1] if name.endswith("log_std") else ".".join(name.rsplit(".", 2)[-2:])
