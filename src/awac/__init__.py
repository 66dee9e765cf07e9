"""AWAC (Nair et al. 2020, arXiv 2006.09359) on MindSpore: learn offline from a data set, then keep improving online.

The public names load on first use: importing this package takes no time and changes nothing in the process.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from awac.agent import AWAC
    from awac.config import load_config
    from awac.data.sources import load_dataset
    from awac.envs import make_env
    from awac.runs.deployed import load_policy
    from awac.training.offline_evaluation import evaluate_offline
    from awac.training.session import evaluate, train

__version__ = "0.2.0.dev0"

__all__ = [
    "AWAC",
    "__version__",
    "evaluate",
    "evaluate_offline",
    "load_config",
    "load_dataset",
    "load_policy",
    "make_env",
    "train",
]

_HOMES = {
    "AWAC": "awac.agent",
    "evaluate": "awac.training.session",
    "evaluate_offline": "awac.training.offline_evaluation",
    "load_config": "awac.config",
    "load_dataset": "awac.data.sources",
    "load_policy": "awac.runs.deployed",
    "make_env": "awac.envs",
    "train": "awac.training.session",
}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
