"""Charts of runs: curves, subset accuracies, cost against accuracy."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from anychannel.report import svg
from anychannel.report.records import Epoch, Run
from anychannel.report.tables import subset_keys

CURVE_HEIGHT = 256.0
MANY_BARS = 40


@dataclass(frozen=True)
class Limits:
    """Axes that all runs' curves share, so that panels can be compared by eye."""

    epochs: int
    accuracy: tuple[float, float]
    loss: tuple[float, float]


def shared_limits(runs: Sequence[Run]) -> Limits:
    """Axes wide enough for all runs; accuracies in percent."""
    rows = [row for run in runs for row in run.epochs]
    accuracies = [100 * value for row in rows for value in (row.train_accuracy, row.val_accuracy) if value is not None]
    losses = [value for row in rows for value in (row.train_loss, row.val_loss) if value is not None]
    return Limits(
        epochs=max((row.epoch for row in rows), default=1),
        accuracy=padded(accuracies, 0.0, 100.0, finest=1.0),
        loss=padded(losses, 0.0, math.inf),
    )


def padded(values: Sequence[float], least: float, most: float, finest: float = 1e-6) -> tuple[float, float]:
    """A range of round ends around values, within bounds and not narrower than ``finest``."""
    if not values:
        return (0.0, 1.0)
    low, high = min(values), max(values)
    span = max(high - low, 0.05 * abs(high), finest)
    step = svg.ticks(0, span, 5)[1] if len(svg.ticks(0, span, 5)) > 1 else span
    start = max(least, math.floor((low - 0.02 * span) / step) * step)
    end = min(most, math.ceil((high + 0.02 * span) / step) * step)
    return (start, end if end > start else start + step)


def measure(row: Epoch, kind: str, split: str) -> float | None:
    """A row's accuracy in percent, or its loss."""
    value: float | None = getattr(row, f"{'train' if split == 'training' else 'val'}_{kind}")
    return None if value is None else 100 * value if kind == "accuracy" else value


def plot_area(width: float) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a curve chart's plotting area; names of the lines stand right of it."""
    return (46.0, 14.0, width - 76, CURVE_HEIGHT - 26)


def curve(run: Run, kind: str, limits: Limits, key: str, *, others: Sequence[Run] = (), width: float = 480.0) -> str:
    """Training and validation ``accuracy`` or ``loss`` against epochs, the best epoch marked.

    Args:
        run: whose curve.
        kind: ``accuracy`` or ``loss``.
        limits: axes.
        key: makes the drawing's ids unique.
        others: runs whose validation curves are drawn faintly behind.
        width: of the drawing.
    """
    left, top, right, bottom = plot_area(width)
    low, high = limits.accuracy if kind == "accuracy" else limits.loss
    across = svg.Scale(1, max(limits.epochs, 2), left, right)
    up = svg.Scale(low, high, bottom, top)
    unit = "%" if kind == "accuracy" else ""
    parts = svg.y_axis(up, svg.ticks(low, high), left, right, lambda value: f"{svg.short(value)}{unit}")
    clear = across(1) + 36  # where the first tick's label, with its word, is over
    whole = [1, *(round(value) for value in svg.ticks(1, limits.epochs, 6) if across(value) > clear)]
    parts += svg.x_axis(across, whole, top, bottom, lambda value: f"epoch {value}" if value == 1 else str(value))
    for other in others:
        ghost = [
            (across(row.epoch), up(value))
            for row in other.epochs
            if (value := measure(row, kind, "validation")) is not None
        ]
        if len(ghost) > 1:
            parts.append(svg.path(ghost, "ghost", 1.25))
    best = run.best
    if best is not None:
        at = across(best.epoch)
        parts.append(svg.line(at, top, at, bottom, "muted", 1, ' stroke-dasharray="2 3"'))
        side = "end" if at > (left + right) / 2 else "start"
        label = "best epoch" if run.status == "finished" else "best so far"
        early = " (stopped early)" if run.record.get("stopped_early") else ""
        ends_at = [measure(row, kind, split) for row in (best, run.epochs[-1]) for split in ("training", "validation")]
        marks = [up(value) for value in ends_at if value is not None]
        height = max((bottom - 8, top + 10), key=lambda y: min((abs(y - mark) for mark in marks), default=0.0))
        parts.append(
            svg.text(at + (-6 if side == "end" else 6), height, f"{label} {best.epoch}{early}", anchor=side, size=11.5)
        )
    ends: list[tuple[float, str, str, float]] = []
    for split, colour, extra in (("training", "second", ' stroke-dasharray="5 4"'), ("validation", "accent", "")):
        values = [(row.epoch, value) for row in run.epochs if (value := measure(row, kind, split)) is not None]
        if not values:
            continue
        places = [(across(epoch), up(value)) for epoch, value in values]
        parts.append(svg.path(places, colour, 2, extra) if len(places) > 1 else svg.circle(*places[0], 3.5, colour))
        ends.append((places[-1][1], split, colour, places[-1][0]))
        if best is not None:
            marked = measure(best, kind, split)
            if marked is not None:
                parts.append(svg.circle(across(best.epoch), up(marked), 4, colour))
    for height, (_, split, colour, end) in zip(spread([end[0] for end in ends]), ends, strict=True):
        parts.append(svg.text(end + 8, height + 4, split, colour=colour, weight=600, size=11.5, extra=svg.HALO))
    return svg.drawing(
        width,
        CURVE_HEIGHT,
        parts,
        title=f"{run.name}: {kind} by epoch",
        description=describe_curve(run, kind),
        key=key,
    )


