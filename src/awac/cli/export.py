"""`awac export`: a checkpoint without its training state."""

from __future__ import annotations

from pathlib import Path

from awac.cli.options import path, positive

ABOUT = "a checkpoint without its training state"
INTERRUPTED = "the export is incomplete; run it again"
"""What is true after Ctrl-C."""


def add(parser) -> None:
    """Adds the options."""
    parser.add_argument("--ckpt_path", type=path, required=True, help="folder of a training run")
    parser.add_argument("--episode", type=positive, help="a certain checkpoint (default: the newest complete one)")
    parser.add_argument("--out", type=path, required=True, help="folder to write to")


def run(args) -> None:
    """Runs the command."""
    from awac.runs.export import export

    print(export(Path(args.ckpt_path), Path(args.out), args.episode))
