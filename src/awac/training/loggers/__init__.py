"""Loggers besides the log and the CSV files, which are always written; each is one module here.

A logger is a mindspore-rl callback made from the run's folder and its configuration. After an episode, `params` holds
`metrics`, `cur_episode`, `phase`, `train_return`, `optimistic`, `gradient_steps`, `env_steps`, and `evaluation` (None
if none was due); `figures` makes one flat mapping of them.
"""

from __future__ import annotations

import importlib
import pkgutil
import secrets
from collections.abc import Iterable
from pathlib import Path

from awac.config import Config
from awac.errors import EXTRAS, ConfigError, LogError, did_you_mean

ALWAYS = "csv"
"""Accepted as a name, without effect."""


def names() -> list[str]:
    """The available loggers: the modules of this folder, and `csv`."""
    return [ALWAYS, *(module.name for module in pkgutil.iter_modules(__path__))]


def make(chosen: Iterable[str], folder: Path, config: Config) -> list:
    """The loggers of those names for a run in `folder`.

    Raises:
        ConfigError: a name is unknown, or the package that it needs is missing.
    """
    loggers = []
    for name in dict.fromkeys(chosen):
        if name not in names():
            raise ConfigError(
                f"logger {name!r} is unknown{did_you_mean(name, names())}; choose from {', '.join(names())}"
            )
        try:
            if name != ALWAYS:
                loggers.append(importlib.import_module(f"{__name__}.{name}").Logger(folder, config))
        except ImportError as error:
            raise ConfigError(f"logger {name} needs the package {error.name}: pip install {EXTRAS[name]}") from None
    return loggers


def run_id(folder: Path, *, new: bool) -> str:
    """The run's id at a logging service, kept in `folder/awac_run_id`: the stored one, or a new one.

    Raises:
        LogError: it can't be stored.
    """
    note = folder / "awac_run_id"
    try:
        if not new and note.is_file():
            return note.read_text(encoding="ascii").strip()
        folder.mkdir(parents=True, exist_ok=True)
        note.write_text(name := secrets.token_hex(4), encoding="ascii")
    except (OSError, ValueError) as error:
        raise LogError(f"{note} can't be read or written ({error})") from error
    return name


def owed(params) -> bool:
    """Whether figures of the last episode were not written: this run has made up for its evaluation."""
    return params.get("evaluation") is not None


def figures(params) -> dict[str, float]:
    """The metrics of an episode that ended, by names such as `train/critic_loss` and `eval/return`.

    Only those of the evaluation if `params.metrics` is None: the others were written before a restart.
    """
    values = {}
    if params.evaluation is not None:
        values["eval/return"] = params.evaluation.mean
        values["eval/terminated_early"] = params.evaluation.falls
    if params.metrics is None:
        return values
    values |= {f"train/{name}": value for name, value in params.metrics.items()}
    if params.train_return is not None:
        values["train/return"] = params.train_return
    if params.optimistic is not None:  # the table of an older version has none
        values["train/optimistic"] = params.optimistic
    return {**values, "env_steps": params.env_steps}