def curve_data(run: Run, kind: str, limits: Limits, width: float = 480.0) -> str:
    """What the page needs to read a curve out under the pointer: plot area, epochs across, unit and rows, as JSON."""
    left, top, right, bottom = plot_area(width)
    rows = [[row.epoch, measure(row, kind, "training"), measure(row, kind, "validation")] for row in run.epochs]
    rounded = [[entry if entry is None else round(entry, 4) for entry in row] for row in rows]
    unit = " %" if kind == "accuracy" else ""
    plot = [left, top, right, bottom, width, CURVE_HEIGHT, max(limits.epochs, 2)]
    return json.dumps({"plot": plot, "unit": unit, "rows": rounded}, separators=(",", ":"))


def describe_curve(run: Run, kind: str) -> str:
    """The curve in a sentence."""
    if not run.epochs:
        return "No epoch was recorded."
    last, best = run.epochs[-1], run.best
    said = f"{len(run.epochs)} epochs; at the last {spoken(last, kind)}"
    return said + (f"; at the best, epoch {best.epoch}, {spoken(best, kind)}." if best else ".")


def spoken(row: Epoch, kind: str) -> str:
    """A row's two figures in words."""
    unit = " %" if kind == "accuracy" else ""
    digits = 1 if kind == "accuracy" else 3
    figures = [(split, measure(row, kind, split)) for split in ("training", "validation")]
    return ", ".join(f"{split} {value:.{digits}f}{unit}" for split, value in figures if value is not None) or "nothing"


def spread(heights: Sequence[float], gap: float = 14.0) -> list[float]:
    """Heights moved apart so that labels do not overlap (two at most)."""
    if len(heights) == 2 and abs(heights[0] - heights[1]) < gap:
        middle = sum(heights) / 2
        up = heights[0] <= heights[1]
        return [middle - gap / 2, middle + gap / 2] if up else [middle + gap / 2, middle - gap / 2]
    return list(heights)


