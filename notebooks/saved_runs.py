"""Shared code of the two notebooks: reads run folders and makes tables and figures."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display as show
from matplotlib.axes import Axes

# tqdm, which timm's dependencies import, warns if notebook widgets are not installed
warnings.filterwarnings("ignore", message="IProgress not found")

import anychannel as ac
from anychannel.cost.profile import profile
from anychannel.evaluation import Evaluation, load_evaluation

__all__ = [
    "SavedRun",
    "Table",
    "classes_table",
    "cost_table",
    "draw_confusions",
    "draw_curves",
    "draw_subsets",
    "is_finished",
    "read_run",
    "results_table",
    "show",
    "subsets_table",
    "train_demo",
]

TRAINING, VALIDATION, MARK = "#3b6ea5", "#d1742b", "#555555"
NUMBERED_CLASSES = 12
"""A confusion matrix of up to this many classes shows numbers."""

plt.rcParams.update(
    {
        "figure.dpi": 72,
        "font.size": 8,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
)


@dataclass(frozen=True)
class SavedRun:
    """The content of one run's folder.

    Args:
        label: the network's name in the report.
        record: ``run.json``.
        epochs: the rows of ``metrics.jsonl``.
        test: evaluation on the test split.
        cost: ``cost.json``.
    """

    label: str
    record: dict[str, Any]
    epochs: list[dict[str, float]]
    test: Evaluation
    cost: dict[str, Any]

    def accuracy(self, subset: str) -> float | None:
        """Test accuracy on a subset as a fraction, or None if the network refuses the subset."""
        accuracy: float | None = self.test.subsets[subset].get("accuracy")
        return accuracy


@dataclass(frozen=True)
class Table:
    """Rows under headings; Jupyter shows it as a table, ``print`` as text."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def _repr_markdown_(self) -> str:
        lines = [self.headings, ["---"] + ["---:"] * (len(self.headings) - 1), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.headings, *self.rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(cells))
            for cells in (list(zip(line, widths, strict=True)) for line in [self.headings, *self.rows])
        )


def read_run(folder: Path, label: str) -> SavedRun:
    """Read a finished run's folder."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    record, cost = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("run.json", "cost.json"))
    return SavedRun(label, record, [json.loads(line) for line in lines], load_evaluation(folder), cost)


def is_finished(folder: Path) -> bool:
    """Whether the folder holds a finished run with its cost."""
    if not (folder / "run.json").is_file() or not (folder / "cost.json").is_file():
        return False
    return bool(json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"] == "finished")


def train_demo(config: Mapping[str, Any], folder: Path) -> None:
    """Train a small run, or resume it, and measure its cost with all channels.

    With the environment variable ``ANYCHANNEL_QUICK`` it trains for one epoch and measures neither memory nor latency.
    """
    quick = bool(os.environ.get("ANYCHANNEL_QUICK"))
    settings = ac.RunConfig.from_dict({**config, "training": config["training"] | ({"epochs": 1} if quick else {})})
    ac.train_run(settings, folder, resume=True, cost=False)
    model = ac.load_model(folder)
    cost = profile(
        model,
        batch_size=settings.training.batch_size,
        image_size=settings.size or 24,
        subsets=[model.channels.key(model.channels.full)],
        memory=not quick,
        latency=not quick,
    )
    (folder / "cost.json").write_text(json.dumps(cost, indent=1), encoding="utf-8")


def percent(value: float | None) -> str:
    """A fraction in percent with two decimals; a dash for None."""
    return "-" if value is None else f"{100 * value:.2f}"


def results_table(runs: Sequence[SavedRun]) -> Table:
    """The report's table of results. Training and validation figures are those of the epoch whose weights were kept."""
    channels = runs[0].test.full
    rows = []
    for run in runs:
        best = run.record["best"]
        rows.append(
            [
                run.label,
                str(run.record["epochs_run"]),
                percent(best["train_accuracy"]),
                f"{best['train_loss']:.4f}",
                percent(best["val_accuracy"]),
                f"{best['val_loss']:.4f}",
                percent(run.accuracy(channels)),
            ]
        )
    return Table(
        (
            "Model",
            "# of epochs",
            "Training Acc (%)",
            "Training Loss",
            "Validation Acc (%)",
            "Validation Loss",
            f"Testing Acc on {channels} (%)",
        ),
        rows,
    )


def cost_table(runs: Sequence[SavedRun]) -> Table:
    """The report's table of costs on all channels, with operations counted by both conventions."""
    rows = []
    for run in runs:
        operations = run.cost["subsets"][run.test.full]
        memory = run.cost["peak_memory_mb"]
        rows.append(
            [
                run.label,
                f"{run.cost['params']:,}",
                f"{operations['gflops_calflops']:.4f}",
                f"{operations['gflops_with_attention']:.4f}",
                "-" if memory is None else f"{memory:.0f}",
            ]
        )
    return Table(
        ("Model", "#PARAMS", "FLOPS (GFLOPS), calflops", "GFLOPS with attention", "Memory Usage (MB)"),
        rows,
    )


