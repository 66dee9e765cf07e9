"""Reads a sweep's YAML file: tasks × presets × seeds, and the settings of each trial.

    tasks: [hopper-medium-v2, ant-medium-v2]     # or a mapping: label → settings (`task` if the label is no task)
    presets: [default, bc]                           # or a mapping: label → settings (`preset` if the label is none)
    seeds: 3                                     # 0, 1, 2; or a list
    episode: 150                                 # training episodes of a trial
    set: {eval_every: 10}                        # settings of all trials
    cells:                                       # settings of those trials that match; patterns with * and ?
      - {task: "hopper-*", preset: bc, set: {episode: 50}}

Settings are configuration keys and `episode`. Later ones win: preset, `set`, the task's, the preset's, cells in order.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from awac.config import KEYS, PRESETS, Config, load_config, read_yaml
from awac.config.keys import POSITIVE, Key
from awac.errors import CheckpointError, ConfigError, did_you_mean
from awac.runs import files

PLAN = "sweep.json"
"""The plan in the results folder, which tells `awac report` the trials."""

_TOP = ("tasks", "presets", "seeds", "episode", "set", "cells")
_CELL = ("task", "preset", "seed", "set")
_AXES = ("task", "seed")  # set by `tasks` and `seeds`, so not allowed as settings
_EPISODE = Key("train", "episode", int, None, "Training episodes in all.", POSITIVE, ())
_MAX_TRIALS = 100_000  # trials; more are taken for a typing error


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
        task: its label on the first axis.
        preset: its label on the second axis.
        seed: on the third axis.
        episodes: training episodes in all.
        config: the whole configuration.
    """

    task: str
    preset: str
    seed: int
    episodes: int
    config: Config

    @property
    def name(self) -> str:
        """TASK/PRESET/seed_N, the trial's folder in the results folder."""
        return trial_name(self.task, self.preset, self.seed)


def trial_name(task: str, preset: str, seed: int) -> str:
    """A trial's folder in the results folder, from its labels."""
    return f"{_file_name(task)}/{_file_name(preset)}/seed_{seed}"


def read_plan(path: str | os.PathLike) -> list[Trial]:
    """The trials that a YAML file asks for, seed by seed, so that the first ones show all tasks and presets.

    Raises:
        ConfigError: one line that names the place in the file and, for a misspelt name, the nearest known one.
    """
    values, where = read_yaml(path), str(path)
    _known(values, _TOP, where)
    for needed in ("tasks", "presets", "episode"):
        if needed not in values:
            raise ConfigError(f"{where}: {needed!r} is missing; a sweep has {', '.join(_TOP)}")
    tasks = _axis(values["tasks"], "task", f"{where}, tasks")
    presets = _axis(values["presets"], "preset", f"{where}, presets")
    for label, settings in presets.items():
        if (preset := settings["preset"]) not in PRESETS:
            near = did_you_mean(preset, PRESETS)
            raise ConfigError(f"{where}, presets, {label}: preset {preset!r} is unknown{near} ({', '.join(PRESETS)})")
    seeds = _seeds(values.get("seeds", [0]), where)
    shared = {"episode": values["episode"], **_settings(values.get("set"), f"{where}, set")}
    cells = _cells(values.get("cells") or [], tasks, presets, seeds, where)
    if len(tasks) * len(presets) * len(seeds) > _MAX_TRIALS:
        raise ConfigError(f"{where}: {len(tasks) * len(presets) * len(seeds)} trials are more than {_MAX_TRIALS:,}")
    trials = [
        _trial(task, tasks[task], preset, presets[preset], seed, shared, cells, where)
        for seed, task, preset in itertools.product(seeds, tasks, presets)
    ]
    names: dict[str, Trial] = {}
    for trial in trials:
        if (other := names.setdefault(trial.name, trial)) is not trial:
            raise ConfigError(
                f"{where}: {other.task!r}, {other.preset!r} and {trial.task!r}, {trial.preset!r} would share the "
                f"folder {trial.name}; give one of them another label"
            )
    return trials


def write_plan(trials: list[Trial], folder: Path) -> None:
    """Records the trials in the results folder.

    Raises:
        CheckpointError: the folder can't be written to.
    """
    rows = [{key: getattr(trial, key) for key in ("name", "task", "preset", "seed", "episodes")} for trial in trials]
    text = json.dumps({"format": 1, "trials": rows}, indent=1)
    try:
        files.write_text(folder / PLAN, text)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written to ({error.strerror})") from None


