"""Configuration: frozen dataclasses, presets, overrides, and the dict that mindspore-rl wires.

Every field is read somewhere; `load_config` refuses a key that is unknown and names the nearest one.
"""

from __future__ import annotations

import dataclasses
import os
import typing
from dataclasses import dataclass

import yaml

from awac.config_values import check, nearest, typed
from awac.errors import ConfigError


@dataclass(frozen=True)
class EnvConfig:
    """Where the data and the environment come from."""

    task: str = "ant-expert-v2"
    """D4RL data set id, Gymnasium id, or `gym:` and an old gym id."""
    dataset: str | None = None
    """Data set id or path to an .hdf5/.npz file; None takes `task` as the id."""
    action_unit: str = "auto"
    """Unit of the data set's actions: `env` (the environment's own), `scaled` ([-1, 1]), `auto` (as the file says, else
    `env`)."""
    download: bool = False
    """Fetch D4RL's own file if it is not on disk."""
    env_kwargs: dict | None = None
    """Arguments of the environment's constructor."""
    max_episode_steps: int | None = None
    """Step limit of an environment episode; None takes the environment's own, else 10,000."""
    eval_episodes: int = 5
    """Episodes of one evaluation; they are stepped together."""


@dataclass(frozen=True)
class AlgoConfig:
    """The algorithm: networks, losses, optimisers."""

    actor_hidden: tuple[int, ...] = (512, 512)
    """Widths of the policy's hidden layers."""
    critic_hidden: tuple[int, ...] = (256, 256)
    """Widths of each critic's hidden layers."""
    critic_layer_norm: bool = True
    """LayerNorm (without affine part) after each hidden layer of the critics."""
    state_dependent_std: bool = False
    """Log-std as an output of the policy network instead of one free vector."""
    log_std_min: float = -6.0
    """Lower bound of the log-std, approached through a sigmoid."""
    log_std_max: float = 0.0
    """Upper bound of the log-std."""
    gamma: float = 0.99
    """Discount factor γ."""
    tau: float = 0.005
    """Polyak factor τ of the target critics."""
    lam: float = 20.0
    """Temperature λ of the advantage weights, eq. (13)."""
    weighting: str = "softmax"
    """`softmax`: weights normalised over the batch to mean 1; `exp`: exp(A/λ), clipped at `weight_clip`."""
    weight_clip: float = 100.0
    """Largest weight under `weighting=exp`."""
    loss_reduction: str = "mean"
    """Actor loss over the batch: `mean` or `sum`."""
    actor_lr: float = 1e-3
    """Adam's learning rate for the policy."""
    critic_lr: float = 3e-4
    """Adam's learning rate for the critics."""
    actor_weight_decay: float = 0.0
    """L2 coefficient added to the policy's gradient."""
    actor_ema: float = 0.9997
    """Decay d of the running average of the policy's weights that acts and is saved; 0 takes the weights themselves."""
    batch_size: int = 256
    """Rows per gradient step."""
    reward_scale: float = 1.0
    """Factor on every reward before the critics see it."""


@dataclass(frozen=True)
class TrainConfig:
    """The schedule: how long, how often, in what proportion."""

    seed: int = 0
    """Seeds every random generator of the run."""
    n_steps_per_episode: int = 1000
    """Gradient steps per training episode, the unit of logs and checkpoints."""
    offline_train_steps: int = 20000
    """Gradient steps on the data set alone before the environment is used."""
    steps_per_call: int = 50
    """Gradient steps per call of the compiled graph; online, also the environment steps before it."""
    offline_share: float | None = None
    """Share of data set rows in an online batch; None draws from all rows alike, so it falls as they arrive."""
    online_capacity: int = 1_000_000
    """Online rows kept; the oldest go first. Data set rows are never evicted."""
    online_warmup: int = 0
    """Environment steps collected at the switch before the first online gradient step."""
    log_every: int = 10
    """Episodes between loss lines."""
    eval_every: int = 10
    """Episodes between evaluations."""
    save_every: int = 10
    """Episodes between checkpoints."""
    max_checkpoints: int = 5
    """Checkpoints kept; the oldest go first."""


@dataclass(frozen=True)
class Config:
    """One run."""

    env: EnvConfig = EnvConfig()
    algo: AlgoConfig = AlgoConfig()
    train: TrainConfig = TrainConfig()

    @classmethod
    def from_dict(cls, sections: dict) -> Config:
        """The inverse of `dataclasses.asdict`; values are checked like any override."""
        return _with(cls(), {key: value for part in sections.values() for key, value in part.items()}, "stored config")


PRESETS: dict[str, dict] = {
    "ant": {},
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
    "mindrl": {
        "actor_hidden": (256, 256, 256, 256),
        "critic_hidden": (256, 256, 256, 256),
        "critic_layer_norm": False,
        "actor_lr": 3e-4,
        "lam": 2.0,
        "actor_ema": 0.0,
        "state_dependent_std": True,
        "batch_size": 1024,
        "actor_weight_decay": 1e-4,
        "loss_reduction": "sum",
        "offline_train_steps": 5000,
    },
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

SECTIONS = {"env": EnvConfig, "algo": AlgoConfig, "train": TrainConfig}
_FIELDS = {
    field.name: (section, typing.get_type_hints(cls)[field.name])
    for section, cls in SECTIONS.items()
    for field in dataclasses.fields(cls)
}


def load_config(preset=None, env_yaml=None, algo_yaml=None, overrides=None, base: Config | None = None) -> Config:
    """Builds a configuration: preset, then YAML files, then overrides; later ones win.

    Args:
        preset: a name in `PRESETS`; None: `ant`, or nothing where there is a base.
        env_yaml: path of a YAML mapping with `EnvConfig` keys.
        algo_yaml: path of a YAML mapping with `AlgoConfig` and `TrainConfig` keys.
        overrides: mapping of keys to values.
        base: configuration to start from, such as that of a run to resume; None: the defaults.

    Raises:
        ConfigError: unknown preset or key, a value of the wrong type or out of range, an unreadable file.
    """
    if preset is None and base is None:
        preset = "ant"
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"preset {preset!r} is unknown{nearest(preset, PRESETS)}; choose one of {', '.join(PRESETS)}")
    config = base or Config()
    if preset is not None:
        config = _with(config, PRESETS[preset], f"preset {preset}")
    for path, sections in ((env_yaml, {"env"}), (algo_yaml, {"algo", "train"})):
        if path is not None:
            config = _with(config, _read_yaml(path), path, sections)
    return _with(config, overrides or {}, "command line")


YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""PyYAML lets its constructors' own errors through: the 99th of a month, a number of 5,000 digits."""


def _read_yaml(path: str) -> dict:
    if not os.path.isfile(path):
        raise ConfigError(f"{path}: no such YAML file")
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.safe_load(file)
    except (OSError, *YAML_ERRORS) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{path}: not readable as YAML ({reason})") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values, found {type(values).__name__}")
    return values


def _with(config: Config, values: dict, source: str, sections=frozenset(SECTIONS)) -> Config:
    changed: dict[str, dict] = {section: {} for section in SECTIONS}
    for key, value in values.items():
        allowed = [name for name, (section, _) in _FIELDS.items() if section in sections]
        if key not in allowed:
            raise ConfigError(f"{source}: unknown key {key!r}{nearest(key, allowed)}")
        section, kind = _FIELDS[key]
        changed[section][key] = typed(key, value, kind, source)
    config = Config(**{s: dataclasses.replace(getattr(config, s), **changed[s]) for s in SECTIONS})
    check({key: getattr(getattr(config, section), key) for key, (section, _) in _FIELDS.items()}, source)
    return config
