"""Which columns of a table make up which key: by their names, or by a mapping file beside the table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from awac.config.keys import YAML_ERRORS
from awac.config.load import UniqueKeys
from awac.data.columns import REQUIRED, VECTORS, missing_key, named
from awac.data.ends import DONES, FLAGS, MASKS, STEPS, TERMINALS, TERMINATED
from awac.errors import DataError, did_you_mean, first_line

_AFTER = {
    "observations": r"([_.\[ -].*)?",
    "next_observations": r"([_.\[ -].*)?",
    "actions": r"([_\[ -]?\d+\]?|\..*)?",  # not action_log_prob
}
"""What may come after the name of a vector's column."""
_ABOUT = {"next", "value", "values", "id", "ids", "time", "timestamp", "valid", "is_valid"}
"""What follows the name in columns that are about an observation, not part of it: state_value, obs_id, obs_is_valid."""
_LATER = ("tp1", "t1", "prime")
"""What marks a next observation beside one with the mark t, or with none."""
_INNER = "observations, next"
"""Key of columns such as `obs_next_0` until it is known what they are."""


class _Texts(UniqueKeys):
    """Reads everything as text: a column may be called `on`, 01 or null."""


_Texts.yaml_implicit_resolvers = {}


class _Part(NamedTuple):
    column: str
    words: tuple[str, ...]
    """What follows the vector's name: () for `obs`, ("0",) for `obs_0`, ("arm", "x") for `obs.arm.x`."""
    alias: str = ""
    """The vector's name in the column: `obs`."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """(0,) for `obs_0`; () if there are words, or nothing."""
        return tuple(map(int, self.words)) if all(word.isdecimal() for word in self.words) else ()


def columns_of(header: list[str], path: Path) -> tuple[dict[str, list[str]], list[str]]:
    """The columns of each key that a table has, and warnings about columns that are not read.

    What the mapping file doesn't name is recognised by name, such as `obs_0`, `obs.speed`, `action[1]` or `reward`. A
    mapping of all that is required decides alone: ends of episodes and next observations that it leaves out are warned
    about.

    Raises:
        DataError: a required key has no column, a name occurs twice, the mapping is invalid, or the columns of the next
            observation have other names than those of the observation.
    """
    mapped, beside = _mapped(path, header), f"{path.stem}.columns.yaml"
    found: dict[str, list[_Part]] = {}
    for column in header:
        key, part = _recognised(column)
        if key and key not in mapped and not any(column in columns for columns in mapped.values()):
            found.setdefault(key, []).append(part)
    if named(mapped).keys() >= set(REQUIRED):
        telling = (*FLAGS, "next_observations", _INNER)
        left = [part.column for key, parts in found.items() if key in telling for part in parts]
        text = f"{listed(left)}: not read, as {beside} says what is; if it belongs to the data, map it there"
        return _checked(mapped, header, path), [text] if left else []
    if mapped.keys() & {*TERMINATED, *TERMINALS, *MASKS, *DONES}:  # the user says which column is the terminal flag
        for key in (*TERMINATED, *TERMINALS, *MASKS):
            found.pop(key, None)
    warnings = []
    if later := _place_later(found):
        warnings.append(f"{listed(later)}: read as the next observation; if they are features, map them in {beside}")
    _place_inner(found)
    for key in found.keys() & VECTORS.keys():
        kept = _members(found[key])
        if left := [part.column for part in found[key] if part not in kept]:
            text = f"{listed(left)}: not read as part of {key}; if that is wrong, map all its columns in {beside}"
            warnings.append(text)
        aliases = list(dict.fromkeys(part.alias for part in kept))
        if len(aliases) > 1 and key in ("observations", "actions"):
            text = f"{key} is made up of columns under several names ({', '.join(aliases)}): if one of them is another"
            warnings.append(f"{text} version of it, map the columns to use in {beside}")
        found[key] = kept
    own = [_recognised(column) for column in mapped.get("observations", ())]
    following = found.get("next_observations", [])
    if own and following:
        column_of = {part.words: part.column for part in following}
        if [key for key, _ in own] == ["observations"] * len(following) and column_of.keys() == {
            p.words for _, p in own
        }:
            mapped["next_observations"] = [column_of[part.words] for _, part in own]
        else:
            names = listed([part.column for part in following])
            warnings.append(f"{names}: not read, as {beside} maps observations but not next_observations; map both")
            del found["next_observations"]
    found = {key: parts for key, parts in found.items() if key not in STEPS or _is_single(parts, header)}
    return _checked({**_ordered(found, str(path)), **mapped}, header, path), sorted(warnings)


def _is_single(parts: list[_Part], header: list[str]) -> bool:
    """Whether one column is meant; `t` and `T` may be a time and a temperature."""
    return len(parts) == 1 and header.count(parts[0].column) == 1


def _place_inner(found: dict[str, list[_Part]]) -> None:
    """Makes `obs_next_0` or `obs.x_next` the next observation if each part has one, else a part of the vector."""
    inner = found.pop(_INNER, [])
    own = [part.words for part in _members(found.get("observations", []))]
    without = _without(inner, ("next",))
    if "next_observations" not in found and sorted(part.words for part in without) == sorted(own):
        found["next_observations"] = without
    elif inner:
        found.setdefault("observations", []).extend(inner)


def _place_later(found: dict[str, list[_Part]]) -> list[str]:
    """Makes `obs_tp1_0` or `obs_t1_0` the next observation of `obs_t_0`, and `obs_prime_0` that of `obs_0`.

    They stay part of the vector unless each part has one; `t1` is the later one of `t` only.

    Returns:
        The columns that it makes one.
    """
    parts = found.get("observations", [])
    later = _without(parts, _LATER)
    columns = {part.column for part in later}
    own = [part for part in parts if part.column not in columns]
    now = _without(own, ("t",))
    if len(now) < len(own) and any("t1" in part.words for part in parts if part.column in columns):
        return []
    own = now if len(now) == len(own) else own
    pairs = sorted(part.words for part in later) == sorted(part.words for part in _members(own))
    if not later or not pairs or "next_observations" in found:
        return []
    found["observations"], found["next_observations"] = own, later
    return [part.column for part in later]


def _without(parts: list[_Part], marks: tuple[str, ...]) -> list[_Part]:
    """Those of the parts that have one of the words first or last, without it."""
    found = []
    for part in parts:
        if part.words and (part.words[0] in marks or part.words[-1] in marks):
            found.append(part._replace(words=part.words[1:] if part.words[0] in marks else part.words[:-1]))
    return found


def listed(names: list[str]) -> str:
    """The names for a message, shortened if there are many."""
    return ", ".join(names if len(names) <= 4 else [*names[:2], "…", names[-1]])


def words_of(text: str) -> tuple[str, ...]:
    """`arm.x[0]` → ("arm", "x", "0")."""
    return tuple(re.findall(r"[^_.\[\] -]+", text.lower()))


def inner_words(columns: Sequence[str]) -> list[tuple[str, ...]]:
    """What follows `obs` in each name, or all of a name that does not begin like that; without a `t` that all have."""
    found = []
    for column in columns:
        key, part = _recognised(column)
        found.append(part.words if key in ("observations", _INNER) else words_of(column))
    for place, rest in ((0, slice(1, None)), (-1, slice(-1))):
        if all(len(words) > 1 and words[place] == "t" for words in found):
            found = [words[rest] for words in found]
    return found


def _recognised(column: str) -> tuple[str | None, _Part]:
    """The key that a column belongs to by its name, None for no key; and which part of it the column is."""
    lowered = column.lower()
    if lowered in FLAGS or lowered in STEPS:
        return lowered, _Part(column, ())
    for key, aliases in VECTORS.items():
        for alias in aliases:
            if match := re.fullmatch(f"{alias}({_AFTER.get(key, '')})", lowered):
                words = words_of(match[1])
                inner = key == "observations" and words and "next" in (words[0], words[-1])
                return _INNER if inner else key, _Part(column, words, alias)
    return None, _Part(column, ())


def _members(parts: list[_Part]) -> list[_Part]:
    """The columns that make up the vector: those with a number if there are any, else those with other names."""
    depths = [len(part.numbers) for part in parts if part.numbers]
    if depths:
        return [part for part in parts if len(part.numbers) == min(depths)]
    return [part for part in parts if "_".join(part.words) not in _ABOUT] or parts


def _ordered(found: dict[str, list[_Part]], source: str) -> dict[str, list[str]]:
    """A vector's columns by their numbers, else as in the header; the next observation's as the observation's.

    Columns under several names, such as `obs_0` and `state_0`, stay as in the header.

    Raises:
        DataError: the columns of the next observation have other names than those of the observation.
    """
    for key, parts in found.items():
        if len({part.numbers for part in parts}) == len(parts):
            found[key] = sorted(parts, key=lambda part: part.numbers)
    groups = {key: [part.column for part in parts] for key, parts in found.items() if parts}
    own, following = (found.get(key, []) for key in ("observations", "next_observations"))
    words, next_words = ([part.words for part in parts] for parts in (own, following))
    numbered = all(part.numbers for part in (*own, *following))  # paired by order
    unique = len(set(words)) == len(words) and len(set(next_words)) == len(next_words)
    if not own or not following or numbered or not unique or [()] in (words, next_words):
        return groups
    if odd := set(words) ^ set(next_words):
        column = next(part.column for part in (*own, *following) if part.words in odd)
        raise DataError(
            f"{source}: '{column}' has no partner among observations and next_observations; rename the columns, or "
            "map them in a file .columns.yaml"
        )
    column_of = {part.words: part.column for part in following}
    groups["next_observations"] = [column_of[part.words] for part in own]
    return groups


def _mapped(path: Path, header: list[str]) -> dict[str, list[str]]:
    """The mapping in the file beside the table; empty if there is none."""
    beside = path.with_name(f"{path.stem}.columns.yaml")
    if not beside.is_file():
        return {}
    try:
        mapping = yaml.load(beside.read_text(encoding="utf-8"), _Texts)
    except (OSError, *YAML_ERRORS) as error:
        raise DataError(f"{beside}: not readable as YAML ({first_line(error)})") from None
    known = (*VECTORS, *FLAGS)
    takes = f"must map {', '.join(VECTORS)}, or a flag such as timeouts or episode, to names of columns"
    if not isinstance(mapping, dict):
        raise DataError(f"{beside}: {takes}")
    for key in mapping:
        if key not in known:
            raise DataError(f"{beside}: unknown key {key!r}{did_you_mean(key, known) or f'; it {takes}'}")
    names_of = {key: names if isinstance(names, list) else [names] if names else [] for key, names in mapping.items()}
    groups = {key: [str(name) for name in names] for key, names in names_of.items()}
    for key, names in groups.items():
        if not names:
            raise DataError(f"{beside}: {key}: names no column; write its columns or leave the line out")
        if twice := [name for name in names if names.count(name) > 1]:
            raise DataError(f"{beside}: {key}: names column '{twice[0]}' twice; remove one of them")
        unknown = [name for name in names if name not in header]
        if unknown:
            has = ", ".join(header[:12])
            raise DataError(f"{beside}: {key}: {path.name} has no column '{unknown[0]}', it has {has}")
    return groups


def _checked(groups: dict[str, list[str]], header: list[str], path: Path) -> dict[str, list[str]]:
    present = named(groups)
    for key in REQUIRED:
        if key not in present:
            beside = f"{path.stem}.columns.yaml"
            raise DataError(
                f"{missing_key(str(path), key, header)}; a file {beside} beside it can say which column it is"
            )
    for column in (column for columns in groups.values() for column in columns):
        if header.count(column) > 1:
            raise DataError(f"{path}: {header.count(column)} columns are named '{column}'; rename or remove the others")
    return groups
