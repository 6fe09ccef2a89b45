"""Gap tables: one network for every subset against networks dedicated to one subset each. ``gap.json`` in a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any


@dataclass(frozen=True)
class SubsetGap:
    """One subset's row: accuracies, one a seed, of the network for all subsets and of the one for this subset alone.

    ``difference`` is adaptive minus dedicated, the mean over seeds, as a fraction; ``low`` and ``high`` are its
    bootstrap interval over images, for these networks. ``p_values`` are McNemar's exact test on each seed's pair.
    Balanced accuracies and macro F1 are empty if they are not known. If images may have several labels, mean average
    precision takes the place of accuracy, and there are no p-values.
    """

    subset: str
    adaptive: tuple[float, ...]
    dedicated: tuple[float, ...]
    difference: float
    low: float
    high: float
    n: int
    p_values: tuple[float, ...] = ()
    adaptive_balanced_accuracy: tuple[float, ...] = ()
    dedicated_balanced_accuracy: tuple[float, ...] = ()
    adaptive_macro_f1: tuple[float, ...] = ()
    dedicated_macro_f1: tuple[float, ...] = ()


@dataclass(frozen=True)
class GapTable:
    """At least one row, and their summary; ``n`` is the number of test images, the rows' largest if they differ."""

    n: int
    confidence: float
    rows: tuple[SubsetGap, ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError("a comparison has no rows")

    @property
    def mean(self) -> float:
        """Mean difference over the subsets, as a fraction; negative if dedicated networks do better."""
        return fmean(row.difference for row in self.rows)

    @property
    def worst(self) -> SubsetGap:
        """The row with the lowest difference."""
        return min(self.rows, key=lambda row: row.difference)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        worst = {"subset": self.worst.subset, "difference": self.worst.difference}
        rows = [{name: value for name, value in asdict(row).items() if value != ()} for row in self.rows]
        return {"n": self.n, "confidence": self.confidence, "mean": self.mean, "worst": worst, "rows": rows}


@dataclass(frozen=True)
class BudgetGap(GapTable):
    """The gap table under one training budget: epochs planned for each network, and fewest and most epochs run."""

    networks: int
    adaptive_epochs: int
    dedicated_epochs: int
    adaptive_epochs_run: tuple[int, ...] = ()
    dedicated_epochs_run: tuple[int, ...] = ()

    @property
    def epochs(self) -> tuple[str, str]:
        """Epochs of the network for all subsets and of a dedicated one, see ``describe_epochs``."""
        ours = describe_epochs(self.adaptive_epochs, self.adaptive_epochs_run)
        return ours, describe_epochs(self.dedicated_epochs, self.dedicated_epochs_run)

    @property
    def stopped_early(self) -> bool:
        """Whether a network trained for fewer epochs than planned."""
        return self.epochs != (str(self.adaptive_epochs), str(self.dedicated_epochs))


@dataclass(frozen=True)
class DedicatedGaps:
    """What ``gap.json`` holds: runs that differ in their seeds only, against dedicated networks under each budget.

    ``subsets_evaluated`` counts the subsets from which those compared were chosen.
    """

    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    network: str
    subsets_evaluated: int
    budgets: dict[str, BudgetGap]


def describe_epochs(planned: int, run: Sequence[int]) -> str:
    """``10``, or ``4 to 6 of 10`` if training stopped early."""
    if not run or min(run) == planned:
        return str(planned)
    return f"{min(run)} of {planned}" if min(run) == max(run) else f"{min(run)} to {max(run)} of {planned}"
