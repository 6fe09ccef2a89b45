"""Every Python and shell block of the documentation runs, and every link leads somewhere.

The blocks of a page run from top to bottom, in one folder of their own that is empty at first. In a shell block stand
``anychannel`` commands alone; the program runs in this process. Where a block cannot run, the line before it says why:
``<!-- no-run: reason -->``.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anychannel.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"(<!-- no-run: [^>]+ -->\n)?^```(python|sh|bash|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)[^)]*\)")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of the blocks that run."""
    return [(kind, code) for skipped, kind, code in BLOCK.findall(page.read_text(encoding="utf-8")) if not skipped]


def run_shell(code: str) -> None:
    for line in code.replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line, comments=True) or [None]
        if program is None:
            continue
        assert program == "anychannel", f"a block that runs holds anychannel commands alone; say why not: {line}"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    for kind, code in blocks(page):
        if kind == "python":
            exec(compile(code, str(page), "exec"), namespace)
        else:
            run_shell(code)


def test_a_shell_block_with_another_program_has_to_say_why_it_does_not_run():
    with pytest.raises(AssertionError, match="say why not: pip install"):
        run_shell("pip install '.[docs]'  # the site\n")


def test_a_shell_block_fails_with_its_command():
    with pytest.raises(AssertionError, match="list nonsense"):
        run_shell("anychannel list \\\n  models\nanychannel list nonsense\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file(page):
    missing = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert not missing


def test_the_readme_and_ci_give_the_same_test_command():
    command = "pip install '.[test]' && pytest"
    assert command in (ROOT / "README.md").read_text()
    assert command in (ROOT / ".ci" / "run").read_text()
