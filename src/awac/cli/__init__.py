"""The command `awac`: one module for each subcommand. Every user mistake ends in one line on stderr and exit code 1.

A subcommand's module has `ABOUT` (its line in the help), `INTERRUPTED` (printed after Ctrl-C), `add(parser)` and
`run(args)`, which returns the exit code or None.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import re
import signal
import sys
import typing

from awac import __version__
from awac.errors import NO_HOME, AWACError, Interrupted, did_you_mean

COMMANDS = (
    "train",
    "eval",
    "evaluate-offline",
    "sweep",
    "report",
    "collect",
    "convert",
    "export",
    "doctor",
    "bench",
    "completion",
)

_REFUSED = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)
"""Errors of a path that the user gave, wherever it is looked at first."""


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand; returns the exit code: 0 done, 1 a mistake the user can put right, 128 + n signal n."""
    interrupted = "nothing was done yet"
    try:
        if hasattr(sys.stdout, "reconfigure"):  # a locale without ± must not raise
            sys.stdout.reconfigure(errors="replace")
        if "" not in sys.path:  # --task my_module:MyEnv-v0, as `python -m` finds it
            sys.path.insert(0, "")
        args = _parse(argv)
        interrupted = args.interrupted
        return args.run(args) or 0
    except AWACError as error:
        sys.stdout.flush()
        print(f"awac: error: {error}", file=sys.stderr)
        return 1
    except Interrupted as stop:
        sys.stdout.flush()
        print(f"awac: stopped by {signal.Signals(stop.number).name}: {stop.text}", file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt as stop:
        sys.stdout.flush()
        kept = str(stop) or interrupted
        print(f"awac: interrupted; {kept}", file=sys.stderr)
        return 130
    except RuntimeError as error:
        if "home directory" not in str(error):  # pathlib's message
            raise
        print(f"awac: error: {NO_HOME}", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(
            f"awac: error: out of memory ({error or 'no details'}); use smaller data, batches or networks",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:
        _drop_output()
        return 1
    except OSError as error:
        if error.errno in _REFUSED and error.filename:
            sys.stdout.flush()
            print(f"awac: error: {error.filename}: {error.strerror}", file=sys.stderr)
            return 1
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or error.filename:
            raise
        _drop_output()
        print(
            f"awac: error: the log can't be written ({error.strerror}); free some space and continue with --resume",
            file=sys.stderr,
        )
        return 1


def _drop_output() -> None:
    """Discards what is in stdout's buffer; Python would report an error at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one line with exit code 2; negative numbers in any notation are values."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)
        self._negative_number_matcher = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")

    def _check_value(self, action, value) -> None:
        if action.choices is not None and value not in action.choices:
            near = did_you_mean(value, action.choices)
            raise argparse.ArgumentError(action, f"{value!r} is unknown{near} (one of {', '.join(action.choices)})")

    def error(self, message: str) -> typing.NoReturn:
        self.exit(2, f"awac: error: {message}; {self.prog} --help lists the options\n")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    argv = sys.argv[1:] if argv is None else argv
    parser, commands = _parser(next((text for text in argv if not text.startswith("-")), None))
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        command = commands[args.command]
        flags = [text.partition("=")[0] for text in unknown if text.startswith("--")]
        if not flags:
            command.error(f"unrecognised argument {unknown[0]!r}")
        command.error(f"unknown option {flags[0]}{did_you_mean(flags[0], command._option_string_actions)}")
    return args


def full_parser() -> tuple[_Parser, dict[str, _Parser]]:
    """The parser with the options of every command, and the commands' own parsers by name."""
    return _parser(None, every=True)


def _parser(chosen: str | None, every: bool = False) -> tuple[_Parser, dict[str, _Parser]]:
    parser = _Parser(prog="awac", description="AWAC (arXiv 2006.09359) on MindSpore.")
    parser.add_argument("--version", action="version", version=f"awac {__version__}")
    group = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"awac.cli.{name.replace('-', '_')}")
        command = group.add_parser(name, help=module.ABOUT)
        command.set_defaults(interrupted=module.INTERRUPTED, run=module.run)
        if every or name == chosen:  # the others' options would load what only they need
            module.add(command)
    return parser, group.choices
