"""MindSpore-RL's own AWAC learner with its own replay buffer, both in one graph, as its trainer runs them.

Changed is only what stops it on MindSpore 2.7.0: its module is loaded without its trainer, which needs d4rl; its two
Adams get names of their own; the Gaussian's log-density is written out, since `msd.Normal` fails under `jit`.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import types
from pathlib import Path

import libraries
import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from worker import serve

import awac.algorithm.mindrl  # noqa: F401 - skips the countdown at mindspore-rl's import
from awac.algorithm.policy import assign_array
from awac.training.session import select_device

STEPS = 50
FIELDS = ("obs", "action", "reward", "next_obs", "terminated")


class Normal(nn.Cell):
    """What `msd.Normal().log_prob` computes."""

    def log_prob(self, value, mean, std):
        z = (value - mean) / std
        return -0.5 * z * z - ops.log(std) - 0.5 * math.log(2 * math.pi)


class Loop(nn.Cell):
    """The offline phase of its trainer's `train_one_episode`."""

    def __init__(self, learner, buffer):
        super().__init__()
        self.learner, self.buffer = learner, buffer

    def construct(self):
        step = ops.scalar_to_tensor(0, ms.int32)
        total = ops.zeros((), ms.float32)
        while step < STEPS:
            critic_loss, actor_loss, _ = self.learner.learn(self.buffer.sample())
            total = total + critic_loss + actor_loss
            step = step + 1
        return total


class Target(nn.Cell):
    """The first of the four calls of its `learn`."""

    def __init__(self, loss_net):
        super().__init__()
        self.loss_net = loss_net

    def construct(self, next_obs, reward, terminated):
        return self.loss_net.compute_target(next_obs, reward, terminated)


class MindSporeRL:
    """One graph of 50 steps."""

    def __init__(self, settings, weights, rows):
        from mindspore_rl.core.uniform_replay_buffer import UniformReplayBuffer

        select_device("CPU")
        self.s, self.weights = settings, weights
        columns = [np.atleast_2d(rows[name].T).T.astype(np.float32) for name in FIELDS]
        shapes = [x.shape[1:] for x in columns]
        buffer = UniformReplayBuffer(settings["batch_size"], len(columns[0]), shapes, [ms.float32] * len(columns))
        for parameter, x in zip(buffer.buffer, columns, strict=True):
            assign_array(parameter, x)
        assign_array(buffer.count, np.array(len(columns[0]), np.int32))
        self.loop = Loop(self.learner(self.module()), buffer)

    @staticmethod
    def module():
        """Its awac.py, loaded anew."""
        path = Path(importlib.util.find_spec("mindspore_rl").origin).parent / "algorithm" / "awac" / "awac.py"
        name = f"its_awac_{len(sys.modules)}"
        spec = importlib.util.spec_from_file_location(name, path)
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def learner(self, module):
        s = self.s
        nets = module.AWACPolicyAndNetwork(
            {"state_space_dim": s["obs_size"], "action_space_dim": s["action_size"],
             "hidden_sizes": list(s["actor_hidden"]), "conditioned_std": False}
        )  # fmt: skip
        names = ("critic_net1", "critic_net2", "target_critic_net1", "target_critic_net2")
        for i, name in enumerate(names):
            self.load(getattr(nets, name), "value", i % 2)
        self.load(nets.actor_net, "policy", None)
        params = {"gamma": s["gamma"], "critic_lr": s["critic_lr"], "actor_lr": s["actor_lr"],
                  "update_factor": s["tau"], "actor_net": nets.actor_net}  # fmt: skip
        learner = module.AWACLearner({**params, **{name: getattr(nets, name) for name in names}})
        for name in ("critic", "actor"):
            getattr(learner, f"{name}_train").optimizer.update_parameters_name(f"{name}_adam.")
            getattr(learner, f"{name}_loss_net").dist = Normal()
        self.nets = nets
        return learner

    def layers(self, net):
        return [cell for cell in [*net.model, net.last_fc] if isinstance(cell, nn.Dense)]

    def load(self, net, name, pick):
        for i, layer in enumerate(self.layers(net)):
            weight, bias = (self.weights[f"{name}.{i}.{part}"] for part in ("weight", "bias"))
            weight, bias = (weight, bias) if pick is None else (weight[pick], bias[pick])
            assign_array(layer.weight, weight.T)
            assign_array(layer.bias, bias[0])

    def check(self, batches, noise):
        """The noise is 0, whatever is given."""
        module = self.module()
        module.ops = types.ModuleType("ops")
        vars(module.ops).update(vars(ops), standard_normal=no_noise)
        learner, history = self.learner(module), []
        find_target = Target(learner.critic_loss_net)
        for k in range(len(noise)):
            obs, action, reward, next_obs, terminated = (
                Tensor(np.atleast_2d(batches[name][k].T).T.copy()) for name in FIELDS
            )
            # Its `learn` trains the critics first; here the actor goes first, as in the workloads of the others.
            target = find_target(next_obs, reward, terminated)
            actor_loss = learner.actor_train(obs, action)
            critic_loss = learner.critic_train(obs, action, target)
            learner.soft_update()
            history.append([critic_loss.asnumpy(), actor_loss.asnumpy()])
        found = dict(zip(("critic_loss", "actor_loss"), np.mean(history, axis=0), strict=True))
        twins = {"value": ("critic_net1", "critic_net2"), "target": ("target_critic_net1", "target_critic_net2")}
        for name, pair in twins.items():
            for i, layers in enumerate(zip(*(self.layers(getattr(self.nets, one)) for one in pair), strict=True)):
                found[f"{name}.{i}.weight"] = np.stack([layer.weight.asnumpy().T for layer in layers])
                found[f"{name}.{i}.bias"] = np.stack([layer.bias.asnumpy()[None] for layer in layers])
        for i, layer in enumerate(self.layers(self.nets.actor_net)):
            found |= {f"policy.{i}.weight": layer.weight.asnumpy().T, f"policy.{i}.bias": layer.bias.asnumpy()[None]}
        found["policy.log_std"] = self.nets.actor_net.action_log_std.asnumpy()
        return found

    def run(self):
        self.loop().asnumpy()
        return STEPS

    def about(self):
        """Of its matrix products; its element-wise kernels take what the processor has, and can't be told otherwise."""
        return libraries.mindspore_isa(), libraries.processors()


def no_noise(shape):
    """In place of `ops.standard_normal`."""
    return ops.zeros(shape, ms.float32)


if __name__ == "__main__":
    serve(MindSporeRL)
