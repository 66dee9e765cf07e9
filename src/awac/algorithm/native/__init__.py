"""The learner's steps as one operator, compiled at first use from the C++ beside this file.

`choose` decides between it and the graph that MindSpore compiles from step.py, which is the same arithmetic in many
more kernels, and says why. The graph runs where there is no compiler, on another device than the CPU, with
AWAC_NATIVE=0 in the environment, and for what `supports` does not know.
"""

from __future__ import annotations

import dataclasses

import mindspore as ms
from mindspore import ParameterTuple, Tensor, ops
from mindspore.ops import signature

from awac.algorithm.adapters import UserCategorical, UserCritic
from awac.algorithm.heads import CategoricalHead
from awac.algorithm.native.build import VERSION, library
from awac.algorithm.native.cpus import free_children, threads
from awac.algorithm.networks import MLP
from awac.algorithm.policy import CategoricalActor, ContinuousCritic, DiscreteCritic, GaussianActor

free_children()

CELLS = (GaussianActor, CategoricalActor, UserCategorical, ContinuousCritic, DiscreteCritic, UserCritic)
WEIGHTINGS = ("exp", "softmax", "uniform")  # the order is that of `Weighting` in settings.h
KNOWN = {
    "actor_hidden", "critic_hidden", "critic_layer_norm", "state_dependent_std", "log_std_min", "log_std_max",
    "log_std_bound", "squash_mean", "gamma", "tau", "lam", "lam_unit", "weighting", "weight_clip", "weight_floor",
    "update_order", "loss_reduction", "actor_lr", "critic_lr", "actor_weight_decay", "actor_ema", "batch_size",
    "reward_scale",
}  # fmt: skip
"""Settings that the operator knows; any other one has to be at its default."""


def choose(config, actor, critic, baseline: bool) -> tuple[str | None, str]:
    """The compiled library or None, and the path in words: `native, 2 threads` or `graph, no compiler found: g++`."""
    reason = supports(config, actor, critic, baseline)
    path, remark = (None, reason) if reason else library()
    if path is None:
        return None, f"graph, {remark}"
    count = _useful_threads(config)
    return path, f"native, {count} thread{'' if count == 1 else 's'}{remark and f', {remark}'}"


def _useful_threads(config) -> int:
    """More than these find little work: an update has some 27 units, and a batch is cut into blocks of 64 rows."""
    return min(threads(), max(16, -(-config.batch_size // 64)))


def supports(config, actor, critic, baseline: bool = True) -> str | None:
    """None where the operator computes what `GradientSteps.step` does, else the reason in a few words.

    Args:
        config: AlgoConfig.
        actor: a head whose `trunk` is an `MLP`; the operator knows no other.
        critic: twins whose `net` is an `MLP`.
        baseline: whether V(s) is subtracted from Q(s, a).
    """
    if config.weighting not in WEIGHTINGS:
        return f"weighting {config.weighting!r} is not in the native operator"
    for field in dataclasses.fields(config):
        if field.name not in KNOWN and getattr(config, field.name) != field.default:
            return f"{field.name} = {getattr(config, field.name)!r} is not in the native operator"
    if actor.samples not in (None, 1) or (actor.samples and isinstance(actor, CategoricalHead)):
        return f"num_action_samples = {actor.samples} is not in the native operator"
    if not baseline:
        return "weights without a baseline are not in the native operator"
    for cell in (actor, critic):
        if type(cell) not in CELLS:
            return f"the network {type(cell).__name__} is not in the native operator"
    trunk, net = getattr(actor, "trunk", None), getattr(critic, "net", None)
    if type(trunk) is not MLP or type(net) is not MLP or trunk.layer_norm or trunk.copies or net.copies != 2:
        return "networks other than a plain MLP and twin critics as one MLP are not in the native operator"
    if not all(p.requires_grad for cell in (actor, critic) for p in cell.get_parameters()):
        return "layers that are not trained are not in the native operator"
    return None


def state(updates) -> ParameterTuple:
    """Every parameter of `Updates`, in the order that the operator takes them."""
    actor, critic = updates.actor_adam, updates.critic_adam
    powers = [p for adam in (actor, critic) for p in (adam.beta1_power, adam.beta2_power)]
    of_actor = [*updates.actor, *actor.m, *actor.v, *updates.average]
    of_critic = [*updates.critic, *critic.m, *critic.v, *updates.target]
    return ParameterTuple([*powers, *of_actor, *of_critic])


def settings(config, actor, critic) -> Tensor:
    """An AlgoConfig and the networks' sizes, in the order of `Settings` in settings.h."""
    discrete = isinstance(actor, CategoricalHead)
    outputs = actor.trunk.weights[-1].shape[-1]
    by_state, squash, clamp, low, high = (
        (False, False, False, 0.0, 0.0)
        if discrete
        else (actor.state_dependent_std, actor.squash, actor.clamp_std, actor.low, actor.high)
    )
    weighting = WEIGHTINGS.index(config.weighting)
    flags = (discrete, by_state, critic.net.layer_norm, weighting, config.loss_reduction == "sum",
             config.update_order == "critic_first", squash, clamp, config.lam_unit == "td_error")  # fmt: skip
    sizes = (actor.obs_size, outputs if discrete else actor.action_size, actor.trunk.depth, critic.net.depth)
    values = (config.gamma, config.tau, config.lam, config.weight_clip, config.weight_floor, config.reward_scale,
              low, high, config.actor_lr, config.critic_lr, config.actor_weight_decay, 1.0 - config.actor_ema,
              _useful_threads(config))  # fmt: skip
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
