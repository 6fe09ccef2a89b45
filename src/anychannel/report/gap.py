"""The section that sets a network for every subset beside networks dedicated to each; reads ``gap.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from markupsafe import Markup

from anychannel.report import svg
from anychannel.report.records import Gap, GapRow, Run
from anychannel.report.tables import Cell, signed

ROW_HEIGHT = 26.0
MEANINGS = {
    "passes": "Each dedicated network gets as many image passes as the one network for all; together they cost "
    "{networks} times as much.",
    "total": "The dedicated networks share the image passes of the one network for all, to whole epochs and at least "
    "one each.",
}

EARLY = " That is the most they may take: early stopping ended training sooner."


@dataclass(frozen=True)
class GapPanel:
    """One comparison under one budget, ready to be laid out; its charts are for wide and narrow pages."""

    key: str
    title: str
    lead: str
    summary: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    charts: tuple[Markup, Markup]
    note: str


def gap_panels(runs: Sequence[Run]) -> list[GapPanel]:
    """Panels of all comparisons that the runs hold; one that several runs share is shown once."""
    found = list(dict.fromkeys(gap for run in runs for gap in run.gaps))
    return [panel(gap, f"gap{number}") for number, gap in enumerate(found)]


def panel(gap: Gap, key: str) -> GapPanel:
    """One comparison."""
    seeds = f"{len(gap.seeds)} seeds" if len(gap.seeds) > 1 else "one seed"
    ours = describe_epochs(gap.adaptive_epochs, gap.adaptive_run)
    theirs = describe_epochs(gap.dedicated_epochs, gap.dedicated_run)
    epochs = f"{ours} epochs for all subsets, {theirs} for each dedicated network"
    early = ours != str(gap.adaptive_epochs) or theirs != str(gap.dedicated_epochs)
    summary = f"Mean difference {signed(gap.mean)} points, worst {signed(gap.worst.difference)} ({gap.worst.subset})."
    chosen = "" if gap.evaluated == len(gap.rows) else f" {len(gap.rows)} of {gap.evaluated} evaluated subsets."
    return GapPanel(
        key=key,
        title={"passes": "The same passes for each network", "total": "The same passes in all"}.get(
            gap.budget, gap.budget
        ),
        lead=MEANINGS.get(gap.budget, "").format(networks=gap.networks) + (EARLY if early else ""),
        summary=summary,
        columns=("One network for all (%)", "Dedicated network (%)", "Difference (points)", "McNemar's p"),
        rows=tuple((row.subset, cells(row, gap.confidence)) for row in gap.rows),
        charts=(Markup(forest(gap, f"{key}-wide", 900.0)), Markup(forest(gap, f"{key}-narrow", 360.0))),
        note=f"{gap.network}; {', '.join(gap.names)}; {seeds}, {epochs}, {describe_images(gap)} test images.{chosen} "
        f"Accuracies are means{' ± standard deviation' if len(gap.seeds) > 1 else ''} over seeds; intervals "
        f"({100 * gap.confidence:.0f} %) are the bootstrap's over images with these networks as they are.",
    )


def describe_epochs(planned: int, ran: Sequence[int]) -> str:
    """``10``, or ``4 to 6 of 10`` where training ended sooner."""
    if not ran or min(ran) == planned:
        return str(planned)
    span = str(min(ran)) if min(ran) == max(ran) else f"{min(ran)} to {max(ran)}"
    return f"{span} of {planned}"


def describe_images(gap: Gap) -> str:
    """On how many images the rows rest; they differ where images lack channels."""
    fewest = min(row.n for row in gap.rows)
    return f"{gap.n:,}" if fewest == gap.n else f"{fewest:,} to {gap.n:,}"


def cells(row: GapRow, confidence: float) -> tuple[Cell, ...]:
    """One subset's figures."""
    ps = ", ".join("< 0.001" if p < 0.001 else f"{p:.3f}" for p in row.p_values)
    interval = f"{signed(row.low)} to {signed(row.high)}"
    return (
        mean_cell(row.adaptive),
        mean_cell(row.dedicated),
        Cell(signed(row.difference), note=interval, title=f"{100 * confidence:.0f} % bootstrap interval over images"),
        Cell(ps, title="exact, two-sided, on each seed's pair of networks"),
    )


def mean_cell(values: Sequence[float]) -> Cell:
    """Mean over seeds in percent, with its spread where there is more than one."""
    each = ", ".join(f"{100 * value:.1f}" for value in values)
    spread = f"± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return Cell(f"{100 * fmean(values):.1f}", note=spread, title=f"seed by seed: {each}")


def points(value: float) -> str:
    """A tick's label, with its sign."""
    return f"{value:+g}".replace("-", "−") if value else "0"


def forest(gap: Gap, key: str, width: float = 900.0) -> str:
    """Each subset's difference with its interval, in points, around the dedicated networks' line."""
    labels = [svg.clipped(row.subset, round(width / 16)) for row in gap.rows]
    left, top = 24 + max(svg.text_width(label, 12) for label in labels), 12.0
    right, bottom = width - 52, top + ROW_HEIGHT * len(gap.rows)
    ends = [100 * value for row in gap.rows for value in (row.low, row.high)]
    reach = max(*(abs(end) for end in ends), 1.0) * 1.08
    across = svg.Scale(-reach, reach, left, right)
    parts = svg.x_axis(across, svg.ticks(-reach, reach, 8 if width > 600 else 4), top, bottom, points, grid=True)
    parts.append(svg.line(across(0), top - 4, across(0), bottom, "muted", 1.5))
    for index, (row, label) in enumerate(zip(gap.rows, labels, strict=True)):
        middle = top + ROW_HEIGHT * (index + 0.5)
        parts.append(svg.line(across(100 * row.low), middle, across(100 * row.high), middle, "accent", 2))
        parts.append(svg.circle(across(100 * row.difference), middle, 5, "accent"))
        parts.append(svg.text(left - 10, middle + 4, label, anchor="end", colour="ink"))
        parts.append(svg.text(right + 8, middle + 4, signed(row.difference), colour="ink", weight=600))
    parts.append(svg.text(across(0), bottom + 40, "points above or below", anchor="middle"))
    listing = "; ".join(f"{row.subset} {signed(row.difference)}" for row in gap.rows)
    return svg.drawing(
        width,
        bottom + 48,
        parts,
        title="One network for every subset against dedicated networks",
        description=f"{listing} points. Lines: intervals over images.",
        key=key,
    )
