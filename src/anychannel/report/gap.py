"""The section that compares one network for every subset with networks dedicated to one subset each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from markupsafe import Markup

from anychannel.report.figures import gap_chart
from anychannel.report.tables import Cell, Table, signed
from anychannel.results.gap import BudgetGap, DedicatedGaps, SubsetGap, describe_epochs
from anychannel.results.run import Run

BUDGETS = {
    "passes": (
        "The same passes for each network",
        "Each dedicated network gets as many image passes as the one network for all; together they cost {networks} "
        "times as much.",
    ),
    "total": (
        "The same passes in all",
        "The dedicated networks share the image passes of the one network for all, to whole epochs and at least one "
        "each.",
    ),
}
"""Title and meaning of each training budget."""

EARLY = " That is the maximum: early stopping ended training sooner."


@dataclass(frozen=True)
class GapPanel:
    """One comparison under one budget; its charts are for wide and for narrow pages."""

    lead: str
    summary: str
    table: Table
    charts: tuple[Markup, Markup]
    note: str


def gap_panels(runs: Sequence[Run]) -> list[GapPanel]:
    """Panels of all comparisons; one that several runs share is shown once."""
    found: list[DedicatedGaps] = []
    for run in runs:
        if run.gaps and run.gaps not in found:
            found.append(run.gaps)
    return [
        panel(gaps, budget, f"gap{number}-{budget}") for number, gaps in enumerate(found) for budget in gaps.budgets
    ]


def panel(gaps: DedicatedGaps, budget: str, key: str) -> GapPanel:
    """One comparison under one budget; ``key`` makes the charts' ids unique."""
    gap = gaps.budgets[budget]
    title, meaning = BUDGETS.get(budget, (budget, ""))
    count = len(gaps.seeds)
    ours = describe_epochs(gap.adaptive_epochs, gap.adaptive_epochs_run)
    theirs = describe_epochs(gap.dedicated_epochs, gap.dedicated_epochs_run)
    early = (ours, theirs) != (str(gap.adaptive_epochs), str(gap.dedicated_epochs))
    chosen = (
        ""
        if gaps.subsets_evaluated == len(gap.rows)
        else (f" {len(gap.rows)} of {gaps.subsets_evaluated} evaluated subsets.")
    )
    columns = ("One network for all (%)", "Dedicated network (%)", "Difference (points)", "McNemar's p")
    return GapPanel(
        lead=meaning.format(networks=gap.networks) + (EARLY if early else ""),
        summary=f"Mean difference {signed(gap.mean)} points, worst {signed(gap.worst.difference)} "
        f"({gap.worst.subset}).",
        table=Table(
            title,
            columns,
            heads=tuple(row.subset.replace(",", ", ") for row in gap.rows),
            rows=tuple(cells(row, gap.confidence) for row in gap.rows),
        ),
        charts=(Markup(gap_chart(gap, f"{key}-wide", 900.0)), Markup(gap_chart(gap, f"{key}-narrow", 360.0))),
        note=f"{gaps.network}; {', '.join(gaps.runs)}; {'one seed' if count == 1 else f'{count} seeds'}, {ours} epochs "
        f"for all subsets, {theirs} for each dedicated network, {describe_images(gap)} test images.{chosen} "
        f"Accuracies are means{' ± standard deviation' if count > 1 else ''} over seeds; intervals "
        f"({100 * gap.confidence:.0f} %) are bootstrap intervals over images for these networks.",
    )


def describe_images(gap: BudgetGap) -> str:
    """Number of images in a row; a range if images lack channels."""
    fewest = min(row.n for row in gap.rows)
    return f"{gap.n:,}" if fewest == gap.n else f"{fewest:,} to {gap.n:,}"


def cells(row: SubsetGap, confidence: float) -> tuple[Cell, ...]:
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
    """Mean over seeds in percent, with the standard deviation of several seeds."""
    each = ", ".join(f"{100 * value:.1f}" for value in values)
    spread = f"± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return Cell(f"{100 * fmean(values):.1f}", note=spread, title=f"seed by seed: {each}")
