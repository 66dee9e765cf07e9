"""The dict that mindspore-rl's `MSRL` wires into policy, actor, learner and environment.

It stands here and not in `config.py`: a configuration is plain values and imports nothing of the package above it.
"""

from __future__ import annotations

import gymnasium

from awac.algorithm.learner import AWACLearner
from awac.algorithm.policy import AWACPolicy
from awac.config import Config
from awac.training.actor import AWACActor
from awac.training.environment import GymnasiumEnvironment


def algorithm_config(config: Config, spaces: dict, env: gymnasium.Env) -> dict:
    """The dict that mindspore-rl's `MSRL` wires into policy, actor, learner and environments.

    Args:
        config: the run.
        spaces: `obs_size` (after the normaliser), `action_size` and `discrete` of the task.
        env: the environment to collect in, from `make_env`.
    """
    environment = {
        "number": 1,
        "type": GymnasiumEnvironment,
        "wrappers": [],
        "params": {"GymnasiumEnvironment": {"env": env}},
    }
    return {
        "policy_and_network": {
            "type": AWACPolicy,
            "params": {
                "config": config.algo,
                "seed": config.train.seed,
                "state_space_dim": spaces["obs_size"],
                "action_space_dim": spaces["action_size"],
                "discrete": spaces["discrete"],
            },
        },
        "actor": {"number": 1, "type": AWACActor, "params": {}, "policies": ["actor_net"]},
        "learner": {
            "number": 1,
            "type": AWACLearner,
            "params": {"config": config.algo},
            "networks": ["actor_net", "average_actor_net", "critic_net", "target_critic_net"],
        },
        "collect_environment": environment,
        "eval_environment": dict(environment),
    }
