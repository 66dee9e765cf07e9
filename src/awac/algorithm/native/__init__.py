"""The learner's steps as one operator, compiled at first use from the C++ beside this file.

`choose` decides between it and the graph that MindSpore compiles from learner.py, which is the same arithmetic in many
more kernels, and says why. The graph runs where there is no compiler, on another device than the CPU, with
AWAC_NATIVE=0 in the environment, and for what `supports` does not know.
"""

from __future__ import annotations

import dataclasses

import mindspore as ms
from mindspore import ParameterTuple, Tensor, ops
from mindspore.ops import signature

from awac.algorithm.native.build import VERSION, library
from awac.algorithm.native.cpus import threads
from awac.algorithm.networks import MLP
from awac.algorithm.policy import CategoricalActor, ContinuousCritic, DiscreteCritic, GaussianActor

WEIGHTINGS = ("softmax", "exp")
KNOWN = {
    "actor_hidden", "critic_hidden", "critic_layer_norm", "state_dependent_std", "log_std_min", "log_std_max", "gamma",
    "tau", "lam", "weighting", "weight_clip", "loss_reduction", "actor_lr", "critic_lr", "actor_weight_decay",
    "actor_ema", "batch_size", "reward_scale",
}  # fmt: skip
"""Settings that the operator knows; any other one has to be at its default."""


def choose(config, actor, critic) -> tuple[str | None, str]:
    """The compiled library or None, and the path in words: `native, 2 threads` or `graph, no compiler found: g++`."""
    reason = supports(config, (actor, critic))
    path, failure = (None, reason) if reason else library()
    if path is None:
        return None, f"graph, {failure}"
    count = threads()
    return path, f"native, {count} thread{'' if count == 1 else 's'}"


def supports(config, networks) -> str | None:
    """None where the operator computes what `AWACLearner.step` does, else the reason in a few words.

    Args:
        config: AlgoConfig.
        networks: policy and critics.
    """
    if config.weighting not in WEIGHTINGS:
        return f"weighting {config.weighting!r} is not in the native operator"
    for field in dataclasses.fields(config):
        if field.name not in KNOWN and getattr(config, field.name) != field.default:
            return f"{field.name} = {getattr(config, field.name)!r} is not in the native operator"
    actor, critic = networks
    for net in networks:
        if type(net) not in (GaussianActor, CategoricalActor, ContinuousCritic, DiscreteCritic):
            return f"the network {type(net).__name__} is not in the native operator"
    if type(actor.trunk) is not MLP or type(critic.net) is not MLP or actor.trunk.layer_norm:
        return "networks other than plain MLPs are not in the native operator"
    return None


def state(learner) -> ParameterTuple:
    """Every parameter of an AWACLearner, in the order that the operator takes them."""
    actor, critic = learner.actor_adam, learner.critic_adam
    powers = [p for adam in (actor, critic) for p in (adam.beta1_power, adam.beta2_power)]
    of_actor = [*learner.actor_parameters, *actor.m, *actor.v, *learner.average_parameters]
    of_critic = [*learner.critic_parameters, *critic.m, *critic.v, *learner.target_parameters]
    return ParameterTuple([*powers, *of_actor, *of_critic])


def settings(config, actor) -> Tensor:
    """An AlgoConfig and a policy's sizes, in the order of `Settings` in learner.cc."""
    discrete = isinstance(actor, CategoricalActor)
    flags = (discrete, config.state_dependent_std, config.critic_layer_norm, config.weighting == "softmax",
             config.loss_reduction == "sum")  # fmt: skip
    action_size = actor.trunk.weights[-1].shape[-1] if discrete else actor.action_size
    sizes = (actor.obs_size, action_size, len(config.actor_hidden) + 1, len(config.critic_hidden) + 1)
    values = (config.gamma, config.tau, config.lam, config.weight_clip, config.reward_scale, config.log_std_min,
              config.log_std_max, config.actor_lr, config.critic_lr, config.actor_weight_decay,
              1.0 - config.actor_ema, threads())  # fmt: skip
    return Tensor([float(x) for x in (VERSION, *flags, *sizes, *values)], ms.float32)


def learn(path: str, metrics: int, parameters: int):
    """The operator (settings, rows, noise, *state) → (metrics, bad_step), which updates the state in place."""
    operator = ops.Custom(
        f"{path}:Learn", lambda *_: ([metrics], [1]), lambda *_: (ms.float32, ms.int32), func_type="aot"
    )
    # Both say that it writes to its parameters: MindSpore hands over the parameters themselves, not copies.
    operator.add_prim_attr("side_effect_mem", True)
    read, write = signature.sig_rw.RW_READ, signature.sig_rw.RW_WRITE
    kinds = [read] * 3 + [write] * parameters
    operator.set_signatures(tuple(signature.make_sig(f"x{i}", kind) for i, kind in enumerate(kinds)))
    return operator
