"""The tree is the architecture: imports, lint, types and the public names are held to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp
import pytest

import anychannel

ROOT = Path(__file__).parent.parent
CHECKS = {
    "imports go down the layers, without circles": ["lint-imports"],
    "ruff finds nothing": ["ruff", "check", "."],
    "files are formatted": ["ruff", "format", "--check", "."],
    "types hold": ["mypy"],
}
NN_MAY_IMPORT = ("torch", "anychannel.nn", "anychannel.channels", "anychannel.utils.names", "anychannel.utils.options")


@pytest.fixture(scope="module")
def imports() -> list[tuple[str, str]]:
    """Every import in the package, also those inside functions and for types: (importer, imported)."""
    graph = grimp.build_graph("anychannel", include_external_packages=True)
    return [(module, found) for module in graph.modules for found in graph.find_modules_directly_imported_by(module)]


@pytest.mark.parametrize("name", CHECKS)
def test_the_tree_passes_its_static_checks(name):
    program, *arguments = CHECKS[name]
    command = [str(Path(sys.executable).parent / program), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_imports_the_package_that_it_lies_in(imports):
    """``lint-imports`` finds circles among siblings; this leaves none through an ``__init__``."""
    assert [edge for edge in imports if edge[0].startswith(f"{edge[1]}.")] == []


def test_nn_needs_nothing_but_torch(imports):
    def allowed(name: str) -> bool:
        is_ours = any(name == entry or name.startswith(f"{entry}.") for entry in NN_MAY_IMPORT)
        return is_ours or name.split(".")[0] in sys.stdlib_module_names

    used = [edge for edge in imports if edge[0].startswith("anychannel.nn")]
    assert [edge for edge in used if not allowed(edge[1])] == []


def test_every_layer_is_in_the_contract():
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    folders = {path.parent.name for path in (ROOT / "src" / "anychannel").glob("*/__init__.py")}
    assert {name for name in folders if f'"anychannel.{name}",' not in contract} == set()


def test_every_public_name_is_there():
    for name in anychannel.__all__:
        assert getattr(anychannel, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = anychannel.nothing


@pytest.mark.parametrize("module", ["anychannel", "anychannel.report", "anychannel.results"])
def test_torch_is_not_imported_for(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
