"""Images that are decoded when they are read, from rows that can be read in any order."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from anychannel.data.sources.reader import Reader, placed
from anychannel.data.sources.samples import AnySample
from anychannel.data.sources.template import Template
from anychannel.data.workers import count_workers


class Rows(Protocol):
    """Samples that can be read in any order."""

    def take(self, places: Sequence[int]) -> Sequence[AnySample]:
        """Return the samples at these places."""


class OnDemandImages:
    """Images (N, C, H, W), decoded when they are read; nothing is kept.

    Args:
        rows: where they lie.
        places: which of the rows they are.
        reader: turns rows into images.
        template: what all images have to be like.
    """

    ndim = 4

    def __init__(self, rows: Rows, places: np.ndarray, reader: Reader, template: Template) -> None:
        self.rows = rows
        self.places = places
        self.reader = reader
        self.template = template

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return (len(self.places), len(self.reader.channels), *self.template.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self.template.dtype

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """Images by a number, a slice or an array: (C, H, W) or (n, C, H, W). Raises DataError if one is unusable."""
        chosen = self.places[rows]
        samples = self.rows.take(np.atleast_1d(chosen).tolist())
        result = np.empty((len(samples), *self.shape[1:]), dtype=self.dtype)

        def fill(i: int) -> None:
            with placed(samples[i]):
                image = self.reader.read(samples[i])
                self.template.check(image.found, image.positions, samples[i].place, scaled=self.reader.settings.scaled)
            result[i] = image.spread(len(self.reader.channels))

        if len(samples) == 1:
            fill(0)
        else:
            with ThreadPoolExecutor(count_workers()) as pool:
                list(pool.map(fill, range(len(samples))))
        return result if np.ndim(chosen) else result[0]