def _trial(task, of_task, preset, of_preset, seed, shared, cells, where) -> Trial:
    chosen = {**shared, **of_task, **of_preset, "seed": seed}
    for (tasks, presets, seeds), settings in cells:
        if task in tasks and preset in presets and seed in seeds:
            chosen |= settings
    episodes = _EPISODE.check(chosen.pop("episode"), where)
    base = chosen.pop("preset")
    config = load_config(base, overrides=chosen, source=f"{where}, {task}, {preset}")
    return Trial(task, preset, seed, episodes, config)


def _axis(values, own: str, where: str) -> dict[str, dict]:
    """Label → settings, with the name that the label stands for under `own`."""
    if isinstance(values, list):
        if doubled := [label for i, label in enumerate(values) if label in values[:i]]:
            raise ConfigError(f"{where}: {doubled[0]!r} is listed twice")
        if not all(isinstance(label, str) for label in values):
            raise ConfigError(f"{where}: expected names; for names with settings write a mapping")
        values = dict.fromkeys(values)
    if not isinstance(values, dict) or not values or not all(isinstance(label, str) for label in values):
        raise ConfigError(f"{where}: expected a list of names, or a mapping of labels to settings")
    axis = {}
    for label, given in values.items():
        place = f"{where}, {label}"
        if not label or label[0] == "_":
            raise ConfigError(f"{where}: the label {label!r} is empty or begins with _; give it a name")
        given = dict(_mapping(given, place))
        name = given.pop(own, label)
        if not isinstance(name, str):
            raise ConfigError(f"{place}: {own} = {name!r} is not a name")
        axis[label] = {**_settings(given, place), own: name}
    return axis


def _seeds(values, where: str) -> list[int]:
    place = f"{where}, seeds"
    if type(values) is int and 0 < values <= _MAX_TRIALS:
        values = list(range(values))
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{place}: expected a number or a list of seeds")
    seeds = [KEYS["seed"].check(value, place) for value in values]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{place}: the same seed is listed twice")
    return seeds


def _cells(values, tasks, presets, seeds, where: str) -> list[tuple[tuple, dict]]:
    if not isinstance(values, list):
        raise ConfigError(f"{where}, cells: expected a list")
    cells = []
    for number, cell in enumerate(values, 1):
        place = f"{where}, cell {number}"
        cell = _mapping(cell, place)
        _known(cell, _CELL, place)
        matched = tuple(
            _matching(cell[key], labels, key, place) if key in cell else list(labels)
            for key, labels in (("task", tasks), ("preset", presets))
        )
        only = [KEYS["seed"].check(cell["seed"], place)] if "seed" in cell else seeds
        if not set(only) <= set(seeds):
            raise ConfigError(f"{place}: seed {only[0]} is not one of the sweep's ({', '.join(map(str, seeds))})")
        cells.append(((*matched, only), _settings(cell.get("set"), place)))
    return cells


def _matching(pattern, labels, key: str, place: str) -> list[str]:
    matches = [label for label in labels if fnmatch.fnmatchcase(label, str(pattern))]
    if not matches:
        raise ConfigError(f"{place}: no {key} is called {pattern!r}{did_you_mean(pattern, labels)}")
    return matches


def _settings(values, place: str) -> dict:
    """Configuration keys and `episode`, each checked."""
    checked = {}
    values = _mapping(values, place)
    names = [name for name in (*KEYS, "episode") if name not in _AXES]
    for name in _AXES:
        if name in values:
            raise ConfigError(f"{place}: {name!r} is not a setting here; the sweep's `{name}s` say it")
    _known(values, names, place)
    for name, value in values.items():
        checked[name] = (_EPISODE if name == "episode" else KEYS[name]).check(value, place)
    return checked


def _mapping(values, place: str) -> dict:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{place}: expected a mapping of keys to values, found {type(values).__name__}")
    return values


def _known(values: dict, names, place: str) -> None:
    for name in values:
        if name not in names:
            raise ConfigError(f"{place}: unknown key {name!r}{did_you_mean(name, names)}")


def _file_name(label: str) -> str:
    return re.sub(r"[^\w.+=:-]|^\.+", "_", label)


def describe(trials: list[Trial]) -> str:
    """The size of a sweep in words."""
    counts = (len({getattr(trial, axis) for trial in trials}) for axis in ("task", "preset", "seed"))
    words = [f"{n} {word}{'' if n == 1 else 's'}" for n, word in zip(counts, ("task", "preset", "seed"), strict=True)]
    return f"{' × '.join(words)}: {len(trials)} trials"
