"""What a configuration key is: type, default, help, range and choices, and how a value of it is read and checked."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
import reprlib
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import yaml

from awac.errors import ConfigError, did_you_mean

_NOTHING = ("None", "null", "~", "")
YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""PyYAML also raises its constructors' own errors, for a 99th day of a month or a number of 5,000 digits."""


class Loader(yaml.SafeLoader):
    """Reads numbers as YAML 1.2 and Python write them: 1e-3 is one, 010 is ten. 12:30:00 and 2024-01-01 are text.

    PyYAML's YAML 1.1 reads them as text, 8, 45000 and a date. Words such as `on` are read as ever.
    """

    def construct_yaml_int(self, node):
        """A whole number, decimal unless it begins with 0x or 0b."""
        text = self.construct_scalar(node).replace("_", "")
        return int(text, 10 if text.lstrip("+-").isdigit() else 0)


_TAGS = {name: f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp")}
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in _TAGS.values()]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    _TAGS["int"], re.compile(r"[-+]?(0b[01_]+|[0-9][0-9_]*|0x[0-9a-fA-F_]+)$"), list("-+0123456789")
)
Loader.add_implicit_resolver(
    _TAGS["float"],
    re.compile(
        r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))([eE][-+]?[0-9]+)?$"
        r"|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


Loader.add_constructor(_TAGS["int"], Loader.construct_yaml_int)


class Range(typing.NamedTuple):
    """The values that a numeric key may take."""

    words: str
    holds: Callable[[float], bool]


POSITIVE = Range("positive", lambda value: value > 0)
NOT_NEGATIVE = Range("at least 0", lambda value: value >= 0)
SHARE = Range("between 0 and 1", lambda value: 0 <= value <= 1)
DECAY = Range("0, or from 1e-6 to below 1", lambda value: value == 0 or 1e-6 <= value < 1)  # in float32, 1 − 1e-8 is 1


def key(
    default, help: str, range: Range | None = None, choices: Iterable[str] | Callable[[], Iterable[str]] = ()
) -> typing.Any:
    """A configuration key.

    Args:
        default: its value if none is given.
        help: one sentence for the command line and the documentation.
        range: of a number; None takes any finite one.
        choices: of a text, or a function that gives them.
    """
    return dataclasses.field(default=default, metadata={"help": help, "range": range, "choices": choices})


@dataclass(frozen=True)
class Key:
    """What is known about a key: section, name, type, default, help, range and choices."""

    section: str
    name: str
    kind: typing.Any
    default: typing.Any
    help: str
    range: Range | None
    choices: Iterable[str] | Callable[[], Iterable[str]]

    def names(self) -> tuple[str, ...]:
        """The choices, or () if any value of the type is allowed."""
        return tuple(self.choices()) if callable(self.choices) else tuple(self.choices)

    def options(self) -> tuple:
        """The types that a value may have."""
        return typing.get_args(self.kind) if isinstance(self.kind, types.UnionType) else (self.kind,)

    def check(self, value, source: str):
        """The value in the key's type, inside its range.

        Raises:
            ConfigError: it is invalid; `source` says where it came from.
        """
        value = _plain(value)
        if isinstance(value, str) and value == "None" and type(None) in self.options():  # as the help writes it
            return None
        if value == "" and type(None) in self.options():
            raise ConfigError(f"{source}: {self.name} is empty; leave it out, or give a value")
        value = _typed(self, value, source)
        if value is not None and self.range and not self.range.holds(value):
            raise ConfigError(f"{source}: {self.name} = {value!r} must be {self.range.words}")
        if (names := self.names()) and value not in names:
            raise ConfigError(
                f"{source}: {self.name} = {value!r}{did_you_mean(value, names)} (one of {', '.join(names)})"
            )
        return value

    def parse(self, text: str | list[str], source: str):
        """The value of a text from the command line: a number, or YAML; string keys take the text itself."""
        if str in self.options():
            return text
        several = any(option is dict or typing.get_origin(option) is tuple for option in self.options())
        parts = [text] if isinstance(text, str) else text or [""]
        if several and isinstance(text, str) and not text.lstrip().startswith(("{", "[")):  # of --set, in one piece
            parts = text.split() or [text]
        if dict in self.options():
            return _mapping(parts, source)
        values = [_number(part, source) for part in parts]
        if several and not isinstance(values[0], list) and values not in ([None], ["None"]):
            return values
        return values[0]


