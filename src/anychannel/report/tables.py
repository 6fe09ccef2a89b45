"""Tables that compare runs, with the original report's figures beside its networks' figures.

A table is plain values: the template lays it out, and tests read it without HTML.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from statistics import fmean
from typing import Any

from anychannel.results.cost import Cost, SubsetCost
from anychannel.results.evaluation import Scores, SubsetResult
from anychannel.results.parse import number
from anychannel.results.run import Run
from anychannel.utils.plurals import plural
from anychannel.utils.sizes import describe_size

MANY_SUBSETS = 16
"""With more subsets, tables show them by their number of channels, and the full list is folded away."""


@dataclass(frozen=True)
class Cell:
    """One value.

    Args:
        text: a dash without a value.
        reference: the original report's figure, shown muted beside it.
        note: a short second line, muted.
        title: shown under the pointer.
        shade: 0 to 1, how strongly the cell is coloured; None leaves it plain.
    """

    text: str
    reference: str = ""
    note: str = ""
    title: str = ""
    shade: float | None = None


@dataclass(frozen=True)
class Table:
    """Rows under named columns; ``heads`` name the rows, and ``statuses`` are the runs' if rows are runs."""

    caption: str
    columns: tuple[str, ...]
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    statuses: tuple[str, ...] = ()

    @property
    def has_reference(self) -> bool:
        """Whether any cell has a figure of the original report."""
        return any(cell.reference for row in self.rows for cell in row)


NONE = Cell("–")


@cache
def reference_figures() -> dict[str, Any]:
    """The original report's figures by ``report_name``, with their source."""
    text = files("anychannel.report").joinpath("reference_figures.json").read_text(encoding="utf-8")
    figures: dict[str, Any] = json.loads(text)
    return figures


def reference(run: Run) -> dict[str, Any]:
    """The original report's figures for a run; empty unless it is one of its networks."""
    found = reference_figures().get(run.text("report_name"))
    return found if isinstance(found, dict) else {}


def figure(value: float | None, digits: int, unit: float = 1.0, given: Any = None, note: str = "") -> Cell:
    """A cell for ``value * unit``; ``given`` is the original report's figure, already in the cell's unit."""
    beside = "" if given is None else f"{float(given):,.{digits}f}"
    return Cell("–" if value is None else f"{value * unit:,.{digits}f}", reference=beside, note=note)


