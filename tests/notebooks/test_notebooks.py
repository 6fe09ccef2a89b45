"""The notebooks run from nothing, show what they promise, and are what their sources say."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import jupytext
import nbformat
import pytest
from nbformat import NotebookNode

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = ("task_1", "task_2")
NETWORKS = {"task_1": 5, "task_2": 3}
MACHINE_PATH = re.compile(r"(?:^|[\s'\"(])/(?:home|root|tmp|Users|private|opt|usr)/")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text_of(notebook: NotebookNode) -> str:
    return "\n".join(output.get("text") or output.data.get("text/plain", "") for output in outputs(notebook))


def check_outputs(name: str, notebook: NotebookNode) -> None:
    """Figures and tables with numbers, nothing on standard error, no path of a machine."""
    count = NETWORKS[name]
    found = outputs(notebook)
    assert not [output for output in found if output.output_type == "error" or output.get("name") == "stderr"]
    figures = [output for output in found if "image/png" in output.get("data", {})]
    assert len(figures) == {"task_1": 5, "task_2": 3}[name]
    tables = [output.data["text/plain"] for output in found if "text/markdown" in output.get("data", {})]
    # results, subsets and costs, and each network's classes
    assert len(tables) == 3 + count
    for heading in ("Training Acc (%)", "Support", "band_1,band_3", "GFLOPS with attention"):
        assert any(heading in table.splitlines()[0] for table in tables), heading
    for table in tables:
        for line in table.splitlines()[1:]:
            assert re.search(r"\d+\.\d\d", line), line
    assert not MACHINE_PATH.search(text_of(notebook))


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_nothing_and_shows_its_figures_and_tables(name, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # other tests run beside it, and training would warn of them
    startup = tmp_path / "ipython" / "profile_default" / "startup" / "quick.py"
    startup.parent.mkdir(parents=True)
    startup.write_text(f"import sys\nsys.path.append({str(FOLDER.parent)!r})\nimport tests.helpers.quick")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = load("execute").execute(FOLDER / f"{name}.py", tmp_path, quick=True)
    check_outputs(name, notebook)
    assert len(list((tmp_path / name).glob("*/run.json"))) == NETWORKS[name]
    if name == "task_1":
        assert text_of(notebook).count("refused") == 6


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_notebook_is_its_source_with_small_outputs(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    source = jupytext.read(FOLDER / f"{name}.py")
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in source.cells
    ]
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 400_000
    check_outputs(name, notebook)


def test_the_curves_mark_the_kept_epoch_and_where_early_stopping_ended(monkeypatch):
    import matplotlib

    matplotlib.use("Agg")
    saved_runs = load("saved_runs")
    shown = []
    monkeypatch.setattr(saved_runs.plt, "show", lambda: shown.append(saved_runs.plt.gcf()))
    keys = ("train_accuracy", "val_accuracy", "train_loss", "val_loss")
    epochs = [{"epoch": number, **dict.fromkeys(keys, 0.1 * number)} for number in (1, 2, 3)]
    record = {"best_epoch": 2, "epochs_run": 3, "stopped_early": True}
    run = saved_runs.SavedRun("v1", record, epochs, None, {})
    saved_runs.draw_curves([run])
    (figure,) = shown
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert list(lines["training"].get_ydata()) == pytest.approx([10, 20, 30])
    assert set(lines["weights kept"].get_xdata()) == {2}
    assert set(lines["stopped"].get_xdata()) == {3}
    assert [entry.get_text() for entry in figure.legends[0].get_texts()] == list(lines)
    saved_runs.plt.close(figure)
