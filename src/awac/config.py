"""The configuration of a run: its keys with default, meaning and range, presets, and how they are read.

A key is one line, `name: type = key(default, help, range or choices)`. The command line and `load_config` are made from
these lines. An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import ast
import dataclasses
import math
import os
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from awac.errors import ConfigError, did_you_mean


class Range(typing.NamedTuple):
    """The values that a numeric key may take."""

    words: str
    holds: Callable[[float], bool]


POSITIVE = Range("positive", lambda value: value > 0)
NOT_NEGATIVE = Range("at least 0", lambda value: value >= 0)
SHARE = Range("between 0 and 1", lambda value: 0 <= value <= 1)
BELOW_ONE = Range("at least 0 and below 1", lambda value: 0 <= value < 1)


def key(
    default, help: str, range: Range | None = None, choices: Iterable[str] | Callable[[], Iterable[str]] = ()
) -> typing.Any:
    """A configuration key.

    Args:
        default: its value where none is given.
        help: one sentence for the command line and the documentation.
        range: of a number; None takes any finite one.
        choices: of a text, or a function that gives them.
    """
    return dataclasses.field(default=default, metadata={"help": help, "range": range, "choices": choices})


def weightings() -> tuple[str, ...]:
    """The names in `algorithm.losses.WEIGHTINGS`; before its import, which takes MindSpore's, from its source."""
    if losses := sys.modules.get("awac.algorithm.losses"):
        return tuple(losses.WEIGHTINGS)
    source = Path(__file__).with_name("algorithm") / "losses.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "WEIGHTINGS":
            return tuple(name.value for name in node.value.keys)  # type: ignore[attr-defined]
    raise LookupError(f"{source} has no dict WEIGHTINGS")


@dataclass(frozen=True)
class EnvConfig:
    """Where the data and the environment come from."""

    task: str = key("ant-expert-v2", "D4RL data set id, Gymnasium id, or `gym:` and an old gym id.")
    dataset: str | None = key(
        None, "Data set id, minari:ID, or path to an .hdf5/.npz/.csv file; None takes `task` as the id."
    )
    action_unit: str = key(
        "auto",
        "Unit of the data set's actions: `env` (the environment's own), `scaled` ([-1, 1]), `auto` (as the "
        "file says, else `env`).",
        choices=("auto", "env", "scaled"),
    )
    download: bool = key(False, "Fetch D4RL's own file if it is not on disk.")
    env_kwargs: dict | None = key(None, "Arguments of the environment's constructor.")
    max_episode_steps: int | None = key(
        None,
        "Step limit of an environment episode; None takes the environment's own, else 10,000.",
        POSITIVE,
    )
    eval_episodes: int = key(5, "Episodes of one evaluation; they are stepped together.", POSITIVE)


@dataclass(frozen=True)
class AlgoConfig:
    """The algorithm: networks, losses, optimisers."""

    actor_hidden: tuple[int, ...] = key((512, 512), "Widths of the policy's hidden layers.")
    critic_hidden: tuple[int, ...] = key((256, 256), "Widths of each critic's hidden layers.")
    critic_layer_norm: bool = key(True, "LayerNorm (without affine part) after each hidden layer of the critics.")
    state_dependent_std: bool = key(False, "Log-std as an output of the policy network instead of one free vector.")
    log_std_min: float = key(-6.0, "Lower bound of the log-std, approached through a sigmoid.")
    log_std_max: float = key(0.0, "Upper bound of the log-std.")
    gamma: float = key(0.99, "Discount factor γ.", SHARE)
    tau: float = key(0.005, "Polyak factor τ of the target critics.", SHARE)
    lam: float = key(20.0, "Temperature λ of the advantage weights, eq. (13).", POSITIVE)
    weighting: str = key(
        "softmax",
        "`softmax`: weights normalised over the batch to mean 1; `exp`: exp(A/λ), clipped at `weight_clip`; "
        "`uniform`: 1, behaviour cloning.",
        choices=weightings,
    )
    weight_clip: float = key(100.0, "Largest weight under `weighting=exp`.", POSITIVE)
    loss_reduction: str = key("mean", "Actor loss over the batch: `mean` or `sum`.", choices=("mean", "sum"))
    actor_lr: float = key(1e-3, "Adam's learning rate for the policy.", POSITIVE)
    critic_lr: float = key(3e-4, "Adam's learning rate for the critics.", POSITIVE)
    actor_weight_decay: float = key(0.0, "L2 coefficient added to the policy's gradient.", NOT_NEGATIVE)
    actor_ema: float = key(
        0.9997,
        "Decay d of the running average of the policy's weights that acts and is saved; 0 takes the weights "
        "themselves.",
        BELOW_ONE,
    )
    batch_size: int = key(256, "Rows per gradient step.", POSITIVE)
    reward_scale: float = key(1.0, "Factor on every reward before the critics see it.", POSITIVE)


