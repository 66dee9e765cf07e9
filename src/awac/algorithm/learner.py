"""AWACLearner: the gradient step in mindspore-rl's structure, and the parameter names of a checkpoint.

A resumed run may switch between the native operator and the graph. They sum in different orders, so results differ in
the last digits.
"""

from __future__ import annotations

import re

import numpy as np
from mindspore import Parameter, Tensor

from awac.algorithm.mindrl import Learner
from awac.algorithm.policy import assign_array, short_name
from awac.algorithm.step import GradientSteps, Updates
from awac.errors import CheckpointError


class AWACLearner(Learner):
    """Advantage-weighted actor-critic, Nair et al. 2020, algorithm 1.

    Args:
        params: `config` (AlgoConfig) and the networks of `AWACPolicy` by name.
    """

    def __init__(self, params):
        super().__init__()
        self.actor, self.average_actor = params["actor_net"], params["average_actor_net"]
        self.critic, self.target_critic = params["critic_net"], params["target_critic_net"]
        networks = (self.actor, self.average_actor, self.critic, self.target_critic)
        self.updates = Updates(params["config"], *(net.trainable_params() for net in networks))
        self.steps = GradientSteps(params["config"], self.actor, self.critic, self.target_critic, self.updates)
        self.path = self.steps.path

    def learn(self, experience):
        """Takes K gradient steps.

        Args:
            experience: rows (K, B, W) as `Replay.sample` packs them, and standard normal noise (K, 2, B, A); this rank
                uses its share of both.

        Returns:
            (metrics, bad_step) of `GradientSteps`, as numpy and int.
        """
        rows, noise = experience
        ranks = self.updates.ranks
        metrics, bad_step = self(Tensor(ranks.share(rows, 1)), Tensor(ranks.share(noise, 2)))
        return metrics.asnumpy(), int(bad_step.asnumpy())

    def construct(self, rows, noise):
        return self.steps(rows, noise)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of every network and optimiser moment, under names that are the same on every path."""
        return {name: parameter.asnumpy().copy() for name, parameter in self._named_parameters().items()}

    def load_state_dict(self, arrays: dict[str, np.ndarray]) -> None:
        """The inverse of `state_dict`; takes the names of older versions as well. On an error nothing is changed.

        Raises:
            CheckpointError: an array is missing or has another shape.
        """
        arrays = {_without_cells(name): value for name, value in arrays.items()}
        named = self._named_parameters()
        for name, parameter in named.items():
            value = arrays.get(name)
            if value is None or value.shape != parameter.shape or value.dtype != np.float32:
                shape = "is missing" if value is None else f"has shape {value.shape}, not {parameter.shape}"
                raise CheckpointError(f"it was made for other networks: {name} {shape}")
        for name, parameter in named.items():
            assign_array(parameter, arrays[name])

    def restart_average(self) -> None:
        """Begins the running average at the policy as it is."""
        for slow, fast in zip(self.average_actor.get_parameters(), self.actor.get_parameters(), strict=True):
            assign_array(slow, fast.asnumpy())

    def adopt_average(self) -> None:
        """Takes the running average for the policy itself."""
        for slow, fast in zip(self.average_actor.get_parameters(), self.actor.get_parameters(), strict=True):
            assign_array(fast, slow.asnumpy())

    def _named_parameters(self) -> dict[str, Parameter]:
        """Every parameter by network and position; MindSpore's own names depend on the enclosing cells."""
        nets = {"policy": self.actor, "average_policy": self.average_actor, "value": self.critic}
        nets["target_value"] = self.target_critic
        named = {f"{prefix}.{short_name(p)}": p for prefix, net in nets.items() for p in net.get_parameters()}
        for name, adam in (("actor_adam", self.updates.actor_adam), ("critic_adam", self.updates.critic_adam)):
            named |= {f"{name}.m.{i}": p for i, p in enumerate(adam.m)}
            named |= {f"{name}.v.{i}": p for i, p in enumerate(adam.v)}
            named |= {f"{name}.beta1_power": adam.beta1_power, f"{name}.beta2_power": adam.beta2_power}
        return named

    @property
    def deployed_actor(self):
        """The network that acts, is evaluated and is saved as the policy."""
        return self.average_actor if self.updates.averages else self.actor


def _without_cells(name: str) -> str:
    """A name stored by an older version, without the enclosing cells."""
    name = re.sub(r"^(?:msrl\.)?(?:learner\.)?", "", name)
    return re.sub(r"^(\w+)\.\1\.", r"\1.", name)
