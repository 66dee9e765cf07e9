"""Data sources. Each module of this folder registers its own with `registry.source`: a new source is one new module."""

import importlib
import pkgutil

from awac.data.sources.resolve import Origin, load_dataset, resolve_alone, resolve_dataset

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["Origin", "load_dataset", "resolve_alone", "resolve_dataset"]
