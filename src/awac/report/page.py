"""A report as one HTML page that needs nothing else: no script, no file beside it, no request."""

from __future__ import annotations

from html import escape
from pathlib import Path

from awac.errors import ConfigError
from awac.report.content import Picture, Section
from awac.report.figures import svg
from awac.report.results import Table

_STYLE = """
:root { color-scheme: light; --line: #d9dde3; --soft: #f5f6f8; --text: #1c2330; --dim: #5a6475; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1320px; padding: 1.2rem clamp(0.8rem, 3vw, 2.5rem) 3rem; color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; background: #fff; }
h1 { font-size: clamp(1.4rem, 4vw, 2rem); margin: 0.5rem 0 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.4rem; padding-top: 0.8rem; border-top: 1px solid var(--line); }
p { margin: 0.3rem 0 0.8rem; color: var(--dim); max-width: 75ch; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; margin-top: 0.6rem; font-size: 0.9rem; }
a { color: #0b5cad; }
.table { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; margin: 0.6rem 0; width: fit-content;
  max-width: 100%; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.75rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { background: var(--soft); font-weight: 600; }
tr:last-child td { border-bottom: 0; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--soft); }
.words td, .words th { text-align: left; }
td.long { white-space: normal; min-width: 16rem; overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 360px), 1fr)); gap: 1rem; }
figure { margin: 0; max-width: 620px; }
figure svg { width: 100%; height: auto; display: block; font-family: "DejaVu Sans", Verdana, sans-serif; }
figcaption { font-size: 0.85rem; color: var(--dim); }
summary { cursor: pointer; color: #0b5cad; font-size: 0.95rem; }
"""
_LONG = 40  # letters of a cell that may be broken into lines
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write(title: str, sections: list[Section], path: Path) -> None:
    """Writes the page.

    Raises:
        ConfigError: it can't be written.
    """
    try:
        path.write_text(html(title, sections), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} can't be written ({error.strerror}); choose a file that can be") from None


def html(title: str, sections: list[Section]) -> str:
    """The page's text."""
    links = "".join(f'<a href="#s{i}">{escape(section.title)}</a>' for i, section in enumerate(sections))
    body = "".join(_section(i, section) for i, section in enumerate(sections))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n<style>{_STYLE}</style>\n</head>\n<body>\n'
        f"<h1>{escape(title)}</h1>\n<nav>{links}</nav>\n{body}</body>\n</html>\n"
    )


def _section(number: int, section: Section) -> str:
    text = f"<p>{_inline(section.text)}</p>\n" if section.text else ""
    tables = "".join(_table(block) for block in section.blocks if isinstance(block, Table))
    pictures = "".join(_picture(number, block) for block in section.blocks if isinstance(block, Picture))
    inner = tables + (f'<div class="figures">{pictures}</div>\n' if pictures else "")
    if section.folded:
        inner = f"<details><summary>show</summary>\n{inner}</details>\n"
    return f'<section id="s{number}">\n<h2>{escape(section.title)}</h2>\n{text}{inner}</section>\n'


def _picture(number: int, picture: Picture) -> str:
    drawn = svg(picture.draw, f"{picture.caption} ({number})")
    return f"<figure>{drawn}<figcaption>{escape(picture.caption)}</figcaption></figure>\n"


def _table(table: Table) -> str:
    words = any(cell and not cell[0].isdigit() and cell not in "–-" for row in table.rows for cell in row[1:])
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>\n" for row in table.rows)
    kind = ' class="words"' if words else ""
    return f'<div class="table"><table{kind}>\n<tr>{head}</tr>\n{rows}</table></div>\n'


def _cell(text: str) -> str:
    return f"<td{' class=long' if len(text) > _LONG else ''}>{escape(text)}</td>"


def _inline(text: str) -> str:
    """Text with `code`."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
