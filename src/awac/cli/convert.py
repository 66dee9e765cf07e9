"""`awac convert`: a data set in another format."""

from __future__ import annotations

from awac.cli.options import path

ABOUT = "a data set in another format"
INTERRUPTED = "nothing was written"
"""Printed after Ctrl-C."""


def add(parser) -> None:
    """Adds the options."""
    parser.add_argument("dataset", type=path, metavar="SRC", help="id, minari:ID, or a file")
    parser.add_argument(
        "out",
        type=path,
        metavar="DST",
        help="the .hdf5, .npz, .csv or .parquet file to write, or minari:ID (extras `parquet`, `minari`)",
    )
    parser.add_argument("--download", action="store_true", help="fetch D4RL's own file if it is not on this machine")


def run(args) -> None:
    """Runs the command."""
    from awac.data.convert import convert

    print(convert(args.dataset, args.out, args.download))
