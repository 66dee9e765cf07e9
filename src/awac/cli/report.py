"""`awac report`: curves and score tables of finished runs, or of a sweep."""

from __future__ import annotations

from pathlib import Path

from awac.cli.options import named_folder, path
from awac.errors import ConfigError

ABOUT = "curves and score tables of finished runs, or of a sweep"
INTERRUPTED = "no report was written; the runs are as they were"
"""Printed after Ctrl-C."""


def add(parser) -> None:
    """Adds the options."""
    parser.add_argument(
        "runs",
        type=named_folder,
        nargs="+",
        metavar="[NAME=]FOLDER",
        help="runs; those of one name are seeds of a curve. Or a sweep's results: the folder, or the file of --json; "
        "several are parts of one sweep",
    )
    parser.add_argument("--figure", type=path, metavar="PNG", help="image to write, a panel a task")
    parser.add_argument(
        "--reference",
        type=float,
        help="mean return of the behaviour data, drawn as a line (default: what the runs noted)",
    )
    parser.add_argument("--title", help="title of the figure or report (default: the task, or the sweep's folder)")
    parser.add_argument("--html", type=path, metavar="FILE", help="the whole report as one HTML page")
    parser.add_argument("--json", type=path, metavar="FILE", help="a sweep's results, for a later `awac report FILE`")
    parser.add_argument(
        "--markdown", type=path, metavar="FILE", help="the whole report, figures beside it (a sweep: FOLDER/report.md)"
    )


def run(args) -> None:
    """Runs the command."""
    from awac.report.whole import Outputs, is_sweep, write_report

    swept = is_sweep(args.runs[0])
    if swept:
        if args.reference is not None:
            raise ConfigError("--reference is for single runs; the report of a sweep knows its data")
        if Path(args.runs[0]).is_dir():
            args.markdown = args.markdown or str(Path(args.runs[0]) / "report.md")
    else:
        if args.json:
            raise ConfigError("--json is for the results of a sweep")
    write_report(args.runs, args.title, Outputs(args.html, args.markdown, args.figure, args.json), args.reference)
