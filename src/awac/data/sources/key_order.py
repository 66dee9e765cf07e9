"""A table's named observation columns in the order of the environment or of a policy's training.

An environment that observes a Dict has the order of its keys, as `Guard` flattens it; a policy that of its table.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import gymnasium
import numpy as np
from gymnasium import spaces

from awac.data.columns import named
from awac.data.sources.registry import Recording
from awac.data.sources.table_names import inner_words, listed, words_of
from awac.envs.guard import guard_of, parts_of
from awac.errors import DataError

Words = tuple[str, ...]


def by_keys(recording: Recording, env: gymnasium.Env | None) -> Recording:
    """The recording with its observation columns in the environment's order, as far as their names tell it.

    Numbered columns are in the environment's order already; other names that are not its keys are a warning.

    Raises:
        DataError: the columns are named by the keys, but not one for each value; or a part that the environment gives
            one-hot is a number.
    """
    guard = guard_of(env) if env is not None else None
    if guard is None:
        return recording
    _refuse_numbers(recording, parts_of(guard.env.observation_space))
    if not isinstance(guard.env.observation_space, spaces.Dict):
        return recording
    parts = [(path, spaces.flatdim(part)) for path, part in parts_of(guard.env.observation_space)]
    names, keys = recording.names, [".".join(path) for path, _ in parts]
    if len(names) != sum(size for _, size in parts) or len(parts) == 1:  # another number is refused where rows are read
        return recording
    inner = inner_words(names)
    numbered = all(word.isdecimal() for words in inner for word in words)
    sizes = [(tuple(word for key in path for word in words_of(key)), size) for path, size in parts]
    whole = [words_of(name) for name in names]
    for words in [whole] if numbered else [inner, whole]:
        places = [_place(name, sizes) for name in words]
        if None not in places and len(set(places)) == len(sizes):
            order = _ordered(recording, words, places, sizes)
            return _taken(recording, order, f"observations in the order of the task's keys: {listed(keys)}")
    if numbered:
        return recording
    text = f"the task observes {listed(keys)}, in this order; columns {listed(list(names))} are taken as they stand"
    return dataclasses.replace(recording, warnings=(*recording.warnings, f"{text}: name them by its keys"))


def by_names(recording: Recording, columns: Sequence[str]) -> Recording:
    """The recording with its observation columns in the order of these names; other names are a warning."""
    if not columns or not recording.names:
        return recording
    names, wanted = inner_words(recording.names), inner_words(columns)
    if sorted(names) != sorted(wanted):
        here = listed(list(recording.names))
        text = f"observations were {listed(list(columns))} in training, here they are {here}, taken as they stand"
        return dataclasses.replace(recording, warnings=(*recording.warnings, text))
    order = [names.index(name) for name in wanted]
    return _taken(recording, order, f"observations in the order of training: {listed(list(columns))}")


def _refuse_numbers(recording: Recording, parts: list[tuple[Words, spaces.Space]]) -> None:
    key = named(recording.columns).get("observations")
    digits = {".".join(path): part for path, part in parts if isinstance(part, (spaces.Discrete, spaces.MultiDiscrete))}
    if not digits or key is None:
        return
    whole = sum(spaces.flatdim(part) for _, part in parts)
    numbers = sum(part.nvec.size if isinstance(part, spaces.MultiDiscrete) else 1 for part in digits.values())
    stored = whole - sum(map(spaces.flatdim, digits.values())) + numbers
    if recording.columns[key][:1].size == stored != whole:
        text = f"{listed(list(digits))} is stored as a number, as Minari does, and the task gives it one-hot"
        raise DataError(
            f"{recording.path}: observations have {stored} values, the task's {whole}: {text}; store it so too"
        )


def _place(words: Words, sizes: list[tuple[Words, int]]) -> int | None:
    """The part whose key a name begins with, the longest one; None if there is none."""
    fitting = [i for i, (key, _) in enumerate(sizes) if words[: len(key)] == key]
    return max(fitting, key=lambda i: len(sizes[i][0]), default=None)


def _ordered(recording: Recording, words: list[Words], places: list, sizes: list[tuple[Words, int]]) -> list[int]:
    """The table's column for each value: by part, then by number, else as in the header."""
    rest = [name[len(sizes[place][0]) :] for name, place in zip(words, places, strict=True)]
    numbered = [all(word.isdecimal() for word in name) for name in rest]
    for place, count in Counter(places).items():
        own = [i for i in range(len(words)) if places[i] == place]
        if (
            count != sizes[place][1]
            or len({rest[i] for i in own}) < count
            or (count > 1 and len({numbered[i] for i in own}) > 1)
        ):
            columns, key = listed([recording.names[i] for i in own]), "_".join(sizes[place][0])
            text = f"'{key}' of the task has {sizes[place][1]} values and the table has {columns} for it"
            raise DataError(f"{recording.path}: {text}; name them {key}_0, {key}_1 and so on")
    numbers = [tuple(map(int, name)) if digits else () for name, digits in zip(rest, numbered, strict=True)]
    return sorted(range(len(words)), key=lambda i: (places[i], numbers[i]))


def _taken(recording: Recording, order: list[int], note: str) -> Recording:
    if order == sorted(order):
        return recording
    present = named(recording.columns)
    keys = [present[name] for name in ("observations", "next_observations") if name in present]
    columns = {**recording.columns, **{key: np.take(recording.columns[key], order, axis=1) for key in keys}}
    names = tuple(recording.names[i] for i in order)
    return dataclasses.replace(recording, columns=columns, names=names, notes=(*recording.notes, note))
