"""Tables that compare runs, with the original report's figures beside its networks' figures.

A table is plain values: the template lays it out, and tests read it without HTML.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from statistics import fmean, stdev
from typing import Any, TypedDict

from anychannel.results.cost import SubsetCost
from anychannel.results.evaluation import SubsetResult
from anychannel.results.folds import Folds, Spread
from anychannel.results.gap import BudgetGap, SubsetGap
from anychannel.results.metrics import FIGURES
from anychannel.results.parse import number, parse
from anychannel.results.run import Run, measured
from anychannel.results.shapley import Choice, Contribution, Shapley
from anychannel.utils.plurals import plural
from anychannel.utils.sizes import describe_size

MANY_SUBSETS = 16
"""With more subsets, tables show them by their number of channels, and the full list is folded away."""


@dataclass(frozen=True)
class Cell:
    """One value, with the original report's figure beside it, a note as a second line, and a title under the pointer.

    ``shade`` is the strength of the cell's colour, 0 to 1; None leaves it plain.
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


class Rate(TypedDict):
    """The first epoch and the highest learning rate of a cycle."""

    first_epoch: int
    lr: float


class Cycle(Rate, total=False):
    """One entry of ``cycles`` in ``run.json``."""

    augment: str


NONE = Cell("–")
VERSIONS = ("anychannel", "python", "torch", "torchvision", "timm", "accelerate", "numpy", "scikit-learn")


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


def run_table(caption: str, rows: Mapping[Run, Mapping[str, Cell]]) -> Table:
    """A table with one row a run; ``rows`` have the same columns."""
    return Table(
        caption,
        columns=tuple(next(iter(rows.values()), ())),
        heads=tuple(run.name for run in rows),
        rows=tuple(tuple(row.values()) for row in rows.values()),
        statuses=tuple(run.status for run in rows),
    )


def training_table(runs: Sequence[Run]) -> Table:
    """Epochs, accuracies and losses at the best epoch, test accuracy on the full set."""

    word, figures = measured(runs), shared_figures(runs)
    first = next(iter(figures.values()))

    def row(run: Run) -> dict[str, Cell]:
        known, best = reference(run), run.best
        count = len(run.epochs) or run.record.get("epochs_run")
        sampler = "" if run.text("sampler") == "full" else run.text("sampler")
        network = ", ".join(filter(None, [run.text("model"), run.text("stem"), sampler]))

        def measure(name: str, digits: int, unit: float = 1.0) -> Cell:
            return figure(getattr(best, name, None), digits, unit, known.get(name))

        trained = {"Training accuracy (%)": measure("train_accuracy", 2, 100)} if "accuracy" in figures else {}
        return {
            "Network": Cell(network or "–", note=run.text("report_name").replace("_", " ")),
            "# of epochs": figure(count, 0, given=known.get("epochs"), note=f"best: {best.epoch}" if best else ""),
            **trained,
            "Training loss": measure("train_loss", 4),
            **{f"Validation {label} (%)": measure(f"val_{name}", 2, 100) for name, label in figures.items()},
            "Validation loss": measure("val_loss", 4),
        } | ({} if word == "validation" else tested(run, known.get("test", {}).get("RGB")))

    def tested(run: Run, given: Any) -> dict[str, Cell]:
        whole = run.test.whole if run.test else None
        return {
            f"Test {first}, all channels (%)": accuracy_cell(whole, given if first == "accuracy" else None),
            **{
                f"Test {label} (%)": figure(
                    number(getattr(whole, name, None)), 2, 100, given if name == "accuracy" else None
                )
                for name, label in figures.items()
                if label != first
            },
        }

    after = "" if word == "validation" else ", test at the end"
    return run_table(f"Training and validation at the best epoch{after}", {run: row(run) for run in runs})


def shared_figures(runs: Sequence[Run]) -> dict[str, str]:
    """The names of the figures that stand for all others, of runs on the same kind of data."""
    return runs[0].figures if runs else FIGURES


