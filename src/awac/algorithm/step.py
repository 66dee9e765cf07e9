"""The gradient step of AWAC (Nair et al. 2020, algorithm 1), used by `AWACLearner` and the class `AWAC`.

`Updates` holds everything that a step changes: weights, optimisers, targets, running average. `GradientSteps` computes
the losses and applies their gradients, K steps per call. On a CPU with a C++ compiler the K steps run as one operator
(`native`); this module is then the reference that the tests compare it with.
"""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
from mindspore import ParameterTuple, nn, ops

from awac.algorithm import losses, native
from awac.algorithm.optim import Adam, average_rate, polyak
from awac.algorithm.ranks import Ranks

METRICS = ("critic_loss", "actor_loss", "mean_std", "q_mean", "adv_mean", "ess", "reward_mean")
"""Metrics of a call, each the mean over its K steps."""


class Updates(nn.Cell):
    """Weights with their optimisers, target critics and running average.

    Args:
        config: AlgoConfig.
        actor, average: parameters of the policy and of its running average; `average` is not read if `actor_ema` is 0.
        critic, target: parameters of the critics and of their targets.
    """

    def __init__(self, config, actor, average, critic, target):
        super().__init__(auto_prefix=False)
        self.actor, self.average = ParameterTuple(actor), ParameterTuple(average)
        self.critic, self.target = ParameterTuple(critic), ParameterTuple(target)
        self.actor_adam = Adam(self.actor, config.actor_lr, "actor_adam", config.actor_weight_decay)
        self.critic_adam = Adam(self.critic, config.critic_lr, "critic_adam")
        self.ranks = Ranks()
        self.tau = config.tau
        self.average_rate = float(np.float32(1.0 - config.actor_ema))  # computed in the graph it would lose digits

    @property
    def averages(self) -> bool:
        """Whether there is a running average."""
        return self.average_rate < 1.0

    def step_critic(self, gradients):
        """The critics' step, then their targets'."""
        self.critic_adam(self.ranks.mean_gradients(gradients))
        return polyak(self.target, self.critic, self.tau)

    def step_actor(self, gradients):
        """The policy's step, then its running average's."""
        self.actor_adam(self.ranks.mean_gradients(gradients))
        if self.average_rate < 1.0:
            rate = average_rate(self.average_rate, self.actor_adam.beta2_power)
            polyak(self.average, self.actor, rate)
        return True