@dataclass(frozen=True)
class TrainConfig:
    """The schedule: how long, how often, in what proportion."""

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
        "Share of data set rows in an online batch; None draws from all rows alike, so it falls as they arrive.",
        SHARE,
    )
    online_capacity: int = key(
        1_000_000,
        "Online rows kept; the oldest go first. Data set rows are never evicted.",
        POSITIVE,
    )
    online_warmup: int = key(
        0,
        "Environment steps collected at the switch before the first online gradient step.",
        NOT_NEGATIVE,
    )
    online_candidates: int = key(
        1,
        "Actions drawn from the policy at each online step; the one with the largest min Q is taken. More than 1 is "
        "optimistic collection (O3F, Mark et al. 2022).",
        POSITIVE,
    )
    log_every: int = key(10, "Episodes between loss lines.", POSITIVE)
    eval_every: int = key(10, "Episodes between evaluations.", POSITIVE)
    save_every: int = key(10, "Episodes between checkpoints.", POSITIVE)
    max_checkpoints: int = key(5, "Checkpoints kept; the oldest go first.", POSITIVE)


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
    # MindSpore-RL's recipe as far as the losses go; it does not normalise states, and does not copy critics to targets.
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

SECTIONS = {"env": EnvConfig, "algo": AlgoConfig, "train": TrainConfig}
YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""PyYAML lets its constructors' own errors through: the 99th of a month, a number of 5,000 digits."""


@dataclass(frozen=True)
class Key:
    """What is known about a key: section, name, type, default, help, range and choices."""

    section: str
    name: str
    kind: typing.Any
    default: typing.Any
    help: str
    range: Range | None
    choices: Iterable[str] | Callable[[], Iterable[str]]

    def names(self) -> tuple[str, ...]:
        """The choices, or () where any value of the type will do."""
        return tuple(self.choices()) if callable(self.choices) else tuple(self.choices)

    def options(self) -> tuple:
        """The types that a value may have."""
        return typing.get_args(self.kind) if isinstance(self.kind, types.UnionType) else (self.kind,)

    def check(self, value, source: str):
        """The value in the key's type, inside its range.

        Raises:
            ConfigError: it is not; `source` says where it stood.
        """
        value = _typed(self, value, source)
        if value is not None and self.range and not self.range.holds(value):
            raise ConfigError(f"{source}: {self.name} = {value!r} must be {self.range.words}")
        if (names := self.names()) and value not in names:
            raise ConfigError(
                f"{source}: {self.name} = {value!r}{did_you_mean(value, names)} (one of {', '.join(names)})"
            )
        return value

    def parse(self, text: str | list[str], source: str):
        """The value that a command line gives as text, read as YAML; text keys take it as it is."""
        if str in self.options():
            return text
        if dict in self.options() and isinstance(text, list):
            return _mapping(text, source)
        values = [parse_yaml(part, source) for part in ([text] if isinstance(text, str) else text)]
        if any(typing.get_origin(option) is tuple for option in self.options()) and not isinstance(values[0], list):
            return values
        return values[0]


