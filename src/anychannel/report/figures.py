"""Charts of runs: training curves, subset accuracies, cost against accuracy, gaps to dedicated networks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anychannel.report import svg
from anychannel.report.tables import signed, subset_keys
from anychannel.results.gap import BudgetGap
from anychannel.results.metrics import FIGURES, LABEL_FIGURES
from anychannel.results.run import Epoch, Run, measured
from anychannel.results.shapley import Shapley

CURVE_HEIGHT = 256.0
ROW_HEIGHT = 26.0
MANY_ROWS = 40
SPLITS = {"training": "train", "validation": "val"}
Limits = Mapping[str, tuple[float, float]]


def shared_limits(runs: Sequence[Run]) -> Limits:
    """Axes of ``epochs``, ``loss`` and of figures in percent that suit all runs, so that panels can be compared."""
    rows = [row for run in runs for row in run.epochs]

    def values(kind: str) -> list[float]:
        found = (measure(row, kind, split) for row in rows for split in SPLITS)
        return [value for value in found if value is not None]

    return {
        "epochs": (1, max((row.epoch for row in rows), default=1)),
        **{kind: padded(values(kind), 0.0, 100.0, finest=1.0) for kind in FIGURES | LABEL_FIGURES},
        "loss": padded(values("loss"), 0.0, math.inf),
    }


def padded(values: Sequence[float], least: float, most: float, finest: float = 1e-6) -> tuple[float, float]:
    """A range of round ends around values, within bounds and not narrower than ``finest``."""
    if not values:
        return (0.0, 1.0)
    low, high = min(values), max(values)
    span = max(high - low, 0.05 * abs(high), finest)
    step = (*svg.ticks(0, span, 5), span)[1]
    start = max(least, math.floor((low - 0.02 * span) / step) * step)
    end = min(most, math.ceil((high + 0.02 * span) / step) * step)
    return (start, end if end > start else start + step)


def measure(row: Epoch, kind: str, split: str) -> float | None:
    """A row's loss, or another figure in percent; None if it is not known."""
    value: float | None = getattr(row, f"{SPLITS[split]}_{kind}", None)
    return None if value is None else value if kind == "loss" else 100 * value


def plot_area(width: float) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a curve's plotting area; the names of the lines stand right of it."""
    return (46.0, 14.0, width - 76, CURVE_HEIGHT - 26)


def percent_tick(value: float) -> str:
    """A tick's label on an axis in percent."""
    return f"{svg.short(value)}%"


def curve(run: Run, kind: str, limits: Limits, key: str, *, others: Sequence[Run] = (), width: float = 480.0) -> str:
    """Training and validation accuracy (or mean average precision) or loss against epochs, with the best epoch marked.

    The validation curves of ``others`` are drawn faintly behind; ``limits`` are those of ``shared_limits``.
    """
    left, top, right, bottom = plot_area(width)
    low, high = limits[kind]
    last = limits["epochs"][1]
    across = svg.Scale(1, max(last, 2), left, right)
    up = svg.Scale(low, high, bottom, top)

    def places(of: Run, split: str) -> list[tuple[float, float]]:
        values = ((row.epoch, measure(row, kind, split)) for row in of.epochs)
        return [(across(epoch), up(value)) for epoch, value in values if value is not None]

    parts = [svg.y_axis(up, svg.ticks(low, high), left, right, svg.short if kind == "loss" else percent_tick)]
    clear = across(1) + 36  # the first label, with its word, ends here
    whole = [1, *(round(value) for value in svg.ticks(1, last, 6) if across(value) > clear)]
    parts.append(svg.x_axis(across, whole, top, bottom, lambda value: f"epoch {value}" if value == 1 else str(value)))
    ghosts = [places(other, "validation") for other in others]
    parts += [svg.path(ghost, "ghost", 1.25) for ghost in ghosts if len(ghost) > 1]
    lines = {split: found for split in SPLITS if (found := places(run, split))}
    best = run.best
    if best is not None:
        at = across(best.epoch)
        parts.append(svg.line(at, top, at, bottom, "muted", 1, ' stroke-dasharray="2 3"'))
        anchor, shift = ("end", -6) if at > (left + right) / 2 else ("start", 6)
        label = "best epoch" if run.status == "finished" else "best so far"
        early = " (stopped early)" if run.record.get("stopped_early") else ""
        marks = [y for found in lines.values() for x, y in found if x in (at, found[-1][0])]
        height = max((bottom - 8, top + 10), key=lambda y: min((abs(y - mark) for mark in marks), default=0.0))
        parts.append(svg.text(at + shift, height, f"{label} {best.epoch}{early}", anchor=anchor, size=11.5))
    labels = svg.place_labels([found[-1] for found in lines.values()], list(lines), math.inf)
    for (split, found), (x, y, _) in zip(lines.items(), labels, strict=True):
        colour, dashes = ("second", ' stroke-dasharray="5 4"') if split == "training" else ("accent", "")
        parts.append(svg.path(found, colour, 2, dashes) if len(found) > 1 else svg.circle(*found[0], 3.5, colour))
        parts += [svg.circle(*place, 4, colour) for place in found if best and place[0] == across(best.epoch)]
        parts.append(svg.text(x, y, split, colour=colour, weight=600, size=11.5, extra=svg.HALO))
    said = [f"{len(run.epochs)} epochs; at the last {describe(run.epochs[-1], kind)}"] if run.epochs else []
    said += [f"at the best, epoch {best.epoch}, {describe(best, kind)}"] if best else []
    return svg.drawing(
        width,
        CURVE_HEIGHT,
        parts,
        title=f"{run.name}: {run.figures.get(kind, kind)} by epoch",
        description="; ".join(said) + ".",
        key=key,
    )