def run_table(
    caption: str, columns: Sequence[str], runs: Sequence[Run], row_of: Callable[[Run], Sequence[Cell]]
) -> Table:
    """A table with one row a run."""
    return Table(
        caption,
        tuple(columns),
        heads=tuple(run.name for run in runs),
        rows=tuple(tuple(row_of(run)) for run in runs),
        statuses=tuple(run.status for run in runs),
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

    def row(run: Run) -> list[Cell]:
        known, best = reference(run), run.best
        count = len(run.epochs) or run.record.get("epochs_run")
        sampler = "" if run.text("sampler") == "full" else run.text("sampler")
        network = ", ".join(filter(None, [run.text("model"), run.text("stem"), sampler]))
        cells = [
            Cell(network or "–", note=run.text("report_name").replace("_", " ")),
            figure(count, 0, given=known.get("epochs"), note=f"best: {best.epoch}" if best else ""),
        ]
        for name in ("train_accuracy", "train_loss", "val_accuracy", "val_loss"):
            digits, unit = (2, 100) if name.endswith("accuracy") else (4, 1)
            cells.append(figure(getattr(best, name, None), digits, unit, known.get(name)))
        return [*cells, accuracy_cell(run.test.whole if run.test else None, known.get("test", {}).get("RGB"))]

    return run_table("Training and validation at the best epoch, test at the end", columns, runs, row)


def accuracy_cell(result: SubsetResult | None, given: Any = None) -> Cell:
    """A test accuracy in percent with its standard error, or the reason of a refusal."""
    if result is None:
        return figure(None, 2, given=given)
    if result.refused is not None:
        return replace(figure(None, 2, given=given), text="refused", title=result.refused)
    error = f"{100 * result.standard_error:.2f}"
    title = f"{result.key}: standard error {error} points, n = {result.n}"
    return replace(figure(result.accuracy, 2, 100, given, note=f"± {error}"), title=title)


def subset_keys(runs: Sequence[Run]) -> list[str]:
    """All evaluated subsets, larger before smaller, otherwise in the order of the runs."""
    keys = dict.fromkeys(key for run in runs if run.test for key in run.test.subsets)
    return sorted(keys, key=lambda key: -key.count(","))


def subset_table(runs: Sequence[Run], keys: Sequence[str]) -> Table:
    """Test accuracy for each subset, shaded by its value: table and heat map in one."""
    tests = {run: run.test for run in runs if run.test}
    top = max((result.accuracy for test in tests.values() for result in test.answered.values()), default=1.0) or 1.0

    def cell(run: Run, key: str) -> Cell:
        result = tests[run].subsets.get(key)
        found = accuracy_cell(result, reference(run).get("test", {}).get(key.replace(",", "")))
        if result is None or result.refused is not None:
            return found
        return replace(found, text=f"{100 * result.accuracy:.1f}", shade=result.accuracy / top, note="")

    return run_table(
        "Test accuracy for each subset (%)", keys, list(tests), lambda run: [cell(run, key) for key in keys]
    )


def subset_gap_table(runs: Sequence[Run], keys: Sequence[str]) -> Table:
    """Accuracy of each subset minus the full set's, in points, shaded by the loss."""
    tests = {run: run.test for run in runs if run.test and run.test.whole}
    columns = [key for key in keys if key not in {test.full for test in tests.values()}]
    gaps = {run: gaps_of(test) for run, test in tests.items()}
    deepest = max((-gap for row in gaps.values() for gap in row.values()), default=0.0)

    def cell(run: Run, key: str) -> Cell:
        if key in gaps[run]:
            return Cell(signed(gaps[run][key]), shade=max(0.0, -gaps[run][key]) / deepest if deepest > 0 else 0.0)
        result = tests[run].subsets.get(key)
        return accuracy_cell(result) if result and result.refused else NONE

    caption = "Each subset minus the full set (percentage points)"
    return run_table(caption, columns, list(tests), lambda run: [cell(run, key) for key in columns])


def gaps_of(test: Scores) -> dict[str, float]:
    """Accuracy of each accepted subset minus the full set's, as a fraction."""
    return {key: test.gap[key]["accuracy"] for key in test.others if key in test.gap}


def signed(fraction: float) -> str:
    """A difference in points with a true minus sign."""
    return f"{100 * fraction:+.1f}".replace("-", "−")


def size_table(runs: Sequence[Run], *, gap: bool = False) -> Table:
    """Mean, least and greatest test accuracy for each number of channels, or the same of the gap to the full set."""
    values: dict[Run, Mapping[str, float]] = {}
    for run in runs:
        if run.test and gap and run.test.whole:
            values[run] = gaps_of(run.test)
        elif run.test and not gap:
            values[run] = {key: result.accuracy for key, result in run.test.answered.items()}
    sizes = sorted({key.count(",") + 1 for found in values.values() for key in found}, reverse=True)
    by_size = {
        (run, size): chosen
        for run, found in values.items()
        for size in sizes
        if (chosen := [value for key, value in found.items() if key.count(",") + 1 == size])
    }
    scale = max((abs(fmean(chosen)) for chosen in by_size.values()), default=1.0) or 1.0

    def text(value: float) -> str:
        return signed(value) if gap else f"{100 * value:.1f}"

    def cell(run: Run, size: int) -> Cell:
        chosen = by_size.get((run, size))
        if chosen is None:
            return NONE
        mean, count = fmean(chosen), len(chosen)
        span = f"{text(min(chosen))} to {text(max(chosen))}" if count > 1 else "one subset"
        shade = max(0.0, -mean if gap else mean) / scale
        return Cell(text(mean), note=span, shade=shade, title=f"{count} subsets of {size} channels")

    caption = "Subset minus full set, by number of channels" if gap else "Test accuracy (%), by number of channels"
    columns = [plural(size, "channel") for size in sizes]
    return run_table(
        f"{caption}: mean, least to greatest", columns, list(values), lambda run: [cell(run, size) for size in sizes]
    )


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

    def row(run: Run) -> list[Cell]:
        known, cost = reference(run), run.cost
        full = cost.of_largest(",".join(run.channels)) if cost else SubsetCost()
        size = f"{describe_size(cost.image_size, '×')} px" if cost and cost.image_size else ""
        return [
            figure(number(run.record.get("params")), 4, 1e-6, known.get("params_m")),
            figure(full.gflops_calflops, 3, 1, known.get("gflops")),
            figure(full.gflops_with_attention, 3),
            figure(cost.batch_size if cost else None, 0, 1, known.get("batch_size"), note=size),
            figure(cost.peak_memory_mb if cost else None, 0, 1, known.get("memory_mb")),
            latency_cell(cost, full, "1"),
            latency_cell(cost, full, "64"),
        ]

    return run_table("Cost on the full channel set", columns, runs, row)


def latency_cell(cost: Cost | None, row: SubsetCost, batch: str) -> Cell:
    """Median time an image, with the range of the middle 80 %."""
    time = row.latency_ms.get(batch)
    if cost is None or time is None:
        return NONE
    note = f"{time.p10:.2f} to {time.p90:.2f}" if time.p10 is not None and time.p90 is not None else ""
    return Cell(f"{time.median:.2f}", note=note, title=f"median; 10th to 90th percentile; {cost.device}")


def refusals(runs: Sequence[Run]) -> list[str]:
    """The subsets that each run refuses, with its reason for the first of them."""
    said = []
    for run in runs:
        subsets = run.test.subsets.values() if run.test else ()
        refused = {result.key: result.refused for result in subsets if result.refused is not None}
        if refused:
            first, reason = next(iter(refused.items()))
            example = "" if len(refused) == 1 else f"{first}, for example, because "
            said.append(f"{run.name} refuses {'; '.join(refused)}: {example}{reason}")
    return said
