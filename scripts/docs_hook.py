"""Lets pages link to files outside docs/, as they do on a repository's own pages.

Figures of the examples are taken into the site; links to other files become plain text.
"""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = re.compile(r"(!?)\[([^\]]*)\]\(\.\./((?!\w+\.md)[^)]*|[A-Z]+\.md)\)")


def on_files(files, config):
    """Adds the examples' figures under their path in the repository."""
    for figure in sorted(ROOT.glob("example/*/figures/*")):
        files.append(File.generated(config, figure.relative_to(ROOT).as_posix(), abs_src_path=str(figure)))
    return files


def on_page_markdown(markdown, page, **_):
    """Rewrites the links of top-level pages that leave docs/."""
    if "/" in page.file.src_uri:
        return markdown
    return OUTSIDE.sub(lambda match: f"![{match[2]}]({match[3]})" if match[1] else match[2], markdown)
