"""AWACLearner: one compiled graph that takes K gradient steps a call.

Rows and noise for all K steps come from the host, so a call is a pure function of its inputs and the parameters: the
same inputs give the same networks, which is what makes a resumed run equal to one that never stopped.

On a CPU with a C++ compiler, the K steps run as one operator (`native`); what is written here is then its definition,
which the tests hold it against. `AWACLearner.path` says which of the two runs, and why. Parameters have the same names
on both, so a run may change the path when it resumes; sums are taken in another order, so results differ in the last
digits.
"""

from __future__ import annotations

import re

import mindspore as ms
import numpy as np
from mindspore import ParameterTuple, Tensor, ops

from awac.algorithm import losses, native
from awac.algorithm.mindrl import Learner
from awac.algorithm.optim import Adam, average_rate, polyak, unpack, unpack_noise
from awac.algorithm.policy import assign_array
from awac.errors import CheckpointError

METRICS = ("critic_loss", "actor_loss", "mean_std", "q_mean", "adv_mean", "ess", "reward_mean")
"""What a call returns, each the mean over its K steps."""


class AWACLearner(Learner):
    """Advantage-weighted actor-critic, Nair et al. 2020, algorithm 1.

    Args:
        params: `config` (AlgoConfig), `steps` (K) and the networks of `AWACPolicy` by name.
    """

    def __init__(self, params):
        super().__init__()
        config = params["config"]
        self.config, self.steps = config, params["steps"]
        self.weights = losses.WEIGHTINGS[config.weighting]
        self.actor, self.average_actor = params["actor_net"], params["average_actor_net"]
        self.critic, self.target_critic = params["critic_net"], params["target_critic_net"]
        self.actor_parameters = ParameterTuple(self.actor.trainable_params())
        self.critic_parameters = ParameterTuple(self.critic.trainable_params())
        self.average_parameters = ParameterTuple(self.average_actor.trainable_params())
        self.target_parameters = ParameterTuple(self.target_critic.trainable_params())
        self.actor_adam = Adam(self.actor_parameters, config.actor_lr, "actor_adam", config.actor_weight_decay)
        self.critic_adam = Adam(self.critic_parameters, config.critic_lr, "critic_adam")
        self.average_rate = float(np.float32(1.0 - config.actor_ema))  # in the graph it would lose digits
        self.critic_gradient = ops.value_and_grad(self.critic_loss, None, self.critic_parameters, has_aux=True)
        self.actor_gradient = ops.value_and_grad(self.actor_loss, None, self.actor_parameters, has_aux=True)
        library, self.path = native.choose(config, self.actor, self.critic)
        if library:
            self.state = native.state(self)
            self.settings = native.settings(config, self.actor)
        self.native = native.learn(library, len(METRICS), len(self.state)) if library else None

    def learn(self, experience):
        """Takes K gradient steps.

        Args:
            experience: rows (K, B, W) as `Replay.sample` packs them, and standard normal noise (K, 2, B, A).

        Returns:
            (metrics, bad_step): means over the K steps in the order of `METRICS`, and the first step whose losses are
            not finite (K if there is none).
        """
        metrics, bad_step = self(*(Tensor(x) for x in experience))
        return metrics.asnumpy(), int(bad_step.asnumpy())

    def construct(self, rows, noise):
        if self.native is not None:
            metrics, bad_step = self.native(self.settings, rows, noise, *self.state)
            return metrics, bad_step.reshape(())
        k = ops.scalar_to_tensor(0, ms.int32)
        bad_step = ops.scalar_to_tensor(self.steps, ms.int32)
        total = ops.zeros((len(METRICS),), ms.float32)
        while k < self.steps:
            metrics = self.step(ops.gather(rows, k, 0), ops.gather(noise, k, 0))
            finite = ops.isfinite(metrics.sum())
            bad_step = ops.minimum(bad_step, ops.select(finite, bad_step, k))
            total = total + metrics
            k = k + 1
        return total / self.steps, bad_step

    def step(self, rows, noise):
        """One gradient step on rows (B, W) with noise (2, B, A); returns the metrics of the step.

        Both losses see the critics as they are before the step, as in the authors' code.
        """
        obs, next_obs, action, reward, terminated = unpack(rows, self.actor.obs_size, self.actor.columns)
        noise_next, noise_pi = unpack_noise(noise)
        next_value = self.actor.state_value(self.actor(next_obs), self.target_critic, next_obs, noise_next)
        target = losses.td_target(reward * self.config.reward_scale, terminated, next_value, self.config.gamma)
        (critic_loss, q_data), critic_gradients = self.critic_gradient(obs, action, target)
        (actor_loss, actor_info), actor_gradients = self.actor_gradient(obs, action, noise_pi, q_data)
        self.critic_adam(critic_gradients)
        self.actor_adam(actor_gradients)
        polyak(self.target_parameters, self.critic_parameters, self.config.tau)
        if self.average_rate < 1.0:
            rate = average_rate(self.average_rate, self.actor_adam.beta2_power)
            polyak(self.average_parameters, self.actor_parameters, rate)
        spread, adv_mean, ess = actor_info
        return ops.stack((critic_loss, actor_loss, spread, q_data.mean(), adv_mean, ess, reward.mean()))

    def critic_loss(self, obs, action, target):
        """Eq. (9); also returns Q_i(s, a) (2, B)."""
        q_data = self.critic(obs, action)
        return losses.critic_loss(q_data, target), ops.stop_gradient(q_data)

    def actor_loss(self, obs, action, noise, q_data):
        """Eq. (13); also returns the mean std, the mean advantage and ESS/B."""
        dist = self.actor(obs)
        value = ops.stop_gradient(self.actor.state_value(dist, self.critic, obs, noise))
        adv = losses.advantage(q_data, value)
        weights = self.weights(adv, self.config.lam, self.config.weight_clip)
        loss = losses.actor_loss(self.actor.log_prob(dist, action), weights, self.config.loss_reduction)
        info = (self.actor.spread(dist), adv.mean(), losses.effective_sample_share(weights))
        return loss, ops.stop_gradient(info)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of every network and optimiser moment, under names that are the same on every path."""
        return {_name(p.name): p.asnumpy().copy() for p in self.get_parameters()}

    def load_state_dict(self, arrays: dict[str, np.ndarray]) -> None:
        """The inverse of `state_dict`; takes the names of older versions as well. On an error nothing is changed.

        Raises:
            CheckpointError: an array is missing or has another shape.
        """
        arrays = {_name(name): value for name, value in arrays.items()}
        parameters = list(self.get_parameters())
        for parameter in parameters:
            value = arrays.get(_name(parameter.name))
            if value is None or value.shape != parameter.shape or value.dtype != np.float32:
                shape = "is missing" if value is None else f"has shape {value.shape}, not {parameter.shape}"
                raise CheckpointError(f"it was made for other networks: {_name(parameter.name)} {shape}")
        for parameter in parameters:
            assign_array(parameter, arrays[_name(parameter.name)])

    @property
    def deployed_actor(self):
        """The network that acts, is evaluated and is saved as the policy."""
        return self.average_actor if self.average_rate < 1.0 else self.actor


def _name(name: str) -> str:
    """A parameter's name without the cells around it, which differ between the native operator and the graph."""
    name = re.sub(r"^(?:msrl\.)?(?:learner\.)?", "", name)
    return re.sub(r"^(\w+)\.\1\.", r"\1.", name)
