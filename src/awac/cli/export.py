"""`awac export`: a checkpoint without its training state, or its policy as a file of another format."""

from __future__ import annotations

from pathlib import Path

from awac.cli.options import path, positive
from awac.errors import ConfigError

ABOUT = "a checkpoint without its training state, or its policy as ONNX, MindIR or NumPy"
INTERRUPTED = "the export is incomplete; run it again"
"""Printed after Ctrl-C."""


def add(parser) -> None:
    """Adds the options."""
    from awac.runs.export import formats

    parser.add_argument("--ckpt_path", type=path, required=True, help="folder of a training run")
    parser.add_argument("--episode", type=positive, help="a certain checkpoint (default: the newest complete one)")
    parser.add_argument(
        "--format",
        choices=formats.names(),
        help="write the policy alone, as one file with a model card beside it, and check it against the checkpoint "
        "(default: a folder that awac reads; onnx needs the packages onnx and onnxruntime)",
    )
    parser.add_argument(
        "--out", type=path, help="folder to write to, or with --format the file (default: export/ in the run's folder)"
    )


def run(args) -> None:
    """Runs the command."""
    folder, out = Path(args.ckpt_path), Path(args.out) if args.out else None
    if args.format:
        from awac.runs.export.policy_file import export_policy

        print(*export_policy(folder, args.format, out, args.episode), sep="\n")
    elif out is None:
        raise ConfigError("--out is needed: the folder to write to (or --format for a single file)")
    else:
        from awac.runs.export.slim import export

        print(export(folder, out, args.episode))