def subset_bars(run: Run, key: str) -> str:
    """Test accuracy of each subset with its standard error, the full set first; the weakest where they are many."""
    assert run.test is not None
    keys = [name for name in subset_keys([run]) if name in run.test.answered]
    if len(keys) > MANY_BARS:
        worst = sorted(keys, key=lambda name: run.test.answered[name].accuracy if run.test else 0.0)
        keys = [name for name in keys if name == run.test.full or name in worst[: MANY_BARS - 1]]
    shown = [svg.clipped(name, 34) for name in keys]
    left = 24 + max((svg.text_width(name, 12) for name in shown), default=40.0)
    width, row, top = max(560.0, left + 380), 26.0, 12.0
    right, bottom = width - 64, top + row * len(keys)
    top_value = max((100 * run.test.answered[name].accuracy for name in keys), default=1.0)
    across = svg.Scale(0, padded([0, top_value], 0, 100)[1], left, right)
    parts = svg.x_axis(across, svg.ticks(0, across.high), top, bottom, lambda value: f"{svg.short(value)}%", grid=True)
    for index, (name, label) in enumerate(zip(keys, shown, strict=True)):
        result = run.test.answered[name]
        middle = top + row * (index + 0.5)
        end = across(100 * result.accuracy)
        colour = "accent" if name == run.test.full else "heat"
        parts.append(
            f'<rect x="{left:g}" y="{middle - 8:g}" width="{max(end - left, 0.5):g}" height="16" rx="2" '
            f'fill="var(--{colour})"/>'
        )
        low = across(max(0.0, 100 * (result.accuracy - result.standard_error)))
        high = min(right, across(100 * (result.accuracy + result.standard_error)))
        parts.append(svg.line(low, middle, high, middle, "ink", 1.25))
        parts.append(svg.text(left - 10, middle + 4, label, anchor="end", colour="ink"))
        parts.append(svg.text(high + 6, middle + 4, f"{100 * result.accuracy:.1f}", colour="ink", weight=600))
    listing = "; ".join(f"{name} {100 * run.test.answered[name].accuracy:.1f} %" for name in keys)
    return svg.drawing(
        width,
        bottom + 30,
        parts,
        title=f"{run.name}: test accuracy for each subset",
        description=f"{listing}. Lines: one standard error either way.",
        key=key,
    )


def cost_scatter(runs: Sequence[Run], key: str, width: float) -> str:
    """Full-set accuracy against GFLOPs an image on a log axis, labelled directly; empty unless two runs have both."""
    found = [
        (run, run.cost.gflops_per_image, run.test.whole)
        for run in runs
        if run.cost and run.cost.gflops_per_image and run.test and run.test.whole
    ]
    points = [(run, float(cost), whole) for run, cost, whole in found if cost and whole]
    if len(points) < 2:
        return ""
    height = 380.0
    left, top, right, bottom = 52.0, 16.0, width - 16, height - 52
    low, high = min(cost for _, cost, _ in points), max(cost for _, cost, _ in points)
    across = svg.Scale(low / 1.8, high * 1.8, left, right, log=True)
    errors = [100 * (whole.accuracy + sign * whole.standard_error) for _, _, whole in points for sign in (-1, 1)]
    bounds = padded([*errors, min(errors) - 2, max(errors) + 2], 0, 100)
    up = svg.Scale(*bounds, bottom, top)
    parts = svg.y_axis(up, svg.ticks(*bounds), left, right, lambda value: f"{svg.short(value)}%")
    parts += svg.x_axis(across, log_labels(across), top, bottom, grid=True)
    parts.append(svg.text(right, bottom + 40, "GFLOPs an image (calflops' count, log scale)", anchor="end"))
    places = [(across(cost), up(100 * whole.accuracy)) for _, cost, whole in points]
    words = [svg.clipped(run.name, 26) for run, _, _ in points]
    for (x, y), (_, _, whole) in zip(places, points, strict=True):
        reach = [up(100 * (whole.accuracy + sign * whole.standard_error)) for sign in (-1, 1)]
        parts.append(svg.line(x, reach[0], x, reach[1], "accent", 1.25))
        parts.append(svg.circle(x, y, 5, "accent"))
    for (x, y), word, (at, base, anchor) in zip(
        places, words, svg.place_labels(places, words, (left, top, right, bottom)), strict=True
    ):
        if abs(base - y) > 16:
            parts.append(
                svg.line(x, y, at + (-2 if anchor == "start" else 2 if anchor == "end" else 0), base - 4, "rule")
            )
        parts.append(svg.text(at, base, word, anchor=anchor, colour="ink"))
    listing = "; ".join(f"{run.name} {cost:.4g} GFLOPs, {100 * whole.accuracy:.1f} %" for run, cost, whole in points)
    return svg.drawing(
        width,
        height,
        parts,
        title="Test accuracy on all channels against cost",
        description=f"{listing}. Vertical lines: one standard error either way.",
        key=key,
    )


def log_labels(scale: svg.Scale) -> list[float]:
    """Ticks of a logarithmic axis; finer ones where the range is less than a decade."""
    found = svg.log_ticks(scale.low, scale.high)
    return found if len(found) > 1 else [value for value in svg.ticks(scale.low, scale.high) if value > 0]
