"""Where a run's figures go besides the log and the CSV files, which are always written: a logger is one module here.

A logger is a mindspore-rl callback made from the run's folder. After an episode, `params` holds `metrics`,
`cur_episode`, `phase`, `train_return`, `gradient_steps`, `env_steps`, and `evaluation` (None where none was due).
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from awac.errors import ConfigError, did_you_mean


def names() -> list[str]:
    """The loggers there are, each the name of a module in this folder."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


def make(name: str, folder: Path):
    """The logger of that name for a run in `folder`.

    Raises:
        ConfigError: there is none, or the package that it needs is missing.
    """
    if name not in names():
        raise ConfigError(f"logger {name!r} is unknown{did_you_mean(name, names())}; choose from {', '.join(names())}")
    try:
        return importlib.import_module(f"{__name__}.{name}").Logger(folder)
    except ImportError as error:
        raise ConfigError(f"logger {name} needs the package {error.name}: pip install 'awac[{name}]'") from None
