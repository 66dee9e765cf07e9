"""Option types and the options of configuration keys, for every command."""

from __future__ import annotations

import argparse
import os
import typing


def add_keys(group, section: str | None = None, names: tuple[str, ...] = ()) -> None:
    """Adds an option for each key of a section, or for those named."""
    from awac.config import KEYS

    for key in KEYS.values():
        if key.section != section and key.name not in names:
            continue
        kinds = key.options()
        several = dict in kinds or any(typing.get_origin(kind) is tuple for kind in kinds)
        shape: dict = {"nargs": "+"} if several else {"nargs": "?", "const": "true"} if bool in kinds else {}
        default = " ".join(map(str, key.default)) if isinstance(key.default, tuple) else key.default
        limits = f"; {key.range.words}" if key.range else f"; one of {', '.join(key.names())}" if key.names() else ""
        word = "KEY=VALUE" if dict in kinds else next(k for k in kinds if k is not type(None))
        group.add_argument(
            f"--{key.name}",
            dest=f"key:{key.name}",
            metavar=word if isinstance(word, str) else (*typing.get_args(word), word)[0].__name__.upper(),
            default=argparse.SUPPRESS,
            help=f"{key.help} (default: {default}{limits})".replace("%", "%%"),
            **shape,
        )


def given_keys(args) -> dict:
    """The keys that were given as options."""
    from awac.config import KEYS

    options = {name[4:]: text for name, text in vars(args).items() if name.startswith("key:")}
    return {name: KEYS[name].parse(text, f"--{name}") for name, text in options.items()}


def named_task(args):
    """The task that the options name."""
    from awac.config import load_config
    from awac.envs import Task

    return Task.of(load_config(overrides={"task": args.task, **given_keys(args)}, source="command line").env)


def path(text: str) -> str:
    """A path with ~ expanded; after an option's =, shells don't do it.

    Raises:
        ArgumentTypeError: it is empty, as that of a shell variable that is not set.
    """
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return os.path.expanduser(text)


def named_folder(text: str) -> str:
    """[NAME=]FOLDER with ~ expanded."""
    name, sign, folder = text.rpartition("=")
    return name + sign + path(folder)


def positive(text: str) -> int:
    """A whole number above 0."""
    return _whole(text, 1, "a positive whole number")


def natural(text: str) -> int:
    """A whole number, 0 or more."""
    return _whole(text, 0, "a whole number, 0 or more")


def seconds(text: str) -> float:
    """A time above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 3600.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _whole(text: str, minimum: int, expected: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 12 or int(text) < minimum:
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
    return int(text)
