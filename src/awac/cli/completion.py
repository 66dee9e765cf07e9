"""`awac completion`: a script that completes awac's commands, options and values in a shell."""

from __future__ import annotations

import argparse

from awac.cli.options import named_folder, path
from awac.errors import EXTRAS, ConfigError

ABOUT = "a script for your shell that completes commands and options"
INTERRUPTED = "nothing was written"
"""Printed after Ctrl-C."""

SHELLS = ("bash", "zsh")


def add(parser) -> None:
    """Adds the options."""
    parser.description = (
        "Prints the script. bash: awac completion bash >> ~/.bash_completion; "
        "zsh: mkdir -p ~/.zfunc && awac completion zsh > ~/.zfunc/_awac, with ~/.zfunc in fpath."
    )
    parser.add_argument("shell", choices=SHELLS, help=" or ".join(SHELLS))


def run(args) -> None:
    """Runs the command."""
    from awac.cli import full_parser

    try:
        import shtab
    except ImportError:
        raise ConfigError(f"awac completion needs shtab: pip install {EXTRAS['completion']}") from None
    parser, commands = full_parser()
    for command in commands.values():
        for action in command._actions:
            _add_values(action, shtab.FILE)
    print(shtab.complete(parser, args.shell))


def _add_values(action: argparse.Action, file) -> None:
    """Adds the values of an option, which the parser doesn't know as choices."""
    from awac.config import KEYS, PRESETS
    from awac.training import loggers

    key = KEYS.get(action.dest.removeprefix("key:"))
    if action.type in (path, named_folder) or action.dest == "key:dataset":
        action.complete = file  # type: ignore[attr-defined]
    elif action.dest == "preset":
        action.choices = list(PRESETS)
    elif action.dest == "logger":
        action.choices = loggers.names()
    elif action.dest == "device_target":
        action.choices = ["CPU", "GPU", "Ascend", "Auto"]
    elif key and action.dest.startswith("key:"):
        action.choices = ["true", "false"] if bool in key.options() else list(key.names()) or None
