"""AWAC's gradient step in float64 numpy with gradients by hand, the reference for the compiled learner.

Written from the paper's equations, not from `awac`: plain LayerNorm, plain loops over the twins, Adam from its paper.
"""

from __future__ import annotations

import numpy as np


class Network:
    """A ReLU MLP of weights by name (`0.weight`, `0.bias`, …), with an optional LayerNorm after each hidden layer."""

    def __init__(self, weights: dict[str, np.ndarray], layer_norm: bool = False):
        self.weights = {name: np.asarray(value, np.float64) for name, value in weights.items()}
        self.depth = sum(name.endswith(".weight") for name in weights)
        self.layer_norm = layer_norm

    def forward(self, x: np.ndarray):
        """(B, in) → (B, out), and what `backward` needs."""
        cache = []
        for i in range(self.depth):
            entry = {"x": x}
            x = x @ self.weights[f"{i}.weight"] + self.weights[f"{i}.bias"]
            if i < self.depth - 1:
                if self.layer_norm:
                    entry["std"] = np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
                    x = entry["z"] = (x - x.mean(axis=1, keepdims=True)) / entry["std"]
                entry["active"] = x > 0
                x = np.maximum(x, 0)
            cache.append(entry)
        return x, cache

    def backward(self, gradient: np.ndarray, cache: list) -> dict[str, np.ndarray]:
        """Gradients of the weights from the gradient of the output."""
        found = {}
        for i in reversed(range(self.depth)):
            entry = cache[i]
            if i < self.depth - 1:
                gradient = gradient * entry["active"]
                if self.layer_norm:
                    z, mean = entry["z"], gradient.mean(axis=1, keepdims=True)
                    along = (gradient * z).mean(axis=1, keepdims=True)
                    gradient = (gradient - mean - z * along) / entry["std"]
            found[f"{i}.weight"] = entry["x"].T @ gradient
            found[f"{i}.bias"] = gradient.sum(axis=0, keepdims=True)
            gradient = gradient @ self.weights[f"{i}.weight"].T
        return found


class Adam:
    """Kingma & Ba 2015, in the form of the end of their section 2, with L2 decay added to the gradient."""

    def __init__(self, learning_rate: float, decay: float = 0.0):
        self.learning_rate, self.decay, self.t, self.m, self.v = learning_rate, decay, 0, {}, {}

    def __call__(self, weights: dict[str, np.ndarray], gradients: dict[str, np.ndarray]) -> None:
        self.t += 1
        rate = self.learning_rate * np.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
        for name, gradient in gradients.items():
            gradient = gradient.reshape(weights[name].shape) + self.decay * weights[name]
            self.m[name] = 0.9 * self.m.get(name, 0) + 0.1 * gradient
            self.v[name] = 0.999 * self.v.get(name, 0) + 0.001 * gradient**2
            weights[name] = weights[name] - rate * self.m[name] / (np.sqrt(self.v[name]) + 1e-8)


