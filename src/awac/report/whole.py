"""The whole report of a sweep or of single runs: read, put together, written."""

from __future__ import annotations

from pathlib import Path

from awac.errors import ConfigError
from awac.report import markdown, page, summary
from awac.report.content import curves, sections
from awac.report.curves import Run
from awac.report.doctor import verdicts
from awac.report.figures import panels
from awac.report.results import Results, Table
from awac.sweep.plan import PLAN


def is_sweep(name: str) -> bool:
    """Whether it is a sweep's results folder, or the file that `awac report --json` made of one."""
    return (Path(name) / PLAN).is_file() or summary.is_summary(name)


def write_report(
    runs: list[str],
    title: str | None,
    html: str | None,
    text: str | None,
    image: str | None = None,
    results_file: str | None = None,
) -> None:
    """Writes the report of a sweep, whose tables it prints, or of single runs.

    Args:
        runs: the results folder or file of a sweep, or `[NAME=]FOLDER` of each run.
        title: of the report; None for the folder's or the tasks' names.
        html: file for the page.
        text: file for Markdown, with figures beside it.
        image: file for the curves of all tasks in one figure.
        results_file: JSON file for the results, of which the report can be made again.

    Raises:
        DataError: nothing to report there.
        ConfigError: a file can't be written.
    """
    swept = is_sweep(runs[0])
    if swept:
        if len(runs) > 1:
            raise ConfigError(f"{runs[0]} holds a sweep's results; give it alone, or single runs")
        place = Path(runs[0])
        results = summary.read(place) if place.is_file() else Results.of_sweep(place)
    else:
        read = [Run.read(name) for name in runs]
        results = Results.of_runs(read, ", ".join(dict.fromkeys(run.task for run in read)))
    content = list(sections(results))
    title = title or results.title
    if swept:
        for section in content[: next(i for i, s in enumerate(content) if s.title == "Curves")]:
            print(f"\n{section.title}\n{section.text}\n")
            print("\n\n".join(markdown.markdown(block) for block in section.blocks if isinstance(block, Table)))
    if text:
        markdown.write(title, content, Path(text))
        print(f"\nReport: {text}", flush=True)
    if image:
        panels([picture.draw for picture in curves(results)], image)
        print(f"Figure: {image}", flush=True)
    if results_file:
        summary.write(results, Path(results_file))
        print(f"Results: {results_file}", flush=True)
    if html:
        page.write(title, [*content, *verdicts(results)], Path(html))
        print(f"Page: {html}", flush=True)
