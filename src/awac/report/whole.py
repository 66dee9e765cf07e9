"""The whole report of a sweep or of single runs: read, put together, written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from awac.errors import ConfigError
from awac.report import markdown, page, summary
from awac.report.content import Section, curves, other_sections, score_sections
from awac.report.curves import draw
from awac.report.doctor import verdicts
from awac.report.figures import figure, panels
from awac.report.results import Results, Table
from awac.report.run import Run
from awac.report.run_table import table
from awac.sweep.plan import PLAN


def is_sweep(name: str) -> bool:
    """Whether it is a sweep's results folder, or the file that `awac report --json` made of one."""
    return (Path(name) / PLAN).is_file() or summary.is_summary(name)


@dataclass(frozen=True)
class Outputs:
    """Files to write, each None for none.

    Attributes:
        html: one page with everything.
        markdown: text, with its figures beside it.
        figure: image with the curves, a panel a task.
        results: JSON with a sweep's results, from which the report can be made again.
    """

    html: str | None = None
    markdown: str | None = None
    figure: str | None = None
    results: str | None = None


def write_report(runs: list[str], title: str | None, outputs: Outputs, reference: float | None = None) -> None:
    """Prints the tables of a sweep, or a table of single runs, and writes what is asked for.

    Args:
        runs: results folders or files of a sweep and its parts, or `[NAME=]FOLDER` of each run.
        title: of the report; None for the folder's or the tasks' names.
        outputs: what to write.
        reference: mean return of the behaviour data of single runs; None for the one that they know.

    Raises:
        DataError: nothing to report there.
        ConfigError: a file can't be written.
    """
    swept = is_sweep(runs[0])
    if swept:
        results = Results.joined([_read_sweep(name) for name in runs])
    else:
        read = [Run.read(name) for name in runs]
        results = Results.of_runs(read, ", ".join(dict.fromkeys(run.task for run in read)), reference)
        print(table(read))
    if reference is not None and len(results.tasks) > 1:
        raise ConfigError(f"--reference is the data's mean return of one task; these runs are of {len(results.tasks)}")
    content: list[Section] = []
    if swept or outputs.markdown or outputs.html:
        content = list(score_sections(results))
    if swept:
        for section in content:
            print(f"\n{section.title}\n{section.text}\n")
            print("\n\n".join(markdown.markdown(block) for block in section.blocks if isinstance(block, Table)))
    content += other_sections(results) if content else []
    if outputs.markdown:
        markdown.write(title or results.title, content, Path(outputs.markdown))
        print(f"\nReport: {outputs.markdown}", flush=True)
    if outputs.figure and not swept and len(results.tasks) == 1:
        with figure(outputs.figure) as axes:
            draw(axes, results.of_task(results.tasks[0]), results.data_return(results.tasks[0]), title)
    elif outputs.figure:
        panels([picture.draw for picture in curves(results)], outputs.figure)
    if outputs.figure:
        print(f"Figure: {outputs.figure}", flush=True)
    if outputs.results:
        summary.write(results, Path(outputs.results))
        print(f"Results: {outputs.results}", flush=True)
    if outputs.html:
        page.write(title or results.title, [*content, *verdicts(results)], Path(outputs.html))
        print(f"Page: {outputs.html}", flush=True)


def _read_sweep(name: str) -> Results:
    if not is_sweep(name):
        raise ConfigError(f"{name} holds no sweep's results; give sweeps alone, or single runs")
    place = Path(name)
    return summary.read(place) if place.is_file() else Results.of_sweep(place)
