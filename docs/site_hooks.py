"""MkDocs hooks of this site; mkdocs.yml lists this file under ``hooks``.

- Add CHANGELOG.md and CONTRIBUTING.md, which are beside docs/, as pages.
- Replace a link to a repository file that is not a page (a recipe, a result) by its text.
- Inline pictures from docs/diagrams, so that they follow the site's light and dark colours and their text can be
  searched and read aloud.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

DOCS = Path(__file__).parent
ROOT = DOCS.parent
BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")
DIAGRAM = re.compile(r"^!\[([^\]]+)\]\((?:\.\./)?(diagrams/[\w-]+\.svg)\)$", re.MULTILINE)
STYLE = re.compile(r"<style>.*?</style>\s*", re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages beside docs/."""
    for name in BESIDE:
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links and diagrams of one page for the site."""
    name = page.file.src_uri
    source = (ROOT if name in BESIDE else DOCS) / name

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match.groups()
        path = (source.parent / target).resolve()
        if "://" in target or not path.exists():
            return match[0]
        if path.parent == ROOT and path.name in BESIDE:
            path = DOCS / path.name
        elif not path.is_relative_to(DOCS):
            return text
        return f"[{text}]({Path(os.path.relpath(path, (DOCS / name).parent)).as_posix()}{anchor or ''})"

    return DIAGRAM.sub(lambda match: inline(DOCS / match[2], match[1]), LINK.sub(link, markdown))


def inline(path: Path, description: str) -> str:
    """Return a diagram as part of the page, without its own colours; assets/site.css defines them for both themes."""
    drawing = STYLE.sub("", path.read_text(encoding="utf-8")).strip()
    return f'<figure class="diagram" markdown="0">\n{drawing}\n<figcaption>{description}</figcaption>\n</figure>'
