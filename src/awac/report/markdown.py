"""A report as Markdown, with its figures as PNG beside it."""

from __future__ import annotations

from pathlib import Path

from awac.errors import ConfigError
from awac.report.content import Section
from awac.report.figures import figure
from awac.report.results import Table


def markdown(table: Table) -> str:
    """A table in Markdown."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def write(title: str, sections: list[Section], path: Path) -> None:
    """Writes the report to `path` and its figures to the folder `figures` beside it.

    Raises:
        ConfigError: they can't be written.
    """
    parts = [f"# {title}"]
    try:
        (path.parent / "figures").mkdir(parents=True, exist_ok=True)
        for section in sections:
            parts += [f"## {section.title}", *([section.text] if section.text else [])]
            for block in section.blocks:
                if isinstance(block, Table):
                    parts.append(markdown(block))
                    continue
                image = path.parent / "figures" / f"{block.name}.png"
                with figure(image) as axes:
                    block.draw(axes)
                parts.append(f"![{block.caption}](figures/{image.name})")
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} can't be written ({error.strerror}); name a file that can") from None
