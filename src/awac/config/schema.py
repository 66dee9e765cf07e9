"""The keys of a run, one line each: `name: type = key(default, help, range or choices)`."""

from __future__ import annotations

import ast
import dataclasses
import sys
import typing
from dataclasses import dataclass
from pathlib import Path

from awac.config.keys import DECAY, NOT_NEGATIVE, POSITIVE, SHARE, Key, Range, key


def weightings() -> tuple[str, ...]:
    """The names in `algorithm.losses.WEIGHTINGS`, read from its source if it is not imported: it needs MindSpore."""
    if losses := sys.modules.get("awac.algorithm.losses"):
        return tuple(losses.WEIGHTINGS)
    source = Path(__file__).parents[1] / "algorithm" / "losses.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "WEIGHTINGS":
            return tuple(name.value for name in node.value.keys)  # type: ignore[attr-defined]
    raise LookupError(f"{source} has no dict WEIGHTINGS")


@dataclass(frozen=True)
class EnvConfig:
    """Where the data and the environment come from."""

    task: str = key("ant-expert-v2", "D4RL data set id, Gymnasium id, module:Id-v0, or `gym:` and an old gym id.")
    dataset: str | None = key(
        None,
        "Data set id, minari:ID, d4rl:ID, or path to an .hdf5, .npz, .csv or .parquet file; None takes `task` as the "
        "id.",
    )
    action_unit: str = key(
        "auto",
        "Unit of the data set's actions: `env` (the environment's own), `scaled` ([-1, 1]), `auto` (as the "
        "file says, else `env`).",
        choices=("auto", "env", "scaled"),
    )
    no_env: bool = key(
        False,
        "Train without an environment: offline only, no evaluation, spaces from the data set; `task` is not used.",
    )
    action_low: tuple[float, ...] | None = key(
        None,
        "Under `no_env`, the actions' lower bound, one number or one per value; None takes the data's.",
    )
    action_high: tuple[float, ...] | None = key(
        None, "Under `no_env`, the actions' upper bound; None takes the data's."
    )
    download: bool = key(False, "Fetch D4RL's own file if it is not on disk.")
    env_kwargs: dict | None = key(None, "Arguments of the environment's constructor.")
    max_episode_steps: int | None = key(
        None,
        "Step limit of an environment episode; None takes the environment's own, else 10,000.",
        POSITIVE,
    )
    eval_episodes: int = key(10, "Episodes of one evaluation; they are stepped together.", POSITIVE)


@dataclass(frozen=True)
class AlgoConfig:
    """The algorithm: networks, losses, optimisers."""

    actor_hidden: tuple[int, ...] = key((256, 256), "Widths of the policy's hidden layers.")
    critic_hidden: tuple[int, ...] = key((256, 256), "Widths of each critic's hidden layers.")
    critic_layer_norm: bool = key(True, "LayerNorm (without affine part) after each hidden layer of the critics.")
    state_dependent_std: bool = key(True, "Log-std as an output of the policy network instead of one free vector.")
    log_std_min: float = key(-6.0, "Lower bound of the log-std.")
    log_std_max: float = key(0.0, "Upper bound of the log-std.")
    log_std_bound: str = key(
        "sigmoid", "How the log-std is kept in its bounds: `sigmoid` or `clamp`.", choices=("sigmoid", "clamp")
    )
    squash_mean: bool = key(True, "tanh on the policy's mean action.")
    gamma: float = key(0.99, "Discount factor γ.", SHARE)
    tau: float = key(0.005, "Polyak factor τ of the target critics.", SHARE)
    lam: float = key(0.4, "Temperature λ of the advantage weights, eq. (13).", POSITIVE)
    lam_unit: str = key(
        "td_error",
        "Unit of λ: `reward`, that of the rewards; `td_error`, the critics' root mean square TD error on the batch.",
        choices=("reward", "td_error"),
    )
    weighting: str = key(
        "exp",
        "`softmax`: weights normalised over the batch to mean 1; `exp`: exp(A/λ), clipped at `weight_clip`; "
        "`uniform`: 1, behaviour cloning.",
        choices=weightings,
    )
    weight_clip: float = key(10.0, "Largest weight under `weighting=exp`.", POSITIVE)
    weight_floor: float = key(
        0.3, "Smallest weight, so that states whose action was poor stay in the policy's loss.", NOT_NEGATIVE
    )
    update_order: str = key(
        "together",
        "`together`: both losses use the critics from before the step; `critic_first`: the policy's uses the new ones.",
        choices=("together", "critic_first"),
    )
    loss_reduction: str = key("mean", "Actor loss over the batch: `mean` or `sum`.", choices=("mean", "sum"))
    actor_lr: float = key(1e-3, "Adam's learning rate for the policy.", POSITIVE)
    critic_lr: float = key(3e-4, "Adam's learning rate for the critics.", POSITIVE)
    actor_weight_decay: float = key(0.0, "L2 coefficient added to the policy's gradient.", NOT_NEGATIVE)
    actor_ema: float = key(
        0.9997,
        "Decay d of the running average of the policy's weights that acts and is saved; 0 takes the weights "
        "themselves.",
        DECAY,
    )
    batch_size: int = key(256, "Rows per gradient step.", POSITIVE)
    reward_scale: float = key(1.0, "Factor on every reward before the critics see it.", POSITIVE)


@dataclass(frozen=True)
class TrainConfig:
    """The schedule, and the rows that a batch is drawn from."""

    seed: int = key(0, "Seeds every random generator of the run.", NOT_NEGATIVE)
    n_steps_per_episode: int = key(
        1000,
        "Gradient steps per training episode, the unit of logs and checkpoints.",
        POSITIVE,
    )
    offline_train_steps: int = key(
        20000,
        "Gradient steps on the data set alone before the environment is used.",
        NOT_NEGATIVE,
    )
    steps_per_call: int = key(
        50,
        "Gradient steps per call of the compiled graph; online, also the environment steps before it.",
        POSITIVE,
    )
    offline_share: float | None = key(
        None,
        "Share of data set rows in an online batch; None draws from all rows, so it falls over time.",
        SHARE,
    )
    online_oversampling: float = key(
        4.0,
        "If `offline_share` is None: how many times as often as a data set row an online row is drawn, until they are "
        "half of a batch; 1 draws uniformly.",
        Range("at least 1", lambda value: value >= 1),
    )
    online_capacity: int = key(
        1_000_000,
        "Online rows kept; the oldest go first. Data set rows are never evicted.",
        POSITIVE,
    )
    online_warmup: int = key(
        5000,
        "Environment steps collected at the switch before the first online gradient step.",
        NOT_NEGATIVE,
    )
    online_candidates: int = key(
        10,
        "Actions drawn from the policy at each step of an optimistic online episode; the one with the largest min Q is "
        "taken (O3F, Mark et al. 2022). Returns decide which episodes are optimistic; with 1 none is.",
        POSITIVE,
    )
    log_every: int = key(10, "Episodes between loss lines.", POSITIVE)
    eval_every: int = key(10, "Episodes between evaluations.", POSITIVE)
    save_every: int = key(10, "Episodes between checkpoints.", POSITIVE)
    max_checkpoints: int = key(5, "Checkpoints kept; the oldest go first.", POSITIVE)


SECTIONS = {"env": EnvConfig, "algo": AlgoConfig, "train": TrainConfig}

KEYS = {
    field.name: Key(section, field.name, typing.get_type_hints(cls)[field.name], field.default, **field.metadata)
    for section, cls in SECTIONS.items()
    for field in dataclasses.fields(cls)
}
"""All keys by name."""
