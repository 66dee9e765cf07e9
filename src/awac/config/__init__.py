"""The configuration of a run: its keys with default, meaning and range, presets, and how they are read.

The command line and `load_config` are made from the fields of `schema`. An unknown key is an error that names the
nearest known one.
"""

from awac.config.keys import parse_yaml, split_pair
from awac.config.load import Config, load_config, read_yaml
from awac.config.presets import PRESETS
from awac.config.schema import KEYS, SECTIONS, AlgoConfig, EnvConfig, TrainConfig

__all__ = [
    "KEYS",
    "PRESETS",
    "SECTIONS",
    "AlgoConfig",
    "Config",
    "EnvConfig",
    "TrainConfig",
    "load_config",
    "parse_yaml",
    "read_yaml",
    "split_pair",
]
