"""PyTorch as CORL writes AWAC: modules of nn.Sequential, one Adam a network, deep copies as targets.

`--compile` puts both losses under torch.compile.
"""

from __future__ import annotations

import copy
import os
import sys

import libraries
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from worker import epsilon, serve


def mlp(sizes, norm=False):
    """Fully connected ReLU network."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)):
        layers.append(nn.Linear(a, b))
        if i < len(sizes) - 2:
            layers += [nn.LayerNorm(b, elementwise_affine=False)] if norm else []
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class Actor(nn.Module):
    """Gaussian policy, or logits."""

    def __init__(self, s):
        super().__init__()
        self.s = s
        outputs = s["action_size"] * (2 if s["state_dependent_std"] else 1)
        self.net = mlp([s["obs_size"], *s["actor_hidden"], outputs])
        if not s["discrete"] and not s["state_dependent_std"]:
            self.log_std = nn.Parameter(torch.zeros(1, s["action_size"]))

    def forward(self, obs):
        s, out = self.s, self.net(obs)
        if s["discrete"]:
            return functional.log_softmax(out, -1)
        mean, raw = out.chunk(2, -1) if s["state_dependent_std"] else (out, self.log_std)
        low, high = s["log_std_min"], s["log_std_max"]
        log_std = raw.clamp(low, high) if s["log_std_bound"] == "clamp" else low + (high - low) * torch.sigmoid(raw)
        return torch.distributions.Normal(torch.tanh(mean) if s["squash_mean"] else mean, log_std.exp())


class Critic(nn.Module):
    """Q(s, a), or Q(s, ·)."""

    def __init__(self, s):
        super().__init__()
        inputs = s["obs_size"] + (0 if s["discrete"] else s["action_size"])
        outputs = s["action_size"] if s["discrete"] else 1
        self.net = mlp([inputs, *s["critic_hidden"], outputs], s["critic_layer_norm"])

    def forward(self, obs, action=None):
        if action is None:
            return self.net(obs)
        return self.net(torch.cat([obs, action], -1)).squeeze(-1)


class Torch:
    """One step an update; the replay is a set of tensors, indexed by random integers."""

    def __init__(self, settings, weights, rows):
        self.s, self.weights = settings, weights
        self.data = [torch.from_numpy(rows[k]) for k in ("obs", "next_obs", "action", "reward", "terminated")]
        self.reset()
        if "--compile" in sys.argv:
            if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2":
                torch._inductor.config.cpp.march = "haswell"  # its C++ would be compiled for this processor
            self.critic_loss = torch.compile(self.critic_loss)
            self.actor_loss = torch.compile(self.actor_loss)

    def reset(self):
        s = self.s
        self.actor, self.critics = Actor(s), [Critic(s) for _ in range(2)]
        with torch.no_grad():
            for prefix, module, pick in (("policy", self.actor, None), *(("value", c, i) for i, c in
                                                                       enumerate(self.critics))):  # fmt: skip
                linear = [layer for layer in module.net if isinstance(layer, nn.Linear)]
                for i, layer in enumerate(linear):
                    weight, bias = (self.weights[f"{prefix}.{i}.{part}"] for part in ("weight", "bias"))
                    weight, bias = (weight, bias) if pick is None else (weight[pick], bias[pick])
                    layer.weight.copy_(torch.from_numpy(weight.T.copy()))
                    layer.bias.copy_(torch.from_numpy(bias[0].copy()))
        self.targets, self.average = copy.deepcopy(self.critics), copy.deepcopy(self.actor)
        self.steps = 0
        self.actor_optimizer = torch.optim.Adam(
            self.actor.parameters(), lr=s["actor_lr"], weight_decay=s["actor_weight_decay"]
        )
        self.critic_optimizers = [torch.optim.Adam(c.parameters(), lr=s["critic_lr"]) for c in self.critics]

    def value(self, critics, obs, noise):
        dist = self.actor(obs)
        if self.s["discrete"]:
            return (dist.exp() * torch.min(critics[0](obs), critics[1](obs))).sum(-1)
        action = (dist.mean + dist.stddev * noise).clamp(-1.0, 1.0)
        return torch.min(critics[0](obs, action), critics[1](obs, action))

    def q(self, critic, obs, action):
        return critic(obs).gather(1, action.long()).squeeze(1) if self.s["discrete"] else critic(obs, action)

    def critic_loss(self, obs, next_obs, action, reward, terminated, noise):
        with torch.no_grad():
            value = self.value(self.targets, next_obs, noise)
            target = reward * self.s["reward_scale"] + self.s["gamma"] * (1.0 - terminated) * value
        return sum(functional.mse_loss(self.q(critic, obs, action), target) for critic in self.critics)

    def actor_loss(self, obs, action, noise, critic_loss):
        s = self.s
        with torch.no_grad():
            value = self.value(self.critics, obs, noise)
            adv = torch.min(*(self.q(critic, obs, action) for critic in self.critics)) - value
            lam = s["lam"] * (torch.sqrt(critic_loss / 2) if s["lam_unit"] == "td_error" else 1.0)
            if s["weighting"] == "softmax":
                weights = torch.softmax(adv / lam, 0) * len(adv)
            else:
                weights = torch.clamp_max(torch.exp(adv / lam), s["weight_clip"])
            weights = torch.clamp_min(weights, s["weight_floor"])
        dist = self.actor(obs)
        log_prob = dist.gather(1, action.long()).squeeze(1) if s["discrete"] else dist.log_prob(action).sum(-1)
        loss = -log_prob * weights
        return loss.mean() if s["loss_reduction"] == "mean" else loss.sum()

    def update(self, obs, next_obs, action, reward, terminated, noise):
        critic_loss = self.critic_loss(obs, next_obs, action, reward, terminated, noise[0])
        critic_first = self.s["update_order"] == "critic_first"  # as CORL does
        actor_loss = None if critic_first else self.actor_loss(obs, action, noise[1], critic_loss.detach())
        for optimizer in self.critic_optimizers:
            optimizer.zero_grad()
        critic_loss.backward()
        for optimizer in self.critic_optimizers:
            optimizer.step()
        if actor_loss is None:
            actor_loss = self.actor_loss(obs, action, noise[1], critic_loss.detach())
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()
        for target, critic in zip(self.targets, self.critics, strict=True):
            soft_update(target, critic, self.s["tau"])
        self.steps, keep = self.steps + 1, self.s["actor_ema"]
        if keep > 0:
            soft_update(self.average, self.actor, (1.0 - keep) / (1.0 - keep**self.steps))
        return critic_loss.item(), actor_loss.item()

    def check(self, batches, noise):
        self.reset()
        names = ("obs", "next_obs", "action", "reward", "terminated")
        history = []
        for k in range(len(noise)):
            for optimizer in (self.actor_optimizer, *self.critic_optimizers):
                optimizer.param_groups[0]["eps"] = epsilon(k + 1)
            history.append(self.update(*(torch.from_numpy(batches[n][k]) for n in names), torch.from_numpy(noise[k])))
        found = dict(zip(("critic_loss", "actor_loss"), np.mean(history, axis=0), strict=True))
        nets = [("policy", [self.actor]), ("value", self.critics), ("target", self.targets)]
        for name, modules in [*nets, ("average", [self.average])]:
            linear = [[layer for layer in module.net if isinstance(layer, nn.Linear)] for module in modules]
            for i, layers in enumerate(zip(*linear, strict=True)):
                parts = {
                    "weight": [layer.weight.detach().numpy().T for layer in layers],
                    "bias": [layer.bias.detach().numpy()[None] for layer in layers],
                }
                found |= {f"{name}.{i}.{p}": np.stack(v) if len(v) > 1 else v[0] for p, v in parts.items()}
            if hasattr(modules[0], "log_std"):
                found[f"{name}.log_std"] = modules[0].log_std.detach().numpy()
        self.reset()
        return found

    def run(self):
        s = self.s
        indices = np.random.randint(0, len(self.data[0]), size=s["batch_size"])
        batch = [x[indices] for x in self.data]
        self.update(*batch, torch.randn(2, s["batch_size"], s["action_size"]))
        return 1

    def about(self):
        isa = libraries.torch_isa()
        if "--compile" in sys.argv:
            vectors = str(torch._inductor.cpu_vec_isa.pick_vec_isa())
            limited = vectors == "avx2" and torch._inductor.config.cpp.march == "haswell"
            isa["torch.compile"] = "AVX2" if limited else "what the processor has"
        return isa, torch.get_num_threads()


def soft_update(target, source, tau):
    """As in CORL."""
    for t, p in zip(target.parameters(), source.parameters(), strict=True):
        t.data.copy_((1 - tau) * t.data + tau * p.data)


if __name__ == "__main__":
    serve(Torch)