class GradientSteps(nn.Cell):
    """K gradient steps on rows and noise from the host: the same inputs give the same networks.

    Args:
        config: AlgoConfig.
        actor: a head of `heads`: observations to a distribution, with `obs_size` and `columns`.
        critic: (B, O), actions → (C, B); `all_actions` gives (C, B, A) for a categorical policy.
        target_critic: like `critic`.
        updates: their parameters.
        baseline: whether V(s) is subtracted, eq. (12); without it the weights come from min Q itself.

    Attributes:
        path: `native, 2 threads` or `graph, REASON`.
    """

    def __init__(self, config, actor, critic, target_critic, updates: Updates, baseline: bool = True):
        super().__init__(auto_prefix=False)
        self.config, self.actor, self.critic, self.target_critic = config, actor, critic, target_critic
        self.updates, self.baseline = updates, baseline
        self.weights = losses.WEIGHTINGS[config.weighting]
        self.weight_clip = None if math.isinf(config.weight_clip) else config.weight_clip
        self.critic_first = config.update_order == "critic_first"
        self.critic_gradient = ops.value_and_grad(self.critic_loss, None, updates.critic, has_aux=True)
        self.actor_gradient = ops.value_and_grad(self.actor_loss, None, updates.actor, has_aux=True)
        self.ranks = updates.ranks
        library, self.path = None, f"graph, {self.ranks.size} workers"
        if self.ranks.size == 1:
            library, self.path = native.choose(config, actor, critic, baseline)
        if library:
            self.state = native.state(updates)
            self.settings = native.settings(config, actor, critic)
        self.native = native.learn(library, len(METRICS), len(self.state)) if library else None

    def construct(self, rows, noise, part="both"):
        """Takes K steps of the `critic`, the `actor` or `both`.

        Args:
            rows: (K, B, W) as `Replay.sample` packs them.
            noise: (K, U, …, A) for π(s′) and for π(s); U = 1 serves for both.
            part: what is trained; metrics of the other part are 0.

        Returns:
            (metrics, bad_step): means over the K steps in the order of `METRICS`, and the first step whose metrics are
            not finite (K if there is none).
        """
        if self.native is not None and part == "both":
            metrics, bad_step = self.native(self.settings, rows, noise, *self.state)
            return metrics, bad_step.reshape(())
        steps = rows.shape[0]
        k = ops.scalar_to_tensor(0, ms.int32)
        bad_step = ops.scalar_to_tensor(steps, ms.int32)
        total = ops.zeros((len(METRICS),), ms.float32)
        while k < steps:
            metrics = self.step(ops.gather(rows, k, 0), ops.gather(noise, k, 0), part)
            finite = ops.isfinite(metrics.sum())
            bad_step = ops.minimum(bad_step, ops.select(finite, bad_step, k))
            total = total + metrics
            k = k + 1
        return total / steps, bad_step

    def step(self, rows, noise, part):
        """One step on rows (B, W); returns its metrics.

        With `update_order=together` both losses use the critics from before the step, as in the authors' code; with
        `critic_first` the policy's loss uses the updated ones.
        """
        obs, next_obs, action, reward, terminated = unpack(rows, self.actor.obs_size, self.actor.columns)
        noise_next, noise_pi = unpack_noise(noise)
        zero = ops.scalar_to_tensor(0.0)
        together = part == "both" and not self.critic_first
        critic_loss, actor_loss, q_mean, info, q_data, critic_gradients = zero, zero, zero, (zero, zero, zero), zero, ()
        lam = self.config.lam
        if part != "actor":
            next_value = self.actor.state_value(self.actor(next_obs), self.target_critic, next_obs, noise_next)
            target = losses.td_target(reward * self.config.reward_scale, terminated, next_value, self.config.gamma)
            (critic_loss, q_data), critic_gradients = self.critic_gradient(obs, action, target)
            q_mean = q_data.mean()
            if self.config.lam_unit == "td_error":
                lam = lam * self.ranks.root_mean_square(losses.td_error(q_data, target))
            if not together:
                self.updates.step_critic(critic_gradients)
        if part != "critic":
            if not together:
                q_data = self.critic(obs, action)
            (actor_loss, info), actor_gradients = self.actor_gradient(obs, action, noise_pi, q_data, lam)
            self.updates.step_actor(actor_gradients)
        if together:
            self.updates.step_critic(critic_gradients)
        mean_std, adv_mean, ess = info
        metrics = ops.stack((critic_loss, actor_loss, mean_std, q_mean, adv_mean, ess, reward.mean()))
        return self.ranks.mean(metrics)

    def critic_loss(self, obs, action, target):
        """Eq. (9); also returns Q_i(s, a) (C, B)."""
        q_data = self.critic(obs, action)
        return losses.critic_loss(q_data, target), ops.stop_gradient(q_data)

    def actor_loss(self, obs, action, noise, q_data, lam):
        """Eq. (13); also returns the mean std, the mean advantage and ESS/B."""
        dist = self.actor(obs)
        value = self.actor.baseline(dist, self.critic, obs, noise) if self.baseline else 0.0
        adv = self.ranks.gather(losses.advantage(q_data, value))
        weights = ops.maximum(self.weights(adv, lam, self.weight_clip), self.config.weight_floor)
        log_prob = self.actor.log_prob(dist, action)
        loss = losses.actor_loss(log_prob, self.ranks.own(weights), self.config.loss_reduction)
        if self.config.loss_reduction == "sum":
            loss = loss * self.ranks.size  # gradients are averaged over the ranks
        info = (self.actor.mean_std(dist), adv.mean(), losses.effective_sample_share(weights))
        return loss, ops.stop_gradient(info)


def unpack(rows, size, columns):
    """Rows (B, W) of `Replay` → obs and next_obs (B, size), action (B, columns), reward and terminated (B,)."""
    batch = rows.shape[0]
    obs = ops.slice(rows, (0, 0), (batch, size))
    next_obs = ops.slice(rows, (0, size), (batch, size))
    action = ops.slice(rows, (0, 2 * size), (batch, columns))
    reward = ops.slice(rows, (0, 2 * size + columns), (batch, 1)).reshape(-1)
    terminated = ops.slice(rows, (0, 2 * size + columns + 1), (batch, 1)).reshape(-1)
    return obs, next_obs, action, reward, terminated


def unpack_noise(noise):
    """Noise (2, …) → noise for π(s′) and for π(s), each (…); (1, …) serves for both."""
    shape = noise.shape[1:]
    start, rest = (0,) * len(shape), (1, *shape)
    second = ops.slice(noise, (noise.shape[0] - 1, *start), rest)
    return ops.slice(noise, (0, *start), rest).reshape(shape), second.reshape(shape)
