"""Make the notebooks from their sources: convert each percent script, execute it and store its outputs.

    python notebooks/execute.py

Writes ``task_1.ipynb`` and ``task_2.ipynb`` beside ``task_1.py`` and ``task_2.py``, from small runs on embedded data.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).parent
SOURCES = (HERE / "task_1.py", HERE / "task_2.py")
TIMEOUT_S = 900


def convert(source: Path) -> NotebookNode:
    """Convert a percent script to a notebook without outputs. Cell ids are the cells' positions."""
    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    return notebook


def execute(source: Path, runs: Path, *, quick: bool = False) -> NotebookNode:
    """Run a percent script's cells in a kernel of this Python.

    Args:
        source: the script.
        runs: folder of the runs. Missing runs are trained in it.
        quick: train missing runs for one epoch only and do not measure their memory.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = convert(source)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(source.parent)}},
    )
    client.execute(env={**os.environ, "ANYCHANNEL_RUNS": str(runs), "ANYCHANNEL_QUICK": "1" if quick else ""})
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def main() -> None:
    """Execute each notebook in an empty folder and write it."""
    for source in SOURCES:
        with tempfile.TemporaryDirectory() as runs:
            notebook = execute(source, Path(runs))
        nbformat.write(notebook, source.with_suffix(".ipynb"))
        print(source.with_suffix(".ipynb").name)


if __name__ == "__main__":
    main()