def curve_data(run: Run, kind: str, limits: Limits, width: float = 480.0) -> str:
    """JSON for the page's script, which reads out the epoch under the pointer."""
    rows = [[row.epoch, *(measure(row, kind, split) for split in SPLITS)] for row in run.epochs]
    rounded = [[entry if entry is None else round(entry, 4) for entry in row] for row in rows]
    unit = "" if kind == "loss" else " %"
    plot = [*plot_area(width), width, CURVE_HEIGHT, max(limits["epochs"][1], 2)]
    return json.dumps({"plot": plot, "unit": unit, "rows": rounded}, separators=(",", ":"))


def describe(row: Epoch, kind: str) -> str:
    """A row's two figures in words."""
    form = "{:.3f}" if kind == "loss" else "{:.1f} %"
    figures = [(split, measure(row, kind, split)) for split in SPLITS]
    return ", ".join(f"{split} {form.format(value)}" for split, value in figures if value is not None) or "nothing"


@dataclass(frozen=True)
class Row:
    """One row of ``row_chart``: a value with its interval and its label; a bar of this colour, or a dot without one.

    ``marks`` are further values as dots, with their colours.
    """

    name: str
    value: float
    low: float
    high: float
    label: str
    bar: str = ""
    marks: tuple[tuple[float, str], ...] = ()


def row_chart(
    rows: Sequence[Row],
    key: str,
    *,
    title: str,
    description: str,
    bounds: tuple[float, float],
    tick: svg.Label,
    unit: str,
    width: float,
) -> str:
    """Values with intervals, one a row, on an axis from and to ``bounds``; for the other arguments see ``svg``."""
    names = [svg.clipped(row.name, round(width / 16)) for row in rows]
    left, top = 24 + max(svg.text_width(name) for name in names), 12.0
    right, bottom = width - 52, top + ROW_HEIGHT * len(rows)
    across = svg.Scale(*bounds, left, right)
    parts = [svg.x_axis(across, svg.ticks(*bounds, 8 if width > 500 else 4), top, bottom, tick, grid=True)]
    parts.append(svg.line(across(0), top - 4, across(0), bottom, "muted", 1.5))
    for index, (row, name) in enumerate(zip(rows, names, strict=True)):
        middle = top + ROW_HEIGHT * (index + 0.5)
        low, high = across(max(bounds[0], row.low)), across(min(bounds[1], row.high))
        if row.bar:
            parts.append(svg.line(across(0), middle, across(row.value), middle, row.bar, 16))
            parts.append(svg.line(low, middle, high, middle, "ink", 1.25))
        else:
            parts.append(svg.line(low, middle, high, middle, "accent", 2))
            parts.append(svg.circle(across(row.value), middle, 5, "accent"))
        parts += [svg.circle(across(value), middle, 4, colour) for value, colour in row.marks]
        parts.append(svg.text(left - 10, middle + 4, name, anchor="end", colour="ink"))
        parts.append(svg.text(right + 8, middle + 4, row.label, colour="ink", weight=600))
    parts.append(svg.text((left + right) / 2, bottom + 40, unit, anchor="middle"))
    listing = "; ".join(f"{row.name} {row.label}" for row in rows)
    return svg.drawing(width, bottom + 48, parts, title=title, description=f"{listing}. {description}", key=key)


def subset_chart(run: Run, key: str) -> str:
    """Accuracy of each subset with its standard error, the full set first; of many subsets the weakest."""
    assert run.test is not None
    results = [run.test.answered[name] for name in subset_keys([run]) if name in run.test.answered]
    if len(results) > MANY_ROWS:
        weakest = sorted(results, key=lambda result: result.score)[: MANY_ROWS - 1]
        results = [result for result in results if result.key == run.test.full or result in weakest]
    rows = []
    for result in results:
        value, error = 100 * result.score, 100 * result.standard_error
        colour = "accent" if result.key == run.test.full else "heat"
        rows.append(Row(result.label, value, value - error, value + error, f"{value:.1f}", colour))
    return row_chart(
        rows,
        key,
        title=f"{run.name}: {run.measured} {run.test.headline} for each subset",
        description="Lines: one standard error either way.",
        bounds=(0.0, padded([0, *(row.value for row in rows)], 0, 100)[1]),
        tick=svg.short,
        unit=f"{run.measured} {run.test.headline} (%)",
        width=640,
    )


