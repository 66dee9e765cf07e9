"""Environments: D4RL's robots on modern MuJoCo, any Gymnasium task, old gym tasks.

Importing this package registers D4RL's tasks with Gymnasium: `gymnasium.make("awac/ant-expert-v2")`.
"""

from awac.envs.actions import environment_action_space, to_environment, to_policy
from awac.envs.make import make_env, notes, register_tasks
from awac.envs.tasks import Task, normalized_score

__all__ = [
    "Task",
    "environment_action_space",
    "make_env",
    "normalized_score",
    "notes",
    "to_environment",
    "to_policy",
]

register_tasks()
