"""`awac report`: curves and score table of finished runs."""

from __future__ import annotations

from awac.cli.options import named_folder, path

ABOUT = "curves and score table of finished runs"
INTERRUPTED = "no report was written; the runs are as they were"
"""What is true after Ctrl-C."""


def add(parser) -> None:
    """Adds the options."""
    parser.add_argument(
        "runs",
        type=named_folder,
        nargs="+",
        metavar="[NAME=]FOLDER",
        help="runs; those of one name are seeds of a curve",
    )
    parser.add_argument("--figure", type=path, metavar="PNG", help="image to write")
    parser.add_argument("--reference", type=float, help="mean return of the behaviour data, drawn as a line")
    parser.add_argument("--title", help="title of the figure (default: the task)")


def run(args) -> None:
    """Runs the command."""
    from awac.report.curves import report

    print(report(args.runs, args.figure, args.reference, args.title))
