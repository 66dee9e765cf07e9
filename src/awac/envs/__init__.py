"""Environments: D4RL's robots on modern MuJoCo, any Gymnasium task, old gym tasks."""

from awac.envs.actions import environment_action_space, to_environment, to_policy
from awac.envs.tasks import D4RLTask, make_env, normalized_score, parse_d4rl_id

__all__ = [
    "D4RLTask",
    "environment_action_space",
    "make_env",
    "normalized_score",
    "parse_d4rl_id",
    "to_environment",
    "to_policy",
]
