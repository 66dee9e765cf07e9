"""The whole report of a sweep or of single runs: read, put together, written."""

from __future__ import annotations

from pathlib import Path

from awac.errors import ConfigError
from awac.report import markdown, page
from awac.report.content import curves, sections
from awac.report.curves import Run
from awac.report.doctor import verdicts
from awac.report.figures import panels
from awac.report.results import Results, Table
from awac.sweep.plan import PLAN


def is_sweep(folder: str) -> bool:
    """Whether a folder is a sweep's results folder."""
    return (Path(folder) / PLAN).is_file()


def write_report(
    runs: list[str], title: str | None, html: str | None, text: str | None, image: str | None = None
) -> None:
    """Writes the report of a sweep, whose tables it prints, or of single runs.

    Args:
        runs: the results folder, or `[NAME=]FOLDER` of each run.
        title: of the report; None for the folder's or the tasks' names.
        html: file for the page.
        text: file for Markdown, with figures beside it.
        image: file for the curves of all tasks in one figure.

    Raises:
        DataError: nothing to report there.
        ConfigError: a file can't be written.
    """
    swept = is_sweep(runs[0])
    if swept:
        if len(runs) > 1:
            raise ConfigError(f"{runs[0]} is a sweep's results folder; give it alone, or single runs")
        results = Results.of_sweep(Path(runs[0]))
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
    if html:
        page.write(title, [*content, *verdicts(results)], Path(html))
        print(f"Page: {html}", flush=True)
