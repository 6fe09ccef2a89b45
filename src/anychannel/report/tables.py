"""Tables that compare runs, in the original report's columns.

A table is plain values: the template only lays it out, and tests read it without HTML.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from anychannel.report.records import Cost, Run, SubsetResult
from anychannel.utils.sizes import describe_size

MANY_SUBSETS = 16
"""Beyond this many subsets tables and heat map show sizes, and the full list is folded away."""


@dataclass(frozen=True)
class Cell:
    """One value.

    Args:
        text: as shown; a dash where there is none.
        reference: the original report's figure, shown muted beside it.
        note: a short second line, muted.
        title: what a pointer resting on the cell is told.
        shade: 0 to 1, how strongly the cell is coloured; None leaves it plain.
    """

    text: str
    reference: str = ""
    note: str = ""
    title: str = ""
    shade: float | None = None


@dataclass(frozen=True)
class Table:
    """Rows of runs under named columns; ``heads`` name the rows and ``statuses`` say how each run ended."""

    caption: str
    columns: tuple[str, ...]
    heads: tuple[str, ...]
    statuses: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def has_reference(self) -> bool:
        """Whether any cell carries a figure of the original report."""
        return any(cell.reference for row in self.rows for cell in row)


NONE = Cell("–")


@cache
def reference_figures() -> dict[str, Any]:
    """The original report's figures by ``report_name``, with their source."""
    text = files("anychannel.report").joinpath("reference_figures.json").read_text(encoding="utf-8")
    figures: dict[str, Any] = json.loads(text)
    return figures


def reference(run: Run) -> dict[str, Any]:
    """The original report's figures for a run; empty where it is none of its networks."""
    found = reference_figures().get(run.text("report_name"))
    return found if isinstance(found, dict) else {}


def shown(value: float | None, digits: int, unit: float = 1.0, given: Any = None, note: str = "") -> Cell:
    """A cell for ``value * unit``; ``given`` is the original report's figure, already in the cell's unit."""
    beside = "" if given is None else f"{float(given):,.{digits}f}"
    return Cell("–" if value is None else f"{value * unit:,.{digits}f}", reference=beside, note=note)


def table(caption: str, columns: Sequence[str], runs: Sequence[Run], rows: Sequence[Sequence[Cell]]) -> Table:
    """A table with one row a run."""
    return Table(
        caption,
        tuple(columns),
        tuple(run.name for run in runs),
        tuple(run.status for run in runs),
        tuple(tuple(row) for row in rows),
    )


def training_table(runs: Sequence[Run]) -> Table:
    """Epochs, accuracies and losses at the best epoch, test accuracy on the full set."""
    columns = (
        "Network",
        "# of epochs",
        "Training accuracy (%)",
        "Training loss",
        "Validation accuracy (%)",
        "Validation loss",
        "Test accuracy, all channels (%)",
    )
    rows = []
    for run in runs:
        known, best = reference(run), run.best
        whole = run.test.whole if run.test else None
        count = len(run.epochs) or run.record.get("epochs_run")
        rows.append(
            [
                Cell(network(run), note=run.text("report_name").replace("_", " ")),
                shown(count, 0, given=known.get("epochs"), note=f"best: {best.epoch}" if best else ""),
                shown(best.train_accuracy if best else None, 2, 100, known.get("train_accuracy")),
                shown(best.train_loss if best else None, 4, 1, known.get("train_loss")),
                shown(best.val_accuracy if best else None, 2, 100, known.get("val_accuracy")),
                shown(best.val_loss if best else None, 4, 1, known.get("val_loss")),
                accuracy_cell(whole, known.get("test", {}).get("RGB")),
            ]
        )
    return table("Training and validation at the best epoch, test at the end", columns, runs, rows)


def network(run: Run) -> str:
    """Backbone, stem and sampler in a few words."""
    parts = [run.text("model"), run.text("stem"), "" if run.text("sampler") in ("", "full") else run.text("sampler")]
    return ", ".join(part for part in parts if part) or "–"


def accuracy_cell(result: SubsetResult | None, given: Any = None) -> Cell:
    """A test accuracy in percent with its standard error, or why there is none."""
    if result is None:
        return shown(None, 2, given=given)
    if result.refused is not None:
        cell = shown(None, 2, given=given)
        return replace(cell, text="refused", title=result.refused)
    return replace(
        shown(result.accuracy, 2, 100, given),
        note=f"± {100 * result.standard_error:.2f}",
        title=f"{result.key}: standard error {100 * result.standard_error:.2f} points, n = {result.n}",
    )


def subset_keys(runs: Sequence[Run]) -> list[str]:
    """All evaluated subsets, the full set first, then larger before smaller, in the order met."""
    keys = dict.fromkeys(key for run in runs if run.test for key in run.test.subsets)
    return sorted(keys, key=lambda key: -key.count(","))


def reference_key(key: str) -> str:
    """``R,G`` as the original report writes it: ``RG``."""
    return key.replace(",", "")


def subset_table(runs: Sequence[Run], keys: Sequence[str]) -> Table:
    """Test accuracy for each subset, shaded by its value: table and heat map in one."""
    tested = [run for run in runs if run.test]
    accuracies = [result.accuracy for run in tested if run.test for result in run.test.answered.values()]
    top = max(accuracies, default=1.0)
    rows = []
    for run in tested:
        known = reference(run).get("test", {})
        row = []
        for key in keys:
            result = run.test.subsets.get(key) if run.test else None
            cell = accuracy_cell(result, known.get(reference_key(key)))
            if result is not None and result.refused is None:
                cell = replace(cell, text=f"{100 * result.accuracy:.1f}", shade=result.accuracy / (top or 1.0), note="")
            row.append(cell)
        rows.append(row)
    return table("Test accuracy for each subset (%)", keys, tested, rows)


