"""A report as Markdown, with its figures as PNG beside it."""

from __future__ import annotations

import itertools
from pathlib import Path
from urllib.parse import quote

from awac.errors import ConfigError
from awac.report.content import Section
from awac.report.figures import figure
from awac.report.results import Table


def markdown(table: Table) -> str:
    """A table in Markdown."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def write(title: str, sections: list[Section], path: Path) -> None:
    """Writes the report to `path` and its figures to a folder beside it: `figures`, or `NAME_figures` for NAME.md.

    Raises:
        ConfigError: they can't be written.
    """
    parts, written = [f"# {title}"], set()
    folder = path.parent / ("figures" if path.stem == "report" else f"{path.stem}_figures")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for section in sections:
            parts += [f"## {section.title}", *([section.text] if section.text else [])]
            for block in section.blocks:
                if isinstance(block, Table):
                    parts.append(markdown(block))
                    continue
                number = next(n for n in itertools.count(1) if (block.name, n) not in written)
                written.add((block.name, number))  # names of tasks may be alike once they are file names
                image = folder / (f"{block.name}.png" if number == 1 else f"{block.name}_{number}.png")
                with figure(image) as axes:
                    block.draw(axes)
                parts.append(f"![{block.caption}]({quote(folder.name)}/{quote(image.name)})")
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} can't be written ({error.strerror}); choose a file that can be") from None
