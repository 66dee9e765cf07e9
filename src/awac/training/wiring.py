"""The classes of a run as mindspore-rl's `MSRL` takes them.

Not part of `awac.config`, which is plain values and imports none of these classes.
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
        # mindspore-rl refuses a config without this key and builds what it says. Evaluations run in environments of the
        # Evaluator's, several at once, so this is a second wrapper around the one above, which costs nothing.
        "eval_environment": environment,
    }