def accuracy_cell(result: SubsetResult | None, given: Any = None) -> Cell:
    """An accuracy, or mean average precision, in percent with its standard error, or the reason of a refusal."""
    if result is None:
        return figure(None, 2, given=given)
    if result.refused is not None:
        return replace(figure(None, 2, given=given), text="refused", title=result.refused)
    error = f"{100 * result.standard_error:.2f}"
    title = f"{result.label}: standard error {error} points, n = {result.n}"
    return replace(figure(result.score, 2, 100, given, note=f"± {error}"), title=title)


def subset_keys(runs: Sequence[Run]) -> list[str]:
    """All evaluated subsets, larger before smaller, otherwise in the order of the runs."""
    sizes = {key: run.test.size(key) for run in reversed(runs) if run.test for key in run.test.subsets}
    keys = dict.fromkeys(key for run in runs if run.test for key in run.test.subsets)
    return sorted(keys, key=lambda key: -sizes[key])


def subset_labels(runs: Sequence[Run]) -> dict[str, str]:
    """How subsets are shown: by the names of their groups if they have groups."""
    return {key: result.label for run in reversed(runs) if run.test for key, result in run.test.subsets.items()}


def subset_table(runs: Sequence[Run], keys: Sequence[str], name: str | None = None) -> Table:
    """A main figure, by default the first, for each subset, shaded by its value: table and heat map in one."""
    figures = shared_figures(runs)
    first = next(iter(figures))
    name = name or first
    tests = {run: run.test for run in runs if run.test}
    values = (getattr(result, name) for test in tests.values() for result in test.answered.values())
    top = max(values, default=1.0) or 1.0

    def cell(run: Run, key: str) -> Cell:
        result = tests[run].subsets.get(key)
        known = reference(run).get("test", {}).get(key.replace(",", "")) if name == "accuracy" else None
        found = accuracy_cell(result, known)
        if result is None or result.refused is not None:
            return found
        value = getattr(result, name)
        shown = {"text": f"{100 * value:.1f}", "shade": value / top, "note": ""}
        return replace(found, **shown) if name == first else Cell(**shown, reference=found.reference)

    labels = subset_labels(runs)
    rows = {run: {labels[key]: cell(run, key) for key in keys} for run in tests}
    return run_table(f"{measured(runs).capitalize()} {figures[name]} for each subset (%)", rows)


def fold_table(folds: Folds) -> Table:
    """Mean and standard deviation of each figure over the folds, for each subset."""

    def cell(spread: Spread) -> Cell:
        each = ", ".join(f"{100 * value:.1f}" for value in spread.values)
        return Cell(f"{100 * spread.mean:.1f}", note=f"± {100 * spread.deviation:.1f}", title=f"fold by fold: {each}")

    rows = folds.rows | ({"mean, some missing": folds.reduced} if folds.reduced else {})
    columns = tuple(f"{name[:1].upper()}{name[1:]} (%)" for name in folds.figures.values())
    cells = tuple(tuple(map(cell, spreads.values())) for spreads in rows.values())
    return Table(f"Mean and standard deviation over {len(folds.runs)} folds", columns, tuple(rows), cells)


def class_table(run: Run) -> Table | None:
    """How many images each class has in each split; None if the run does not record it."""
    names = {"train": "Training", "val": "Validation", "test": "Test"}
    try:
        counts = parse(dict[str, tuple[int, ...]], run.record.get("class_counts"))
    except ValueError:
        return None
    splits = {names[split]: counts[split] for split in names if any(counts.get(split, ()))}
    if not splits or any(len(each) != len(run.classes) for each in splits.values()):
        return None
    top = max(map(max, splits.values())) or 1
    rows = tuple(
        tuple(Cell(f"{each[place]:,}", shade=each[place] / top) for each in splits.values())
        for place in range(len(run.classes))
    )
    how = f", {run.text('split')}" if run.text("split") else ""
    kind = "label" if run.record.get("several_labels") else "class"
    return Table(f"Images of each {kind}{how}", tuple(splits), run.classes, rows)