def shapley_chart(found: Shapley, key: str, width: float, *, title: str) -> str:
    """Shapley values of channels or groups by accuracy, in points, the largest first; of many the largest.

    A dot shows what each adds to all others, and another what it adds to none: its accuracy alone minus that of
    answering the most frequent class.
    """
    ranking = found.main
    names = sorted(ranking.values, key=lambda name: -ranking.values[name].shapley)[:MANY_ROWS]
    rows = []
    for name in names:
        one = ranking.values[name]
        error = 100 * (one.standard_error or 0.0)
        first = None if one.alone is None else one.alone - ranking.empty
        marks = [(100 * value, colour) for value, colour in ((first, "second"), (one.adds, "ink")) if value is not None]
        value = 100 * one.shapley
        rows.append(Row(name, value, value - error, value + error, signed(one.shapley), "heat", tuple(marks)))
    ends = [end for row in rows for end in (row.low, row.high, *(value for value, _ in row.marks))]
    low, high = padded([0, min(ends)], -100, 0)[0], padded([0, max(ends)], 0, 100)[1]
    return row_chart(
        rows,
        key,
        title=title,
        description="Bars: mean over the orders in which they arrive. Dots: added to none, and to all others.",
        bounds=(low if min(ends) < 0 else 0.0, high),
        tick=lambda value: svg.short(value).replace("-", "−"),
        unit=f"points of {found.headline}",
        width=width,
    )


def gap_chart(gap: BudgetGap, key: str, width: float) -> str:
    """Each subset's difference to its dedicated network, in points, with its interval over images."""
    rows = [Row(r.subset, 100 * r.difference, 100 * r.low, 100 * r.high, signed(r.difference)) for r in gap.rows]
    reach = 1.08 * max(1.0, *(abs(end) for row in rows for end in (row.low, row.high)))
    return row_chart(
        rows,
        key,
        title="One network for every subset against dedicated networks, in points",
        description="Lines: intervals over images.",
        bounds=(-reach, reach),
        tick=lambda value: f"{value:+g}".replace("-", "−") if value else "0",
        unit="points above or below",
        width=width,
    )


def cost_scatter(runs: Sequence[Run], key: str, width: float) -> str:
    """Full-set accuracy against GFLOPs an image on a log axis, labelled; empty unless two runs have both."""
    points = [
        (run, gflops / run.cost.batch_size, run.test.whole)
        for run in runs
        if run.cost and (gflops := run.cost.of_largest(",".join(run.channels)).gflops_calflops)
        if run.test and run.test.whole
    ]
    if len(points) < 2:
        return ""
    height = 380.0
    left, top, right, bottom = 52.0, 16.0, width - 16, height - 52
    costs = [cost for _, cost, _ in points]
    across = svg.Scale(min(costs) / 1.8, max(costs) * 1.8, left, right, log=True)
    errors = [100 * (whole.score + sign * whole.standard_error) for _, _, whole in points for sign in (-1, 1)]
    bounds = padded([*errors, min(errors) - 2, max(errors) + 2], 0, 100)
    up = svg.Scale(*bounds, bottom, top)
    parts = [svg.y_axis(up, svg.ticks(*bounds), left, right, percent_tick)]
    parts.append(svg.x_axis(across, svg.log_ticks(across.low, across.high), top, bottom, grid=True))
    parts.append(svg.text(right, bottom + 40, "GFLOPs an image (calflops' count, log scale)", anchor="end"))
    places = [(across(cost), up(100 * whole.score)) for _, cost, whole in points]
    for (x, y), low, high in zip(places, errors[::2], errors[1::2], strict=True):
        parts.append(svg.line(x, up(low), x, up(high), "accent", 1.25))
        parts.append(svg.circle(x, y, 5, "accent"))
    words = [svg.clipped(run.name, 26) for run, _, _ in points]
    for (x, y), word, label in zip(places, words, svg.place_labels(places, words, right), strict=True):
        at, base, anchor = label
        if abs(base - y) > 16:
            parts.append(svg.line(x, y, at + (2 if anchor == "end" else -2), base - 4, "rule"))
        parts.append(svg.text(at, base, word, anchor=anchor, colour="ink", extra=svg.HALO))
    listing = "; ".join(f"{run.name} {cost:.4g} GFLOPs, {100 * whole.score:.1f} %" for run, cost, whole in points)
    return svg.drawing(
        width,
        height,
        parts,
        title=f"{measured(runs).capitalize()} {runs[0].headline} on all channels against cost",
        description=f"{listing}. Vertical lines: one standard error either way.",
        key=key,
    )