KEYS = {
    field.name: Key(section, field.name, typing.get_type_hints(cls)[field.name], field.default, **field.metadata)
    for section, cls in SECTIONS.items()
    for field in dataclasses.fields(cls)
}
"""All keys by name."""


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
        near = did_you_mean(preset, PRESETS)
        raise ConfigError(f"preset {preset!r} is unknown{near}; choose one of {', '.join(PRESETS)}")
    config = base or Config()
    if preset is not None:
        config = _with(config, PRESETS[preset], f"preset {preset}")
    for path, sections in ((env_yaml, {"env"}), (algo_yaml, {"algo", "train"})):
        if path is not None:
            config = _with(config, _read_yaml(path), str(path), sections)
    return _with(config, overrides or {}, "command line")


def parse_yaml(text: str, source: str):
    """One YAML value; `source` names the option in the error."""
    try:
        return yaml.safe_load(text)
    except YAML_ERRORS:
        raise ConfigError(f"{source} {text[:80]!r}: the value is not readable") from None


def split_pair(text: str, source: str) -> tuple[str, str]:
    """KEY=VALUE in two."""
    name, sign, value = text.partition("=")
    if not sign:
        raise ConfigError(f"{source} takes KEY=VALUE, not {text[:80]!r}")
    return name, value


def _mapping(parts: list[str], source: str) -> dict | None:
    """`key=value ...` or one YAML mapping."""
    if len(parts) == 1 and (isinstance(whole := parse_yaml(parts[0], source), dict) or whole is None):
        return whole
    pairs = [split_pair(part, source) for part in parts]
    return {name: parse_yaml(value, source) for name, value in pairs}


def _read_yaml(path) -> dict:
    path = os.path.expanduser(path)
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
    for name, value in values.items():
        allowed = [known.name for known in KEYS.values() if known.section in sections]
        if name not in allowed:
            raise ConfigError(f"{source}: unknown key {name!r}{did_you_mean(name, allowed)}")
        changed[KEYS[name].section][name] = KEYS[name].check(value, source)
    config = Config(**{s: dataclasses.replace(getattr(config, s), **changed[s]) for s in SECTIONS})
    _check_relations(config, source)
    return config


def _check_relations(config: Config, source: str) -> None:
    algo, train = config.algo, config.train
    if algo.log_std_min >= algo.log_std_max:
        raise ConfigError(f"{source}: log_std_min must be below log_std_max")
    if train.n_steps_per_episode % train.steps_per_call:
        raise ConfigError(f"{source}: n_steps_per_episode must be a multiple of steps_per_call")
    if train.offline_train_steps % train.n_steps_per_episode:
        raise ConfigError(f"{source}: offline_train_steps must be a multiple of n_steps_per_episode")


def _typed(known: Key, value, source: str):
    for option in known.options():
        if option is type(None) and value is None:
            return None
        if option is str and isinstance(value, str):
            return value
        if option is dict and isinstance(value, dict) and all(isinstance(name, str) for name in value):
            return value
        if option is bool and isinstance(value, bool):
            return value
        if option is int and _is_whole(value):
            return int(value)
        if option is float and (number := _as_float(value)) is not None:
            return number
        if typing.get_origin(option) is tuple and _are_widths(value):
            return tuple(value)
    expected = getattr(known.kind, "__name__", str(known.kind))
    expected = expected.replace("tuple", "list of positive whole numbers").replace("dict", "mapping")
    raise ConfigError(f"{source}: {known.name} = {_shown(value)} is not a valid {expected}")


def _is_whole(value) -> bool:
    return (type(value) is int or (isinstance(value, float) and value.is_integer())) and abs(value) < 1 << 63


_REPR = reprlib.Repr()  # short: YAML's aliases can make a small file a value of astronomic size
_REPR.maxlevel, _REPR.maxlist, _REPR.maxdict, _REPR.maxstring, _REPR.maxother = 2, 4, 4, 60, 60


def _shown(value) -> str:
    try:
        return _REPR.repr(value)
    except ValueError:  # Python does not write out numbers of more than 4,300 digits
        return "a number of thousands of digits"


def _are_widths(value) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(type(v) is int and 0 < v <= 65536 for v in value)


def _as_float(value) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:  # YAML reads 1e-4 (no dot) as text
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
