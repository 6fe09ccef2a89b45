"""What MkDocs does not know by itself; mkdocs.yml lists this file under ``hooks``.

- CHANGELOG.md and CONTRIBUTING.md, which stand beside docs/, are pages of the site too.
- The page on robustness, and the tables of some other pages, are composed of the results as they are when the site is
  built.
- A link to a file of the repository that is no page (a recipe, a result) becomes its text: on the site it would lead
  nowhere.
- A picture from docs/diagrams is put into the page itself, where it follows the site's light and dark colours and its
  words can be searched and read aloud. In the repository the same line shows the file.
"""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

DOCS = Path(__file__).parent
ROOT = DOCS.parent
WITH_TABLES = ("ablation.md", "compact.md", "method.md")
BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")
DIAGRAM = re.compile(r"^!\[([^\]]+)\]\((?:\.\./)?(diagrams/[\w-]+\.svg)\)$", re.MULTILINE)
STYLE = re.compile(r"<style>.*?</style>\s*", re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that stand beside docs/."""
    for name in BESIDE:
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links and diagrams of one page, as the site needs them."""
    name = page.file.src_uri
    if name == "robustness.md":
        markdown = from_results("robustness", "compose")
    elif name in WITH_TABLES:
        markdown = from_results(name.removesuffix(".md"), "insert", markdown)
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


def from_results(script: str, function: str, *arguments: str) -> str:
    """What a script in benchmarks/ makes of the results; it finds the modules beside it only where told to look."""
    folder = str(ROOT / "benchmarks")
    sys.path.insert(0, folder)
    try:
        return str(runpy.run_path(f"{folder}/{script}.py")[function](*arguments))
    finally:
        sys.path.remove(folder)


def inline(path: Path, description: str) -> str:
    """A diagram as part of the page: without its own colours, which assets/site.css gives for both themes."""
    drawing = STYLE.sub("", path.read_text(encoding="utf-8")).strip()
    return f'<figure class="diagram" markdown="0">\n{drawing}\n<figcaption>{description}</figcaption>\n</figure>'