def subsets_table(runs: Sequence[SavedRun]) -> Table:
    """Test accuracy of each network on each channel subset, in percent, or ``refused``."""
    keys = list(runs[0].test.subsets)
    rows = [
        [run.label] + ["refused" if run.accuracy(key) is None else percent(run.accuracy(key)) for key in keys]
        for run in runs
    ]
    return Table(("Model", *keys), rows)


def classes_table(run: SavedRun, subset: str | None = None) -> Table:
    """Precision, recall, F1 and support of each class on one subset, and their macro average."""
    figures = run.test.subsets[subset or run.test.full]
    scores = ("precision", "recall", "f1")
    rows = [
        [row["class"], *(percent(row[score]) for score in scores), str(row["support"])] for row in figures["per_class"]
    ]
    rows.append(["macro average", *(percent(figures["macro"][score]) for score in scores), str(figures["n"])])
    return Table((f"{run.label}: class", "Precision (%)", "Recall (%)", "F1 (%)", "Support"), rows)


def draw_curves(runs: Sequence[SavedRun]) -> None:
    """Draw accuracy above and loss below, with one column per network.

    A dashed line marks the epoch whose weights were kept, a solid line where early stopping ended training.
    """
    figure, grid = plt.subplots(2, len(runs), figsize=(2.3 * len(runs), 3.8), sharex="col", sharey="row", squeeze=False)
    for column, run in enumerate(runs):
        epochs = [row["epoch"] for row in run.epochs]
        for axes, quantity, scale in ((grid[0, column], "accuracy", 100), (grid[1, column], "loss", 1)):
            for split, name, colour in (("train", "training", TRAINING), ("val", "validation", VALIDATION)):
                values = [scale * row[f"{split}_{quantity}"] for row in run.epochs]
                axes.plot(epochs, values, color=colour, marker=".", label=name)
            axes.axvline(run.record["best_epoch"], color=MARK, linestyle="--", linewidth=1, label="weights kept")
            if run.record["stopped_early"]:
                axes.axvline(run.record["epochs_run"], color=MARK, linewidth=1, label="stopped")
            axes.xaxis.get_major_locator().set_params(integer=True)
        grid[0, column].set_title(run.label)
        grid[1, column].set_xlabel("epoch")
    grid[0, 0].set_ylabel("accuracy (%)")
    grid[1, 0].set_ylabel("loss")
    entries: dict[str, Any] = {}
    for axes in grid.flat:
        entries |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(entries.values(), entries.keys(), loc="upper center", ncols=len(entries), bbox_to_anchor=(0.5, 1.04))
    figure.tight_layout()
    plt.show()


def draw_subsets(runs: Sequence[SavedRun]) -> None:
    """Draw a heat map of test accuracy with one row per network and one column per channel subset."""
    keys = list(runs[0].test.subsets)
    values = np.array([[np.nan if (a := run.accuracy(key)) is None else 100 * a for key in keys] for run in runs])
    figure, axes = plt.subplots(figsize=(1.5 + 0.8 * len(keys), 0.9 + 0.36 * len(runs)))
    axes.set_facecolor("#eeeeee")
    axes.imshow(values, cmap="Blues", vmin=0, vmax=max(100 / len(runs[0].test.classes), 1.2 * np.nanmax(values)))
    axes.set_aspect("auto")
    middle = 0.6 * np.nanmax(values)
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        text = "refused" if np.isnan(value) else f"{value:.1f}"
        axes.text(column, row, text, ha="center", va="center", color="white" if value > middle else "black")
    axes.set_xticks(range(len(keys)), [key.replace(",", "\n") for key in keys])
    axes.set_yticks(range(len(runs)), [run.label for run in runs])
    axes.set_title("test accuracy (%)")
    figure.tight_layout()
    plt.show()


def draw_confusion(axes: Axes, matrix: np.ndarray, classes: Sequence[str], title: str) -> None:
    """Draw one confusion matrix. Each row is a true class, in percent of its images."""
    shares = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_title(title)
    if len(classes) <= NUMBERED_CLASSES:
        axes.set_xticks(range(len(classes)), classes)
        axes.set_yticks(range(len(classes)), classes)
        for row, column in np.ndindex(shares.shape):
            colour = "white" if shares[row, column] > 50 else "black"
            axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=6)
    axes.set_xlabel("predicted")


def draw_confusions(panels: Sequence[tuple[SavedRun, str]], *, columns: int = 4) -> None:
    """Draw confusion matrices of runs on subsets. Skips subsets that a network refuses."""
    answered = [(run, key) for run, key in panels if run.accuracy(key) is not None]
    columns = min(columns, len(answered))
    lines = -(-len(answered) // columns)
    size = (2.1 * columns, 2.4 * lines)
    _, grid = plt.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained")
    for axes in grid.flat[len(answered) :]:
        axes.set_axis_off()
    for axes, (run, key) in zip(grid.flat, answered, strict=False):
        matrix = np.array(run.test.subsets[key]["confusion"])
        subset = "all channels" if key == run.test.full else key
        draw_confusion(axes, matrix, run.test.classes, f"{run.label}\n{subset}")
    for axes in grid[:, 0]:
        axes.set_ylabel("true class")
    plt.show()
