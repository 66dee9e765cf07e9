"""A run's configuration, put together from a preset, YAML files and single values; later ones win."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

import yaml

from awac.config.keys import YAML_ERRORS, Loader
from awac.config.presets import PRESETS
from awac.config.schema import KEYS, SECTIONS, AlgoConfig, EnvConfig, TrainConfig
from awac.errors import ConfigError, did_you_mean

FORMER = {"lam_unit": "reward", "weight_floor": 0.0, "online_oversampling": 1.0, "online_candidates": 1}
"""Values that reproduce runs from before these keys existed, where today's default differs."""


@dataclass(frozen=True)
class Config:
    """One run."""

    env: EnvConfig = EnvConfig()
    algo: AlgoConfig = AlgoConfig()
    train: TrainConfig = TrainConfig()

    @classmethod
    def from_dict(cls, sections: dict) -> Config:
        """The inverse of `dataclasses.asdict`; values are checked like any override.

        A section of an earlier version lacks newer keys; they take the values that reproduce its algorithm.
        """
        missing = {name: value for name, value in FORMER.items() if sections.get(KEYS[name].section)}
        stored = {name: value for part in sections.values() for name, value in part.items()}
        if stored.get("dataset") == "":  # versions before this one took it for None
            stored["dataset"] = None
        return _related(_with(cls(), {**missing, **stored}, "stored config"), "stored config")


def load_config(
    preset=None,
    env_yaml=None,
    algo_yaml=None,
    overrides=None,
    base: Config | None = None,
    source: str = "overrides",
) -> Config:
    """Builds a configuration: preset, then YAML files, then overrides; later ones win.

    Args:
        preset: a name in `PRESETS`; None: `default`, or none if there is a base.
        env_yaml: path of a YAML mapping with `EnvConfig` keys.
        algo_yaml: path of a YAML mapping with `AlgoConfig` and `TrainConfig` keys.
        overrides: mapping of keys to values.
        base: configuration to start from, such as that of a run to resume; None: the defaults.
        source: where the overrides come from, for messages.

    Raises:
        ConfigError: unknown preset or key, a value of the wrong type or out of range, an unreadable file.
    """
    if preset is None and base is None:
        preset = "default"
    if preset is not None and preset not in PRESETS:
        near = did_you_mean(preset, PRESETS)
        raise ConfigError(f"preset {preset!r} is unknown{near}; choose one of {', '.join(PRESETS)}")
    config = base or Config()
    if preset is not None:
        config = _with(config, PRESETS[preset], f"preset {preset}")
    for path, sections in ((env_yaml, {"env"}), (algo_yaml, {"algo", "train"})):
        if path is not None:
            config = _with(config, read_yaml(path), str(path), sections)
    places = [str(path) for path in (env_yaml, algo_yaml) if path is not None]
    where = " and ".join([*places, source])
    config = _related(_with(config, overrides or {}, source), where)
    algo = config.algo  # not of a stored configuration: versions before this one took it
    if base is None and algo.weighting == "exp" and algo.weight_floor >= algo.weight_clip:
        raise ConfigError(f"{where}: weight_floor must be below weight_clip ({algo.weight_floor}, {algo.weight_clip})")
    return config


def read_yaml(path) -> dict:
    """The mapping in a YAML file; an empty file gives an empty mapping.

    Raises:
        ConfigError: it is missing, unreadable, or not a mapping.
    """
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise ConfigError(f"{path}: no such YAML file")
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.load(file, UniqueKeys)
    except (OSError, *YAML_ERRORS) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{path}: not readable as YAML ({reason})") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values, found {type(values).__name__}")
    return values


class UniqueKeys(Loader):
    """Refuses a key that stands in a mapping twice; PyYAML would take the last one."""

    def compose_mapping_node(self, anchor):
        """The node of a mapping, before `<<` is merged into it."""
        node = super().compose_mapping_node(anchor)
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is given twice")
        return node


def _with(config: Config, values: dict, source: str, sections=frozenset(SECTIONS)) -> Config:
    changed: dict[str, dict] = {section: {} for section in SECTIONS}
    for name, value in values.items():
        allowed = [known.name for known in KEYS.values() if known.section in sections]
        if name not in allowed:
            raise ConfigError(f"{source}: unknown key {name!r}{did_you_mean(name, allowed)}")
        changed[KEYS[name].section][name] = KEYS[name].check(value, source)
    return Config(**{s: dataclasses.replace(getattr(config, s), **changed[s]) for s in SECTIONS})


def _related(config: Config, source: str) -> Config:
    """The finished configuration: its keys must fit each other, whatever each of them came from."""
    algo, train = config.algo, config.train
    if algo.log_std_min >= algo.log_std_max:
        raise ConfigError(f"{source}: log_std_min must be below log_std_max")
    for name, unit in (("n_steps_per_episode", "steps_per_call"), ("offline_train_steps", "n_steps_per_episode")):
        value, of = getattr(train, name), getattr(train, unit)
        if value % of:
            raise ConfigError(f"{source}: {name} must be a multiple of {unit} ({value} and {of}); set one of them")
    return config
