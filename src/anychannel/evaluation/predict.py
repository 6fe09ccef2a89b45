"""The answers of a classifier to images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Predictions:
    """A classifier's answers to N images.

    Args:
        classes: names of the K classes.
        paths: where each image comes from: a file's path, else its number in the order read.
        probabilities: (N, K) float32.
        channels: names of the channels that each image was classified from.
        unlike: how each image is unlike the training images, None if it is not. Empty if nothing is known.
        notes: other remarks on each image. Empty if there are none.
        failed: files that could not be classified, and why.
    """

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    probabilities: np.ndarray
    channels: tuple[tuple[str, ...], ...]
    unlike: tuple[str | None, ...] = ()
    notes: tuple[tuple[str, ...], ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64, the most probable class of each image."""
        found: np.ndarray = self.probabilities.argmax(axis=1)
        return found

    def __len__(self) -> int:
        return len(self.paths)

    def top(self, count: int = 1) -> list[list[tuple[str, float]]]:
        """For each image its most probable classes with their probabilities, best first."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :count]
        return [
            [(self.classes[i], float(row[i])) for i in best.tolist()]
            for row, best in zip(self.probabilities, order, strict=True)
        ]