class Reference:
    """Policy, twins and targets; `step` takes one gradient step.

    Args:
        config: AlgoConfig.
        actor: the policy's weights by short name.
        critics: the twins' weights by short name, both along a leading axis.
        discrete: whether the actions are indices.
    """

    def __init__(self, config, actor: dict, critics: dict, discrete: bool):
        self.config, self.discrete = config, discrete
        self.actor = Network(actor)
        self.average, self.steps = dict(self.actor.weights), 0
        norm = config.critic_layer_norm
        self.critics = [Network({k: v[i] for k, v in critics.items()}, norm) for i in range(2)]
        self.targets = [Network({k: v[i] for k, v in critics.items()}, norm) for i in range(2)]
        self.actor_adam = Adam(config.actor_lr, config.actor_weight_decay)
        self.critic_adams = [Adam(config.critic_lr) for _ in range(2)]

    def value(self, nets, obs, noise):
        """(B,) min over the twins of Q(s, a), a drawn from the policy; the exact mean of it for discrete actions."""
        if self.discrete:
            lower = np.minimum(*(net.forward(obs)[0] for net in nets))
            return (np.exp(self.log_softmax(obs)) * lower).sum(axis=1)
        mean, log_std, _ = self.gaussian(obs)
        action = np.clip(mean + np.exp(log_std) * noise, -1, 1)
        return np.minimum(*(net.forward(np.hstack([obs, action]))[0][:, 0] for net in nets))

    def log_softmax(self, obs):
        logits = self.actor.forward(obs)[0]
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def gaussian(self, obs):
        """Mean, log-std and the network's cache."""
        out, cache = self.actor.forward(obs)
        size = out.shape[1] // 2 if self.config.state_dependent_std else out.shape[1]
        raw = self.raw_std(out)
        low, high = self.config.log_std_min, self.config.log_std_max
        mean = np.tanh(out[:, :size]) if self.config.squash_mean else out[:, :size]
        if self.config.log_std_bound == "clamp":
            return mean, np.clip(raw, low, high), cache
        return mean, low + (high - low) / (1 + np.exp(-raw)), cache

    def raw_std(self, out):
        """The log-std before its bounds."""
        return out[:, out.shape[1] // 2 :] if self.config.state_dependent_std else self.actor.weights["log_std"]

    def step(self, obs, next_obs, action, reward, terminated, noise) -> dict[str, float]:
        """One gradient step; returns the metrics of the step."""
        config, batch = self.config, len(obs)
        target = reward * config.reward_scale
        target = target + config.gamma * (1 - terminated) * self.value(self.targets, next_obs, noise[0])
        inputs = obs if self.discrete else np.hstack([obs, action])
        column = action[:, 0].astype(int) if self.discrete else np.zeros(batch, int)
        q_data, critic_loss, critic_gradients = [], 0.0, []
        for net in self.critics:
            out, cache = net.forward(inputs)
            q = out[np.arange(batch), column]
            by_out = np.zeros_like(out)
            by_out[np.arange(batch), column] = 2 * (q - target) / batch
            q_data.append(q)
            critic_loss += ((q - target) ** 2).mean()
            critic_gradients.append(net.backward(by_out, cache))
        if config.update_order == "critic_first":
            self.step_critics(critic_gradients)
        q_pi = [net.forward(inputs)[0][np.arange(batch), column] for net in self.critics]
        adv = np.minimum(*q_pi) - self.value(self.critics, obs, noise[1])
        lam = config.lam * (np.sqrt(critic_loss / 2) if config.lam_unit == "td_error" else 1)
        if config.weighting == "softmax":
            weights = np.exp((adv - adv.max()) / lam)
            weights *= batch / weights.sum()
        elif config.weighting == "uniform":
            weights = np.ones(batch)
        else:
            weights = np.minimum(np.exp(adv / lam), config.weight_clip)
        weights = np.maximum(weights, config.weight_floor)
        log_prob, std, backward = self.actor_terms(obs, action)
        share = weights / (batch if config.loss_reduction == "mean" else 1)
        actor_loss, actor_gradients = -(log_prob * share).sum(), backward(-share)
        if config.update_order == "together":
            self.step_critics(critic_gradients)
        self.actor_adam(self.actor.weights, actor_gradients)
        self.steps += 1
        rate = (1 - config.actor_ema) / (1 - config.actor_ema**self.steps)
        self.average = {k: (1 - rate) * v + rate * self.actor.weights[k] for k, v in self.average.items()}
        return {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "mean_std": std,
            "q_mean": np.mean(q_data),
            "adv_mean": adv.mean(),
            "ess": weights.sum() ** 2 / (batch * (weights**2).sum()),
            "reward_mean": reward.mean(),
        }

    def step_critics(self, gradients) -> None:
        """Adam on both critics, then their targets."""
        tau = self.config.tau
        for net, slow, adam, by_net in zip(self.critics, self.targets, self.critic_adams, gradients, strict=True):
            adam(net.weights, by_net)
            slow.weights = {k: (1 - tau) * v + tau * net.weights[k] for k, v in slow.weights.items()}

    def actor_terms(self, obs, action):
        """log π(a|s) (B,), mean std, and a function from the gradient of the former to the weights' gradients."""
        if self.discrete:
            _, cache = self.actor.forward(obs)
            log_probs = self.log_softmax(obs)
            taken = np.eye(log_probs.shape[1])[action[:, 0].astype(int)]
            probs = np.exp(log_probs)
            std = np.sqrt((probs * (1 - probs)).sum(axis=1)).mean()
            return (
                (log_probs * taken).sum(axis=1),
                std,
                lambda g: self.actor.backward(g[:, None] * (taken - probs), cache),
            )
        mean, log_std, cache = self.gaussian(obs)
        raw = self.raw_std(self.actor.forward(obs)[0])
        std = np.exp(log_std) * np.ones_like(mean)
        z = (action - mean) / std
        log_prob = (-(z**2) / 2 - np.log(std) - np.log(2 * np.pi) / 2).sum(axis=1)
        low, high = self.config.log_std_min, self.config.log_std_max

        def backward(gradient):
            by_mean = gradient[:, None] * z / std * (1 - mean**2 if self.config.squash_mean else 1)
            sigmoid = (np.log(std) - low) / (high - low)
            slope = (high - low) * sigmoid * (1 - sigmoid)
            if self.config.log_std_bound == "clamp":
                slope = (raw >= low) & (raw <= high)
            by_raw = gradient[:, None] * (z**2 - 1) * slope
            if self.config.state_dependent_std:
                return self.actor.backward(np.hstack([by_mean, by_raw]), cache)
            return {**self.actor.backward(by_mean, cache), "log_std": by_raw.sum(axis=0, keepdims=True)}

        return log_prob, std.mean(), backward