def _number(text: str, source: str):
    """A decimal number, or another YAML value: YAML 1.1 would read 010 as 8, 1:30 as 90 and 1e5 as text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    value = parse_yaml(text, source)
    return text if type(value) is int else value


def _plain(value):
    """A value, or the parts of a list or mapping, without numpy's types, and paths as text.

    It goes no deeper: YAML's aliases can make of a few lines a tree of billions of parts.
    """
    if isinstance(value, dict):
        return {name: _plain_part(part) for name, part in value.items()}
    return type(value)(map(_plain_part, value)) if type(value) in (list, tuple) else _plain_part(value)


def _plain_part(value):
    if hasattr(value, "tolist"):
        return value.tolist()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def parse_yaml(text: str, source: str):
    """One YAML value; `source` names the option in the error."""
    try:
        return yaml.load(text, Loader)
    except YAML_ERRORS:
        raise ConfigError(f"{source} {text[:80]!r}: the value is not readable") from None


def split_pair(text: str, source: str) -> tuple[str, str]:
    """Splits KEY=VALUE."""
    name, sign, value = text.partition("=")
    if not sign:
        raise ConfigError(f"{source} takes KEY=VALUE, not {text[:80]!r}")
    return name, value


def _mapping(parts: list[str], source: str) -> dict | None:
    """`key=value ...` or one YAML mapping in braces."""
    if len(parts) == 1 and (parts[0].lstrip().startswith("{") or parts[0] in _NOTHING):
        return None if parts[0] in _NOTHING else parse_yaml(parts[0], source)
    pairs = [split_pair(part, source) for part in parts]
    return {name: None if value in _NOTHING else parse_yaml(value, source) for name, value in pairs}


def _typed(known: Key, value, source: str):
    for option in known.options():
        if option is type(None) and value is None:
            return None
        if option is str and isinstance(value, str):
            return value
        if option is dict and isinstance(value, dict) and all(isinstance(name, str) for name in value):
            return _stored(known, value, source)
        if option is bool and isinstance(value, bool):
            return value
        if option is int and _is_whole(value):
            return int(value)
        if option is float and (number := _as_float(value)) is not None:
            return number
        if option == tuple[int, ...] and _are_widths(value):
            return tuple(value)
        if option == tuple[float, ...] and (numbers := _as_floats(value)):
            return numbers
    expected = getattr(known.kind, "__name__", str(known.kind))
    expected = expected.replace("tuple[float, ...]", "list of numbers").replace("dict", "mapping")
    expected = expected.replace("tuple", "list of positive whole numbers")
    raise ConfigError(f"{source}: {known.name} = {_shown(value)} is not a valid {expected}")


def _stored(known: Key, value: dict, source: str) -> dict:
    """A mapping as a checkpoint's manifest gives it back: a tuple becomes a list."""
    try:
        if not _has_text_keys(value):
            raise TypeError("keys must be text")
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{source}: {known.name} = {_shown(value)} can't be stored with the run ({error}); use numbers, text, "
            "lists and mappings"
        ) from None


def _has_text_keys(value) -> bool:
    if isinstance(value, dict):
        return all(isinstance(name, str) and _has_text_keys(part) for name, part in value.items())
    return not isinstance(value, (list, tuple)) or all(map(_has_text_keys, value))


def _is_whole(value) -> bool:
    return (type(value) is int or (isinstance(value, float) and value.is_integer())) and abs(value) < 1 << 63


_REPR = reprlib.Repr()  # short: YAML's aliases can turn a small file into a huge value
_REPR.maxlevel, _REPR.maxlist, _REPR.maxdict, _REPR.maxstring, _REPR.maxother = 2, 4, 4, 60, 60


def _shown(value) -> str:
    try:
        return _REPR.repr(value)
    except ValueError:  # Python does not write out numbers of more than 4,300 digits
        return "a number of thousands of digits"


def _are_widths(value) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(type(v) is int and 0 < v <= 65536 for v in value)


def _as_floats(value) -> tuple[float, ...] | None:
    """Numbers from a list of them, or from a single one."""
    numbers = [_as_float(part) for part in (value if isinstance(value, (list, tuple)) else [value])]
    return None if None in numbers else tuple(number for number in numbers if number is not None)


def _as_float(value) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:  # YAML reads 1e-4 (no dot) as text
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
