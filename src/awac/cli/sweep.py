"""`awac sweep`: tasks × presets × seeds, side by side."""

from __future__ import annotations

from pathlib import Path

from awac.cli.options import path, positive, seconds

ABOUT = "tasks × presets × seeds, side by side"
INTERRUPTED = "all trials are kept as they were; the same command continues them"
"""Printed after Ctrl-C."""


def add(parser) -> None:
    """Adds the options."""
    parser.description = (
        "Trains every task with every preset and seed of a YAML file through Ray (extra `sweep`), one core per trial. "
        "The same command continues a sweep that was stopped."
    )
    parser.add_argument("file", type=path, metavar="FILE.yaml", help="the sweep, see docs/sweeps.md")
    parser.add_argument("--results", type=path, metavar="FOLDER", help="results folder (default: sweeps/FILE)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=positive, help="trials side by side (default: a core each)")
    where.add_argument("--address", help="of a Ray cluster, such as auto or HOST:6379 (default: this machine)")
    parser.add_argument("--every", type=seconds, default=60.0, help="seconds between tables (default: %(default)s)")
    parser.add_argument("--dry_run", action="store_true", help="check the file, show what is done, run nothing")


def run(args) -> int:
    """Runs the command."""
    from awac.sweep.engine import sweep
    from awac.sweep.plan import read_plan

    trials = read_plan(args.file)
    results = args.results or Path("sweeps") / Path(args.file).stem
    return sweep(trials, results, address=args.address, workers=args.workers, every=args.every, dry=args.dry_run)
