"""What a configuration value may be: types, ranges, choices, and the words for one that isn't."""

from __future__ import annotations

import difflib
import math
import reprlib
import types
import typing

from awac.errors import ConfigError


def nearest(name: str, known) -> str:
    """`: did you mean X` for a misspelt name, or nothing."""
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f": did you mean {close[0]!r}?" if close else ""


def typed(key: str, value, kind, source: str):
    """The value as its field's type; `source` says in an error where it stood.

    Raises:
        ConfigError: it is not of that type.
    """
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for option in options:
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
    expected = (
        getattr(kind, "__name__", str(kind))
        .replace("tuple", "list of positive whole numbers")
        .replace("dict", "mapping")
    )
    raise ConfigError(f"{source}: {key} = {_shown(value)} is not a valid {expected}")


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


_RANGES = {
    "positive": (
        "lam",
        "weight_clip",
        "actor_lr",
        "critic_lr",
        "batch_size",
        "n_steps_per_episode",
        "steps_per_call",
        "online_capacity",
        "log_every",
        "eval_every",
        "save_every",
        "max_checkpoints",
        "eval_episodes",
        "reward_scale",
        "max_episode_steps",
    ),
    "at least 0": ("actor_weight_decay", "offline_train_steps", "online_warmup", "seed"),
    "between 0 and 1": ("gamma", "tau", "offline_share"),
    "at least 0 and below 1": ("actor_ema",),
}
_CHOICES = {
    "action_unit": ("auto", "env", "scaled"),
    "weighting": ("softmax", "exp"),
    "loss_reduction": ("mean", "sum"),
}


def check(values: dict, source: str) -> None:
    """Checks ranges, choices and the relations between keys.

    Args:
        values: every key of the configuration with its value.
        source: where the newest of them stood, for the message.

    Raises:
        ConfigError: the first fault.
    """
    tests = {
        "positive": lambda v: v > 0,
        "at least 0": lambda v: v >= 0,
        "between 0 and 1": lambda v: 0 <= v <= 1,
        "at least 0 and below 1": lambda v: 0 <= v < 1,
    }
    for wanted, keys in _RANGES.items():
        for key in keys:
            if values[key] is not None and not tests[wanted](values[key]):
                raise ConfigError(f"{source}: {key} = {values[key]!r} must be {wanted}")
    for key, choices in _CHOICES.items():
        if values[key] not in choices:
            raise ConfigError(
                f"{source}: {key} = {values[key]!r}{nearest(values[key], choices)} (one of {', '.join(choices)})"
            )
    if values["log_std_min"] >= values["log_std_max"]:
        raise ConfigError(f"{source}: log_std_min must be below log_std_max")
    if values["n_steps_per_episode"] % values["steps_per_call"]:
        raise ConfigError(f"{source}: n_steps_per_episode must be a multiple of steps_per_call")
    if values["offline_train_steps"] % values["n_steps_per_episode"]:
        raise ConfigError(f"{source}: offline_train_steps must be a multiple of n_steps_per_episode")
