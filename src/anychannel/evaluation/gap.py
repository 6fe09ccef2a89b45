"""The gap table: one network for every subset against networks dedicated to each, over seeds, on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from anychannel.evaluation.compare import bootstrap_mean, check_same_images, mcnemar, pair_records
from anychannel.evaluation.result import Evaluation


@dataclass(frozen=True)
class SubsetGap:
    """One subset's row; accuracies and differences are fractions.

    Args:
        subset: key, as ``"R,G"``.
        adaptive: accuracy of the network for all subsets, one value a seed.
        dedicated: accuracy of the network for just this subset, one value a seed.
        difference: mean over seeds of adaptive minus dedicated.
        low, high: bootstrap interval of the difference over images, these networks taken as given.
        p_values: McNemar's exact test on each seed's pair.
        n: images that both networks answered.
    """

    subset: str
    adaptive: tuple[float, ...]
    dedicated: tuple[float, ...]
    difference: float
    low: float
    high: float
    p_values: tuple[float, ...]
    n: int


@dataclass(frozen=True)
class GapTable:
    """All rows, and what they come to.

    Args:
        n: test images; the most that a row rests on, where images lack channels.
        confidence: level of the intervals.
        rows: one a subset, in the order given.
    """

    n: int
    confidence: float
    rows: tuple[SubsetGap, ...]

    @property
    def mean(self) -> float:
        """Mean difference over the subsets, as a fraction; negative where dedicated networks do better."""
        return fmean(row.difference for row in self.rows)

    @property
    def worst(self) -> SubsetGap:
        """The row with the lowest difference."""
        return min(self.rows, key=lambda row: row.difference)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        worst = {"subset": self.worst.subset, "difference": self.worst.difference}
        return {
            "n": self.n,
            "confidence": self.confidence,
            "mean": self.mean,
            "worst": worst,
            "rows": [asdict(row) for row in self.rows],
        }


def compare_with_dedicated(
    adaptive: Sequence[Evaluation],
    dedicated: Mapping[str, Sequence[Evaluation]],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> GapTable:
    """Set a network for every subset beside networks dedicated to single ones.

    Args:
        adaptive: one evaluation for each seed.
        dedicated: for each subset's key the evaluations of its dedicated network, seed by seed in the same order.
        confidence, resamples, seed: of the bootstrap over images.

    Raises:
        ValueError: there is nothing to compare, the numbers of seeds differ, the images are not the same, of a pair
            or from seed to seed, or an adaptive evaluation lacks a subset.
    """
    if not adaptive or not dedicated:
        raise ValueError("a gap table needs at least one adaptive evaluation and one dedicated to a subset")
    pairs = {}
    for seeds in (adaptive, *dedicated.values()):
        for other in seeds[1:]:
            check_same_images(seeds[0], other)
    for key, alone in dedicated.items():
        if len(alone) != len(adaptive):
            raise ValueError(f"{len(adaptive)} seeds of the adaptive network, but {len(alone)} dedicated to {key}")
        pairs[key] = [pair_records(one, other, key, other.full) for one, other in zip(adaptive, alone, strict=True)]
    return gap_table(pairs, confidence=confidence, resamples=resamples, seed=seed)


def gap_table(
    pairs: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> GapTable:
    """The table from records of which images were classified correctly.

    Args:
        pairs: for each subset's key, seed by seed, the adaptive network's and the dedicated one's record: (n,) booleans
            over the same images in the same order.
        confidence, resamples, seed: of the bootstrap over images.
    """
    rows = []
    for key, records in pairs.items():
        differences = np.mean([one.astype(float) - other for one, other in records], axis=0)
        low, high = bootstrap_mean(differences, confidence=confidence, resamples=resamples, seed=seed)
        rows.append(
            SubsetGap(
                subset=key,
                adaptive=tuple(float(one.mean()) for one, _ in records),
                dedicated=tuple(float(other.mean()) for _, other in records),
                difference=float(differences.mean()),
                low=low,
                high=high,
                p_values=tuple(mcnemar(int((other & ~one).sum()), int((one & ~other).sum())) for one, other in records),
                n=len(differences),
            )
        )
    return GapTable(max(row.n for row in rows), confidence, tuple(rows))
