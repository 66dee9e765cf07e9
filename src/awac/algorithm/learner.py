"""AWACLearner: the gradient step in mindspore-rl's structure, with the names that a checkpoint keeps.

Parameters have the same names whether the native operator or the graph runs, so a run may change the path when it
resumes; sums are taken in another order, so results differ in the last digits.
"""

from __future__ import annotations

import re

import numpy as np
from mindspore import Tensor

from awac.algorithm.mindrl import Learner
from awac.algorithm.policy import assign_array
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
            experience: rows (K, B, W) as `Replay.sample` packs them, and standard normal noise (K, 2, B, A).

        Returns:
            (metrics, bad_step) of `GradientSteps`, as numpy and int.
        """
        metrics, bad_step = self(*(Tensor(x) for x in experience))
        return metrics.asnumpy(), int(bad_step.asnumpy())

    def construct(self, rows, noise):
        return self.steps(rows, noise)

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
        return self.average_actor if self.updates.averages else self.actor


def _name(name: str) -> str:
    """A parameter's name without those of the cells around it."""
    return re.sub(
        r"^.*?((?:average_policy|policy|target_value|value|actor_adam|critic_adam)\."
        r"(?:\d+\.\w+|log_std|[mv]\.\d+|beta\d_power))$",
        r"\1",
        name,
    )