def gap_table(runs: Sequence[Run], keys: Sequence[str]) -> Table:
    """Accuracy of each subset minus the full set's, in points, shaded by the loss."""
    tested = [run for run in runs if run.test and run.test.whole]
    full = {run.test.full for run in tested if run.test}
    columns = [key for key in keys if key not in full]
    gaps: list[dict[str, float]] = []
    for run in tested:
        assert run.test is not None
        gaps.append({key: run.test.gaps[key] for key in run.test.others if key in run.test.gaps})
    deepest = max((-gap for row in gaps for gap in row.values()), default=0.0)
    rows = []
    for run, row in zip(tested, gaps, strict=True):
        assert run.test is not None
        cells = []
        for key in columns:
            if key in row:
                shade = max(0.0, -row[key]) / deepest if deepest > 0 else 0.0
                cells.append(Cell(signed(row[key]), shade=shade))
            else:
                held = run.test.subsets.get(key)
                cells.append(accuracy_cell(held) if held is not None and held.refused else NONE)
        rows.append(cells)
    return table("Each subset minus the full set (percentage points)", columns, tested, rows)


def signed(fraction: float) -> str:
    """A difference in points with a true minus sign."""
    return f"{100 * fraction:+.1f}".replace("-", "−")


def size_table(runs: Sequence[Run], *, gap: bool = False) -> Table:
    """For each number of channels the mean, least and greatest test accuracy (or its gap to the full set)."""
    tested = [run for run in runs if run.test and (run.test.whole or not gap)]
    sizes = sorted({result.size for run in tested if run.test for result in run.test.answered.values()}, reverse=True)
    summaries: list[dict[int, tuple[float, float, float, int]]] = []
    for run in tested:
        assert run.test is not None
        answered = {key: result.accuracy for key, result in run.test.answered.items()}
        known = {key: run.test.gaps[key] for key in run.test.others if key in run.test.gaps} if gap else answered
        summary = {}
        for size in sizes:
            values = [value for key, value in known.items() if key.count(",") + 1 == size]
            if values:
                summary[size] = (sum(values) / len(values), min(values), max(values), len(values))
        summaries.append(summary)
    sizes = [size for size in sizes if any(size in summary for summary in summaries)]
    scale = max((abs(entry[0]) for summary in summaries for entry in summary.values()), default=1.0) or 1.0
    rows = []
    for summary in summaries:
        row = []
        for size in sizes:
            if size not in summary:
                row.append(NONE)
                continue
            mean, low, high, count = summary[size]
            text = signed if gap else (lambda value: f"{100 * value:.1f}")
            shade = max(0.0, -mean if gap else mean) / scale
            span = f"{text(low)} to {text(high)}" if count > 1 else "one subset"
            row.append(Cell(text(mean), note=span, shade=shade, title=f"{count} subsets of {size} channels"))
        rows.append(row)
    caption = "Subset minus full set, by number of channels" if gap else "Test accuracy (%), by number of channels"
    return table(f"{caption}: mean, least to greatest", [channel_count(size) for size in sizes], tested, rows)


def channel_count(size: int) -> str:
    """``1 channel``, ``3 channels``."""
    return "1 channel" if size == 1 else f"{size} channels"


def cost_table(runs: Sequence[Run]) -> Table:
    """Parameters, operations, memory and latency."""
    columns = (
        "Parameters (M)",
        "GFLOPs, calflops' count",
        "GFLOPs, with attention products",
        "Batch",
        "Memory (MB)",
        "Latency, batch 1 (ms an image)",
        "Latency, batch 64 (ms an image)",
    )
    rows = []
    for run in runs:
        known, cost = reference(run), run.cost
        size = f"{describe_size(cost.image_size, '×')} px" if cost and cost.image_size else ""
        rows.append(
            [
                shown(run.params, 4, 1e-6, known.get("params_m")),
                shown(cost.gflops if cost else None, 3, 1, known.get("gflops")),
                shown(cost.gflops_with_attention if cost else None, 3),
                shown(cost.batch_size if cost else None, 0, 1, known.get("batch_size"), note=size),
                shown(cost.memory_mb if cost else None, 0, 1, known.get("memory_mb")),
                latency_cell(cost, "1"),
                latency_cell(cost, "64"),
            ]
        )
    return table("Cost on the full channel set", columns, runs, rows)


def latency_cell(cost: Cost | None, batch: str) -> Cell:
    """Median time an image, with the range that holds the middle 80 %."""
    time = cost.latency.get(batch) if cost else None
    if time is None:
        return NONE
    note = f"{time.p10:.2f} to {time.p90:.2f}" if time.p10 is not None and time.p90 is not None else ""
    return Cell(
        f"{time.median:.2f}", note=note, title=f"median; 10th to 90th percentile; {cost.device if cost else ''}"
    )


def refusals(runs: Sequence[Run]) -> list[str]:
    """Which subsets each run refuses, with its reason for the first of them, in words."""
    said = []
    for run in runs:
        reasons = {key: result.refused for key, result in (run.test.subsets if run.test else {}).items()}
        refused = {key: reason for key, reason in reasons.items() if reason is not None}
        if refused:
            first, reason = next(iter(refused.items()))
            example = "" if len(refused) == 1 else f"{first}, for example, because "
            said.append(f"{run.name} refuses {'; '.join(refused)}: {example}{reason}")
    return said
