"""Recipes by name: what differs from the defaults, and where it comes from."""

from __future__ import annotations

PRESETS: dict[str, dict] = {
    "ant": {},
    # rlkit, the authors' code (examples/awac). There, states are not normalised; 50,000 offline steps.
    "paper": {
        "actor_hidden": (256, 256, 256, 256),
        "critic_hidden": (256, 256),
        "critic_layer_norm": False,
        "actor_lr": 3e-4,
        "lam": 2.0,
        "actor_ema": 0.0,
        "batch_size": 1024,
        "actor_weight_decay": 1e-4,
    },
    # MindSpore-RL 0.7, example/awac. There, states are not normalised, and target critics don't start as copies.
    "mindrl": {
        "actor_hidden": (256, 256, 256, 256),
        "critic_hidden": (256, 256, 256, 256),
        "critic_layer_norm": False,
        "actor_lr": 3e-4,
        "lam": 2.0,
        "actor_ema": 0.0,
        "batch_size": 1024,
        "actor_weight_decay": 1e-4,
        "loss_reduction": "sum",
        "offline_train_steps": 5000,
    },
    # CORL, algorithms/finetune/awac.py. There, a million offline steps come before the online ones, and the collected
    # action is a sample that is not clipped before the environment clips it.
    "corl": {
        "actor_hidden": (256, 256, 256),
        "critic_hidden": (256, 256, 256),
        "critic_layer_norm": False,
        "actor_lr": 3e-4,
        "lam": 1 / 3,
        "weighting": "exp",
        "weight_clip": 100.0,
        "actor_ema": 0.0,
        "squash_mean": False,
        "log_std_bound": "clamp",
        "log_std_min": -20.0,
        "log_std_max": 2.0,
        "update_order": "critic_first",
    },
    # d3rlpy 2.8, AWACConfig. There, states are not normalised unless asked for.
    "d3rlpy": {
        "actor_hidden": (256, 256, 256, 256),
        "critic_hidden": (256, 256, 256, 256),
        "critic_layer_norm": False,
        "actor_lr": 3e-4,
        "lam": 1.0,
        "actor_ema": 0.0,
        "batch_size": 1024,
        "actor_weight_decay": 1e-4,
        "loss_reduction": "sum",
        "update_order": "critic_first",
    },
    # For data with room to improve. Weights that select, and optimistic collection: an advantage-weighted policy
    # imitates what the memory holds, so better actions have to get in. It falls after the switch before it improves.
    "improve": {
        "actor_hidden": (256, 256),
        "actor_lr": 3e-4,
        "actor_ema": 0.999,
        "state_dependent_std": True,
        "lam": 1 / 3,
        "weighting": "exp",
        "weight_clip": 100.0,
        "offline_share": 0.5,
        "online_candidates": 10,
    },
    "bc": {"weighting": "uniform"},
    "cartpole": {
        "task": "CartPole-v1",
        "actor_hidden": (128, 64),
        "critic_hidden": (128, 128),
        "actor_lr": 3e-4,
        "actor_ema": 0.995,
        "batch_size": 128,
        "tau": 0.02,
        "lam": 0.5,
        "weighting": "exp",
        "weight_clip": 20.0,
        "n_steps_per_episode": 200,
        "offline_share": 0.5,
        "offline_train_steps": 4000,
        "eval_episodes": 20,
    },
}
"""Recipes by name: what differs from the defaults."""
