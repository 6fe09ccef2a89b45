"""The tree is the architecture: imports, lint, types and the public names are held to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import anychannel

ROOT = Path(__file__).parent.parent
CHECKS = {
    "imports go one way": ["lint-imports"],
    "ruff finds nothing": ["ruff", "check", "."],
    "files are formatted": ["ruff", "format", "--check", "."],
    "types hold": ["mypy"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_tree_passes_its_static_checks(name):
    program, *arguments = CHECKS[name]
    command = [str(Path(sys.executable).parent / program), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_public_name_is_there():
    for name in anychannel.__all__:
        assert getattr(anychannel, name) is not None
    assert set(anychannel.__all__) <= set(dir(anychannel))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = anychannel.nothing


def test_importing_the_package_or_its_report_brings_in_no_torch():
    code = "import sys, anychannel, anychannel.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_source_file_outgrows_one_concept():
    long = {p.name: n for p in (ROOT / "src").rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long
