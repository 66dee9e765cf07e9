"""One way to draw a figure: into an image file, or as SVG for a page."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from awac.errors import ConfigError
from awac.report.curves import seeds_of


@contextlib.contextmanager
def figure(path: str | os.PathLike):
    """Gives axes at README width and writes them to `path`; the suffix says the format.

    Raises:
        ConfigError: the image can't be written, or not in that format.
    """
    with _axes(figsize=(7.5, 4.2), dpi=150) as (drawn, axes):
        yield axes
        drawn.tight_layout()
        _save(drawn, path)


def panels(draws: Sequence[Callable], path: str | os.PathLike) -> None:
    """Draws several figures as panels of one, with one legend for all of them.

    Args:
        draws: each draws on matplotlib's axes.
        path: the image; its suffix says the format.

    Raises:
        ConfigError: the image can't be written, or not in that format.
    """
    columns = min(4, math.ceil(math.sqrt(len(draws))))
    rows = -(-len(draws) // columns)
    width, height = max(3.4 * columns, 7.5), max(2.6 * rows + 0.5, 4.2)
    with _axes(nrows=rows, ncols=columns, squeeze=False, figsize=(width, height), dpi=120) as (drawn, grid):
        lines: dict[str, Any] = {}
        seeds: dict[str, set[int]] = {}
        for place, axes in enumerate(grid.flat):
            if place >= len(draws):
                axes.set_axis_off()
                continue
            draws[place](axes)
            for line, label in zip(*axes.get_legend_handles_labels(), strict=True):
                name, number = seeds_of(label)
                lines.setdefault(name, line)
                seeds.setdefault(name, set()).add(number)
            if legend := axes.get_legend():
                legend.remove()
            axes.xaxis.label.set_size("small")
            axes.set_ylabel(axes.get_ylabel().replace(" and ", "\nand "))  # a panel is not as high as the text is long
        words = [(axes.get_xlabel(), axes.get_ylabel()) for axes in grid.flat]
        for place, axes in enumerate(grid.flat):  # words that stand below or on the left too are left out
            if place + columns < len(draws) and words[place][0] == words[place + columns][0]:
                axes.set_xlabel("")
            if place % columns and words[place][1] == words[place - 1][1]:
                axes.set_ylabel("")
        beside = max(1, min(len(lines), int(width / 1.9)))
        drawn.tight_layout(rect=(0, (0.15 + 0.25 * -(-len(lines) // beside)) / height, 1, 1))
        counted = {name: " or ".join(map(str, sorted(numbers))) for name, numbers in seeds.items()}
        labels = [name if counted[name] == "1" else f"{name} ({counted[name]} seeds)" for name in lines]
        drawn.legend(lines.values(), labels, loc="lower center", ncols=beside, frameon=False)
        _save(drawn, path)


def _save(drawn, path) -> None:
    try:
        drawn.savefig(path, format=Path(path).suffix[1:] or "?")
    except OSError as error:
        raise ConfigError(f"{path}: it can't be written ({error.strerror}); choose a file that can be") from None
    except ValueError:
        raise ConfigError(f"{path}: no image format has this suffix; name a .png, .svg or .pdf") from None


def svg(draw: Callable, label: str) -> str:
    """The <svg> element of what `draw(axes)` draws, small enough to be read on a telephone.

    Args:
        draw: draws on matplotlib's axes.
        label: what the picture shows, for readers who do not see it; it also keeps the ids of several pictures apart.
    """
    import matplotlib

    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label, "font.size": 9}),
        _axes(figsize=(4.4, 3.3)) as (drawn, axes),
    ):
        draw(axes)
        drawn.tight_layout()
        text = io.StringIO()
        drawn.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    element = text.getvalue()[text.getvalue().index("<svg") :]
    # Its own size gives way to the page's; the ids that matplotlib does not salt are not referred to.
    element = re.sub(r' id="(?!\w*clip|[mp][0-9a-f]{8,})[\w.]+"', "", element)
    opening = re.sub(r' (?:width|height)="[^"]*"', "", element[: element.index(">")])
    escaped = label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return f'{opening} role="img" aria-label="{escaped}"{element[element.index(">") :]}'


@contextlib.contextmanager
def _axes(**options):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"text.parse_math": False}):  # a name may hold dollar signs
        drawn, axes = pyplot.subplots(**options)
        try:
            yield drawn, axes
        finally:
            pyplot.close(drawn)