def calibration_table(run: Run, keys: Sequence[str]) -> Table | None:
    """Calibration error of each subset without and with its temperature; None of an evaluation without them."""
    found = {key: result for key, result in (run.test.answered if run.test else {}).items() if result.temperature}
    rows = [found[key] for key in keys if key in found]
    if not rows:
        return None
    columns = ("Before (%)", "After (%)", "Temperature")
    cells = tuple(
        (figure(each.ece_before, 1, 100), figure(each.ece, 1, 100), figure(each.temperature, 2)) for each in rows
    )
    heads = tuple(each.label.replace(",", ", ") for each in rows)
    return Table(f"Calibration error, {run.name}", columns, heads, cells)


def subset_gap_table(runs: Sequence[Run], keys: Sequence[str]) -> Table:
    """Accuracy of each subset minus the full set's, in points, shaded by the loss."""
    tests = {run: run.test for run in runs if run.test and run.test.whole}
    gaps = {run: test.score_gaps for run, test in tests.items()}
    deepest = max((-gap for row in gaps.values() for gap in row.values()), default=0.0)

    def cell(run: Run, key: str) -> Cell:
        if key in gaps[run]:
            return Cell(signed(gaps[run][key]), shade=max(0.0, -gaps[run][key]) / deepest if deepest > 0 else 0.0)
        result = tests[run].subsets.get(key)
        return accuracy_cell(result) if result and result.refused else NONE

    columns = [key for key in keys if key not in {test.full for test in tests.values()}]
    labels = subset_labels(runs)
    rows = {run: {labels[key]: cell(run, key) for key in columns} for run in tests}
    return run_table("Each subset minus the full set (percentage points)", rows)


def signed(fraction: float) -> str:
    """A difference in points with a true minus sign."""
    return f"{100 * fraction:+.1f}".replace("-", "−")


def dedicated_table(gap: BudgetGap, caption: str) -> Table:
    """One network for every subset against dedicated networks: accuracies, differences and tests."""

    def mean(values: Sequence[float]) -> Cell:
        each = ", ".join(f"{100 * value:.1f}" for value in values)
        spread = f"± {100 * stdev(values):.1f}" if len(values) > 1 else ""
        return Cell(f"{100 * fmean(values):.1f}", note=spread, title=f"seed by seed: {each}")

    def cells(row: SubsetGap) -> tuple[Cell, ...]:
        interval = f"{signed(row.low)} to {signed(row.high)}"
        level = f"{100 * gap.confidence:.0f} % bootstrap interval over images"
        ps = ", ".join("< 0.001" if p < 0.001 else f"{p:.3f}" for p in row.p_values)
        tests = Cell(ps, title="exact, two-sided, on each seed's pair of networks")
        difference = Cell(signed(row.difference), note=interval, title=level)
        others = (
            (row.adaptive_balanced_accuracy, row.dedicated_balanced_accuracy),
            (row.adaptive_macro_f1, row.dedicated_macro_f1),
        )
        sides = (cell for ours, theirs in others if ours for cell in (mean(ours), mean(theirs)))
        return mean(row.adaptive), mean(row.dedicated), difference, *([tests] if tested else []), *sides

    known = all(row.adaptive_balanced_accuracy for row in gap.rows)  # not of earlier versions
    more = ("Balanced: all", "Balanced: dedicated", "Macro F1: all", "Macro F1: dedicated") if known else ()
    tested = all(row.p_values for row in gap.rows)
    more = ("McNemar's p", *more) if tested else ("Macro F1: all", "Macro F1: dedicated")
    columns = ("One network for all (%)", "Dedicated network (%)", "Difference (points)", *more)
    heads = tuple(row.subset.replace(",", ", ") for row in gap.rows)
    return Table(caption, columns, heads, rows=tuple(map(cells, gap.rows)))


