"""Environments: D4RL's robots on modern MuJoCo, any Gymnasium task, old gym tasks."""

from awac.envs.tasks import D4RLTask, make_env, normalized_score, parse_d4rl_id

__all__ = ["D4RLTask", "make_env", "normalized_score", "parse_d4rl_id"]
