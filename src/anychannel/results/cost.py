"""What a network costs, as ``cost.json`` in a run holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from anychannel.utils.sizes import height_width


@dataclass(frozen=True)
class Latency:
    """Time of a forward pass over the batch size, in milliseconds; percentiles over the passes measured."""

    median: float
    p10: float | None = None
    p90: float | None = None


@dataclass(frozen=True)
class SubsetCost:
    """Cost on one channel subset: GFLOPs of a batch by two counts, and latency by batch size."""

    gflops_calflops: float | None = None
    gflops_with_attention: float | None = None
    latency_ms: dict[str, Latency] = field(default_factory=dict)
    refused: str | None = None


@dataclass(frozen=True)
class Cost:
    """Cost of a network for each channel subset, by its key.

    GFLOPs and the peak memory of a training step (None if it was not measured) are those of ``batch_size`` images of
    ``image_size`` pixels (one number, or height and width); ``device`` is where memory and latency were measured.
    """

    batch_size: int
    subsets: dict[str, SubsetCost]
    image_size: Any = None
    peak_memory_mb: float | None = None
    device: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.image_size is not None:
            height_width(self.image_size)

    def of_largest(self, full: str) -> SubsetCost:
        """The cost on the full set, or on the largest subset counted if the full set was refused."""
        counted = {key: row for key, row in self.subsets.items() if row.refused is None}
        if full in counted or not counted:
            return counted.get(full, SubsetCost())
        return counted[max(counted, key=lambda key: key.count(","))]