def size_table(runs: Sequence[Run], *, gap: bool = False) -> Table:
    """Mean, least and greatest test accuracy for each number of channels, or the same of the gap to the full set."""
    tests = {run: run.test for run in runs if run.test and (run.test.whole or not gap)}
    values = {
        run: test.score_gaps if gap else {key: result.score for key, result in test.answered.items()}
        for run, test in tests.items()
    }
    sizes = sorted({tests[run].size(key) for run, found in values.items() for key in found}, reverse=True)
    chosen = {
        (run, size): [value for key, value in found.items() if tests[run].size(key) == size]
        for run, found in values.items()
        for size in sizes
    }
    what = "group" if tests and all(test.counted == "group" for test in tests.values()) else "channel"
    scale = max((abs(fmean(found)) for found in chosen.values() if found), default=1.0) or 1.0

    def text(value: float) -> str:
        return signed(value) if gap else f"{100 * value:.1f}"

    def cell(found: Sequence[float], size: int) -> Cell:
        if not found:
            return NONE
        mean, count = fmean(found), len(found)
        span = f"{text(min(found))} to {text(max(found))}" if count > 1 else "one subset"
        shade = max(0.0, -mean if gap else mean) / scale
        return Cell(text(mean), note=span, shade=shade, title=f"{count} subsets of {size} {what}s")

    word, name = measured(runs).capitalize(), next(iter(shared_figures(runs).values()))
    caption = f"Subset minus full set, by number of {what}s" if gap else f"{word} {name} (%), by number of {what}s"
    rows = {run: {plural(size, what): cell(chosen[run, size], size) for size in sizes} for run in tests}
    return run_table(f"{caption}: mean, least to greatest", rows)


def shapley_table(found: Shapley, head: str) -> Table:
    """What each channel or group contributes to the main figure and to macro F1, the largest Shapley value first."""

    def share(one: Contribution) -> Cell:
        error = "" if one.standard_error is None else f"± {100 * one.standard_error:.1f}"
        return Cell(signed(one.shapley), note=error, title="standard error over random orders" if error else "")

    def row(name: str) -> tuple[Cell, ...]:
        one, other = found.main.values[name], found.macro_f1.values[name]
        adds = NONE if one.adds is None else Cell(signed(one.adds))
        return share(one), adds, figure(one.alone, 1, 100), share(other)

    names = sorted(found.main.values, key=lambda name: -found.main.values[name].shapley)
    columns = (
        "Shapley value (points)",
        "Added to all others",
        f"{found.headline.capitalize()} alone (%)",
        "Shapley value, macro F1",
    )
    caption = f"What each {head} contributes to {found.headline}"
    return Table(caption, columns, tuple(names), tuple(map(row, names)))


def best_table(found: Shapley, head: str) -> Table:
    """The best evaluated subset of each number of channels or groups."""
    best, names = found.main.best, list(found.main.values)

    def words(one: Choice) -> str:
        held = one.subset.split(",")
        lacking = [name for name in names if name not in held]
        short = head == "channel" and 0 < len(lacking) < len(held)
        return f"all but {', '.join(lacking)}" if short else one.subset.replace(",", ", ")

    rows = tuple((Cell(words(one)), Cell(f"{100 * one.value:.1f}")) for one in best)
    heads = tuple(plural(one.size, head) for one in best)
    return Table(
        f"The best subset of each number of {head}s", ("Best subset", f"{found.headline.capitalize()} (%)"), heads, rows
    )


