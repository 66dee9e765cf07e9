"""d3rlpy's own AWAC, with the TD target of the paper.

`AWACImpl` inherits SAC's target: an action of a squashed Gaussian, and its log-probability subtracted at temperature 1.
That is neither the paper's nor this package's; everything else runs as d3rlpy has it.
"""

from __future__ import annotations

import libraries
import numpy as np
import torch
from d3rlpy.algos import AWACConfig
from d3rlpy.models import VectorEncoderFactory
from d3rlpy.models.torch import build_gaussian_distribution
from d3rlpy.optimizers import AdamFactory
from d3rlpy.torch_utility import TorchMiniBatch
from torch import nn
from worker import epsilon, serve

COLUMNS = ("obs", "next_obs", "action", "reward", "terminated")


class D3rlpy:
    """One `inner_update` an update; the replay is a set of tensors, indexed by random integers."""

    def __init__(self, settings, weights, rows):
        self.s, self.weights = settings, weights
        self.data = [torch.from_numpy(rows[key]) for key in COLUMNS]
        self.reset()

    def reset(self):
        s = self.s
        config = AWACConfig(
            actor_learning_rate=s["actor_lr"], critic_learning_rate=s["critic_lr"], batch_size=s["batch_size"],
            actor_optim_factory=AdamFactory(weight_decay=s["actor_weight_decay"]), gamma=s["gamma"], tau=s["tau"],
            actor_encoder_factory=VectorEncoderFactory(list(s["actor_hidden"])), lam=s["lam"],
            critic_encoder_factory=VectorEncoderFactory(list(s["critic_hidden"])),
        )  # fmt: skip
        algorithm = config.create()
        algorithm.create_impl((s["obs_size"],), s["action_size"])
        self.impl = algorithm.impl
        self.impl.compute_target = self.target
        modules = self.impl.modules
        self.nets = {"policy": [modules.policy], "value": list(modules.q_funcs), "target": list(modules.targ_q_funcs)}
        with torch.no_grad():
            for name, nets in self.nets.items():
                for twin, net in enumerate(nets):
                    for i, layer in enumerate(linear(net)):
                        prefix = f"{'policy' if name == 'policy' else 'value'}.{i}"
                        weight, bias = (self.weights[f"{prefix}.{part}"] for part in ("weight", "bias"))
                        weight, bias = (weight, bias) if name == "policy" else (weight[twin], bias[twin])
                        layer.weight.copy_(torch.from_numpy(weight.T.copy()))
                        layer.bias.copy_(torch.from_numpy(bias[0].copy()))
            modules.policy.state_dict(keep_vars=True)["_logstd"].copy_(torch.from_numpy(self.weights["policy.log_std"]))

    def target(self, batch):
        with torch.no_grad():
            action = build_gaussian_distribution(self.impl.modules.policy(batch.next_observations)).sample()
            return self.impl._targ_q_func_forwarder.compute_target(batch.next_observations, action, reduction="min")

    def update(self, obs, next_obs, action, reward, terminated):
        count = torch.ones(len(obs), 1)
        batch = TorchMiniBatch(
            observations=obs, actions=action, rewards=reward[:, None], next_observations=next_obs, next_actions=action,
            returns_to_go=count, terminals=terminated[:, None], intervals=count, device="cpu",
        )  # fmt: skip
        metrics = self.impl.inner_update(batch, 0)
        return metrics["critic_loss"], metrics["actor_loss"]

    def check(self, batches, noise):
        self.reset()
        history, drawn = [], iter(torch.from_numpy(noise).reshape(-1, *noise.shape[2:]))
        honest = torch.distributions.normal._standard_normal
        torch.distributions.normal._standard_normal = lambda shape, *_, **__: next(drawn).reshape(shape)
        for k in range(len(noise)):
            for optimizer in (self.impl.policy_optim, self.impl.q_function_optim):
                optimizer.param_groups[0]["eps"] = epsilon(k + 1)
            history.append(self.update(*(torch.from_numpy(batches[key][k]) for key in COLUMNS)))
        torch.distributions.normal._standard_normal = honest
        found = dict(zip(("critic_loss", "actor_loss"), np.mean(history, axis=0), strict=True))
        for name, nets in self.nets.items():
            for i, layers in enumerate(zip(*map(linear, nets), strict=True)):
                weights = [layer.weight.detach().numpy().T for layer in layers]
                biases = [layer.bias.detach().numpy()[None] for layer in layers]
                both = {"weight": weights, "bias": biases}.items()
                found |= {f"{name}.{i}.{part}": np.stack(v) if len(v) > 1 else v[0] for part, v in both}
        found["policy.log_std"] = self.impl.modules.policy.state_dict()["_logstd"].numpy().copy()
        self.reset()
        return found

    def run(self):
        indices = np.random.randint(0, len(self.data[0]), size=self.s["batch_size"])
        self.update(*(x[indices] for x in self.data))
        return 1

    def about(self):
        return libraries.torch_isa(), torch.get_num_threads()


def linear(net):
    """The fully connected layers from input to output."""
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear)]


if __name__ == "__main__":
    serve(D3rlpy)
