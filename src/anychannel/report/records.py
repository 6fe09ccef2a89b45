"""What a run folder says, as typed records."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anychannel.utils.sizes import describe_size


@dataclass(frozen=True)
class Epoch:
    """One row of ``metrics.jsonl``; accuracies are fractions, None where the row has no such number."""

    epoch: int
    train_accuracy: float | None
    train_loss: float | None
    val_accuracy: float | None
    val_loss: float | None


@dataclass(frozen=True)
class ClassScore:
    """How one class fares on one subset; fractions, ``support`` in images."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class SubsetResult:
    """What a network does with one channel subset; ``refused`` is its reason where it takes none of it."""

    key: str
    size: int
    refused: str | None
    n: int
    accuracy: float
    loss: float | None
    ece: float | None
    macro: tuple[float, float, float]
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def standard_error(self) -> float:
        """Binomial standard error of the accuracy over ``n`` images, as a fraction.

        With one more image right and one more wrong, as Agresti and Caffo (The American Statistician, 2000) have it,
        so that it is not 0 where a few images are all right; times (n + 2) / n, since the accuracy is left as it is.
        """
        if not self.n:
            return math.nan
        share = (self.accuracy * self.n + 1) / (self.n + 2)
        return math.sqrt(share * (1 - share) * (self.n + 2)) / self.n


@dataclass(frozen=True)
class TestResult:
    """``evaluation/test.json``: the subsets in the order they were evaluated, the full set's key, the sample's note.

    ``gaps`` is each subset's accuracy minus the full set's, both over the images that have every channel.
    """

    n: int
    full: str
    subsets: dict[str, SubsetResult]
    sampled: bool
    note: str
    gaps: dict[str, float]

    @property
    def answered(self) -> dict[str, SubsetResult]:
        """The subsets that the network takes."""
        return {key: result for key, result in self.subsets.items() if result.refused is None}

    @property
    def partial(self) -> bool:
        """Whether images lack channels, so that subsets rest on different ones."""
        return any(result.n != self.n for result in self.answered.values())

    @property
    def whole(self) -> SubsetResult | None:
        """The full set's result, None where it was not evaluated or refused."""
        return self.answered.get(self.full)

    @property
    def others(self) -> dict[str, SubsetResult]:
        """The answered subsets but the full one."""
        return {key: result for key, result in self.answered.items() if key != self.full}


@dataclass(frozen=True)
class Latency:
    """Milliseconds an image."""

    median: float
    p10: float | None
    p90: float | None


@dataclass(frozen=True)
class Cost:
    """``cost.json`` for the full channel set; operations in GFLOPs a batch, memory in MB."""

    batch_size: int
    image_size: tuple[int, int] | None
    gflops: float | None
    gflops_with_attention: float | None
    memory_mb: float | None
    latency: dict[str, Latency]
    device: str
    note: str

    @property
    def gflops_per_image(self) -> float | None:
        """The batch's operations shared among its images."""
        return self.gflops / self.batch_size if self.gflops and self.batch_size else None


@dataclass(frozen=True)
class GapRow:
    """One subset in ``gap.json``: accuracies a seed, their mean difference and its interval, as fractions."""

    subset: str
    adaptive: tuple[float, ...]
    dedicated: tuple[float, ...]
    difference: float
    low: float
    high: float
    p_values: tuple[float, ...]
    n: int


@dataclass(frozen=True)
class Gap:
    """A comparison with dedicated networks under one budget; ``evaluated`` counts the subsets it chose from.

    ``adaptive_run`` and ``dedicated_run`` are the fewest and most epochs that training took, () where not known.
    """

    budget: str
    names: tuple[str, ...]
    seeds: tuple[int, ...]
    network: str
    evaluated: int
    adaptive_epochs: int
    dedicated_epochs: int
    adaptive_run: tuple[int, ...]
    dedicated_run: tuple[int, ...]
    networks: int
    n: int
    confidence: float
    rows: tuple[GapRow, ...]

    @property
    def mean(self) -> float:
        """Mean difference over the subsets."""
        return sum(row.difference for row in self.rows) / len(self.rows)

    @property
    def worst(self) -> GapRow:
        """The subset that falls furthest behind its dedicated network."""
        return min(self.rows, key=lambda row: row.difference)


@dataclass(frozen=True)
class Run:
    """One run folder.

    Args:
        folder: where it lies.
        name: what to call it, unlike any other run's name on the page.
        status: ``finished``, ``running``, ``stopped``, ``interrupted`` or ``failed``; ``not finished`` where
            ``run.json`` says running, but no process on this machine holds the folder.
        record: ``run.json`` as it is.
        epochs: one row an epoch.
        test, cost, examples: None where the run has none.
        gaps: comparisons with dedicated networks, one a budget.
        command, config: text of the files, empty where there is none.
        environment: ``environment.json`` as it is.
        problems: sentences about files that could not be read.
    """

    folder: Path
    name: str
    status: str
    record: dict[str, Any]
    epochs: tuple[Epoch, ...]
    test: TestResult | None
    cost: Cost | None
    examples: dict[str, Any] | None
    gaps: tuple[Gap, ...]
    command: str
    config: str
    environment: dict[str, Any]
    problems: tuple[str, ...]

    def text(self, key: str) -> str:
        """A field of ``run.json`` as text, empty where there is none."""
        value = self.record.get(key)
        return "" if value is None else str(value)

    @property
    def pixels(self) -> str:
        """Height and width of the images, as ``84 × 84``; empty where the run does not say."""
        try:
            return describe_size(self.record.get("image_size", ()), "×")
        except ValueError:
            return ""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the run's channels."""
        return tuple(str(name) for name in self.record.get("channels") or ())

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the run's classes."""
        return tuple(str(name) for name in self.record.get("classes") or ())

    @property
    def params(self) -> int | None:
        """Number of learned values."""
        value = number(self.record.get("params"))
        return None if value is None else int(value)

    @property
    def best(self) -> Epoch | None:
        """The epoch whose weights were kept."""
        chosen = self.record.get("best_epoch")
        if chosen is None and self.epochs:
            scored = [row for row in self.epochs if row.val_accuracy is not None]
            return max(scored, key=lambda row: row.val_accuracy or 0.0) if scored else None
        return next((row for row in self.epochs if row.epoch == chosen), None)


def number(value: Any) -> float | None:
    """``value`` as a finite float, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