def cost_table(runs: Sequence[Run]) -> Table:
    """Parameters, operations, memory and latency."""

    def row(run: Run) -> dict[str, Cell]:
        known, cost = reference(run), run.cost
        full = cost.of_largest(",".join(run.channels)) if cost else SubsetCost()
        size = f"{describe_size(cost.image_size, '×')} px" if cost and cost.image_size else ""

        def latency(batch: str) -> Cell:
            time = full.latency_ms.get(batch)
            if cost is None or time is None:
                return NONE
            note = "" if time.p10 is None or time.p90 is None else f"{time.p10:.2f} to {time.p90:.2f}"
            return Cell(f"{time.median:.2f}", note=note, title=f"median; 10th to 90th percentile; {cost.device}")

        return {
            "Parameters (M)": figure(number(run.record.get("params")), 4, 1e-6, known.get("params_m")),
            "GFLOPs, calflops' count": figure(full.gflops_calflops, 3, 1, known.get("gflops")),
            "GFLOPs, with attention products": figure(full.gflops_with_attention, 3),
            "Batch": figure(cost.batch_size if cost else None, 0, 1, known.get("batch_size"), note=size),
            "Memory (MB)": figure(cost.peak_memory_mb if cost else None, 0, 1, known.get("memory_mb")),
            "Latency, batch 1 (ms an image)": latency("1"),
            "Latency, batch 64 (ms an image)": latency("64"),
        }

    return run_table("Cost on the full channel set", {run: row(run) for run in runs})


def provenance(run: Run) -> list[tuple[str, str]]:
    """Names and values from ``run.json`` and ``environment.json``; unknown values are left out."""
    known = {key: str(value) for key, value in run.environment.items() if value is not None}
    counts = [f"{run.text(f'num_{split}')} {split}" for split in ("train", "val", "test") if run.text(f"num_{split}")]
    device = known.get("device", "")
    if device == "cpu" and "cpu" in known:
        device = f"{known['cpu']}, {known.get('threads', '?')} of {known.get('cpu_cores', '?')} cores used"
    facts = {
        "Status": ": ".join(filter(None, [run.status, run.text("error") or describe_time_limit(run)])),
        "Started": known.get("started", "").replace("T", " "),
        "Cycles": describe_cycles(run),
        "Training time": duration(run.record.get("seconds")),
        "Seed": run.text("seed"),
        "Batch size": run.text("batch_size"),
        "Augmentation": run.text("augment"),
        "Data": run.text("dataset") + (f" ({', '.join(counts)})" if counts else ""),
        "Data fingerprint": run.text("fingerprint"),
        "Channels": ", ".join(run.channels),
        "Device": device,
        "Precision": known.get("precision", ""),
        "Platform": known.get("platform", ""),
        "Commit": known.get("commit", ""),
        "Versions": ", ".join(f"{name} {known[name]}" for name in VERSIONS if name in known),
        "Folder": run.folder.name,
    }
    return [(name, value) for name, value in facts.items() if value]


def describe_time_limit(run: Run) -> str:
    """That the time limit ended the training before its last epoch; empty otherwise."""
    planned = run.text("epochs_planned")
    return f"after {len(run.epochs)} of {planned} epochs, at the time limit" if run.record.get("timed_out") else ""


def describe_cycles(run: Run) -> str:
    """The epochs of each cycle of the learning rate, its highest rate and augmentation; empty if there was one."""
    try:
        found = parse(tuple[Cycle, ...], run.record.get("cycles", []))
    except ValueError:
        return ""
    ends = [*(each["first_epoch"] - 1 for each in found[1:]), len(run.epochs)]
    return "; ".join(
        (f"epochs {each['first_epoch']} to {end}" if end > each["first_epoch"] else f"epoch {end}")
        + f" at learning rate {each['lr']:g}"
        + (f", augmentation {each['augment']}" if "augment" in each else "")
        for each, end in zip(found, ends, strict=False)
    )


def duration(seconds: object) -> str:
    """Seconds in words; empty if unknown."""
    if (known := number(seconds)) is None:
        return ""
    minutes, rest = divmod(round(known), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{known:.1f} s"
