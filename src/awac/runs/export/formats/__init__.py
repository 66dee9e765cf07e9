"""The file formats of `awac export --format`: one module each, named as the format and the file's suffix.

A module has `write(path, network, about)`, `load(path)`, which gives a function from raw observations (B, O) float32 to
actions (B, A) or indices (B,), and `USE`, Python code for the model card.
"""

from __future__ import annotations

import importlib
import pkgutil

from awac.errors import EXTRAS, ConfigError, did_you_mean


def names() -> list[str]:
    """The available formats."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def get(name: str):
    """The module of a format.

    Raises:
        ConfigError: the format is unknown, or the package that it needs is missing.
    """
    if name not in names():
        raise ConfigError(f"format {name!r} is unknown{did_you_mean(name, names())} (one of {', '.join(names())})")
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ImportError as error:
        packages = EXTRAS.get(name, error.name)
        raise ConfigError(f"--format {name} needs the package {error.name}: pip install {packages}") from None
