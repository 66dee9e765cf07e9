"""`awac collect`: record a data set in D4RL's layout."""

from __future__ import annotations

from pathlib import Path

from awac.cli.options import add_keys, named_task, natural, path, positive
from awac.errors import DataError

ABOUT = "record a data set in D4RL's layout"
INTERRUPTED = "nothing was recorded"
"""Printed after Ctrl-C."""


def add(parser) -> None:
    """Adds the options."""
    parser.add_argument("--task", default="ant-expert-v2", help="environment (default: %(default)s)")
    add_keys(parser, names=("env_kwargs", "max_episode_steps"))
    parser.add_argument(
        "--policy",
        default="expert",
        help="random, medium, expert, a file name in ckpt/behaviour, an .npz file, or a run's folder, whose policy "
        "acts as in training (default: %(default)s)",
    )
    parser.add_argument("--rows", type=positive, help="transitions to record (default: 500000)")
    parser.add_argument("--seed", type=natural, default=0, help="seed of the recording (default: %(default)s)")
    parser.add_argument("--deterministic", action="store_true", help="record the mean action instead of samples")
    parser.add_argument(
        "--workers",
        type=positive,
        help="processes (default: one a core, fewer for few rows); they decide nothing if an episode depends on its "
        "reset seed alone",
    )
    parser.add_argument("--out", type=path, required=True, help="the .hdf5 file to write")


def run(args) -> None:
    """Runs the command."""
    from awac.data.behaviour import shipped_names
    from awac.data.collect import record
    from awac.data.sources.registry import claimed
    from awac.runs.behaviour import trained_policy

    if claimed(str(args.out)) or str(args.out).endswith(".npz"):
        raise DataError(
            f"--out {args.out}: the file is HDF5, so name it .hdf5; `awac convert` makes other formats of it"
        )
    folder, names = Path(args.policy).expanduser(), ("random", "medium", "expert", *shipped_names())
    print(
        record(
            named_task(args),
            trained_policy(folder) if folder.is_dir() and args.policy not in names else args.policy,
            args.out,
            rows=args.rows,
            seed=args.seed,
            deterministic=args.deterministic,
            workers=args.workers,
        )
    )
