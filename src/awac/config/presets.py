"""Recipes by name: what differs from the defaults, and where it comes from."""

from __future__ import annotations

_PUBLISHED = {
    "critic_layer_norm": False,
    "state_dependent_std": False,
    "lam_unit": "reward",
    "weighting": "softmax",
    "weight_floor": 0.0,
    "actor_lr": 3e-4,
    "actor_ema": 0.0,
    "online_oversampling": 1.0,
    "online_warmup": 0,
    "online_candidates": 1,
}
"""What the published recipes have in common: none of this package's additions."""

PRESETS: dict[str, dict] = {
    "default": {},
    # rlkit, the authors' code (examples/awac/mujoco/awac1.py). There, states are not normalised; 50,000 offline steps,
    # on batches of 128 rows; online, 1,000 environment steps and as many updates take turns; target critics don't
    # start as copies; sampled actions are not clipped to [-1, 1]; last layers start near 0 (1e-3, critics 3e-3).
    "paper": {
        **_PUBLISHED,
        "actor_hidden": (256, 256, 256, 256),
        "critic_hidden": (256, 256),
        "lam": 2.0,
        "batch_size": 1024,
        "actor_weight_decay": 1e-4,
        "online_warmup": 1000,
    },
    # MindSpore-RL 0.7, example/awac. There, states are not normalised, target critics don't start as copies, and layers
    # start as Xavier's.
    "mindrl": {
        **_PUBLISHED,
        "actor_hidden": (256, 256, 256, 256),
        "critic_hidden": (256, 256, 256, 256),
        "lam": 2.0,
        "batch_size": 1024,
        "actor_weight_decay": 1e-4,
        "loss_reduction": "sum",
        "update_order": "critic_first",
        "offline_train_steps": 5000,
    },
    # CORL, algorithms/finetune/awac.py. There, a million offline steps come before the online ones; an environment step
    # and an update take turns, here 50 and 50; states are divided by their deviation + 1e-3, and not clipped.
    "corl": {
        **_PUBLISHED,
        "actor_hidden": (256, 256, 256),
        "critic_hidden": (256, 256, 256),
        "lam": 1 / 3,
        "weighting": "exp",
        "weight_clip": 100.0,
        "squash_mean": False,
        "log_std_bound": "clamp",
        "log_std_min": -20.0,
        "log_std_max": 2.0,
        "update_order": "critic_first",
    },
    # d3rlpy 2.8, reproductions/offline/awac.py. There, states are not normalised, and the critics' target is SAC's, as
    # its AWAC inherits it: an action of a squashed Gaussian, and its log-probability subtracted at temperature 1.
    "d3rlpy": {
        **_PUBLISHED,
        "actor_hidden": (256, 256, 256, 256),
        "critic_hidden": (256, 256, 256, 256),
        "lam": 1.0,
        "batch_size": 1024,
        "actor_weight_decay": 1e-4,
        "loss_reduction": "sum",
        "update_order": "critic_first",
    },
    # Behaviour cloning, with the default's networks.
    "bc": {"weighting": "uniform", "online_candidates": 1},
    # The default of version 0.1: weights so flat that it is close to cloning.
    "ant": {
        **_PUBLISHED,
        "actor_hidden": (512, 512),
        "critic_layer_norm": True,
        "lam": 20.0,
        "actor_lr": 1e-3,
        "actor_ema": 0.9997,
    },
    "cartpole": {
        **_PUBLISHED,
        "task": "CartPole-v1",
        "critic_layer_norm": True,
        "actor_hidden": (128, 64),
        "critic_hidden": (128, 128),
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
