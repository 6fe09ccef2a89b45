"""Images that are read when they are asked for: a choice of channels and rows, or samples that are not decoded yet."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from anychannel.data.sources.reader import Reader, Template
from anychannel.data.sources.source import AnySample
from anychannel.data.workers import count_workers


class Planes:
    """A view of some channels of images (N, C, H, W), or of some of them; nothing is copied before rows are read.

    ``positions`` are the k channels and ``rows`` the n images, in this order; None takes all images.
    """

    ndim = 4

    def __init__(self, images: Images, positions: Sequence[int], rows: np.ndarray | None = None) -> None:
        count = images.shape[1]
        if not positions or len(set(positions)) != len(positions) or not all(0 <= p < count for p in positions):
            raise ValueError(f"positions are different numbers in 0..{count - 1}, got {list(positions)}")
        self.images = images
        self.positions = list(positions)
        self.rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, k, H, W)."""
        return (len(self), len(self.positions), *self.images.shape[2:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self.images.dtype

    def __len__(self) -> int:
        return len(self.images) if self.rows is None else len(self.rows)

    def __getitem__(self, rows: Any, /) -> Any:
        """Rows of images, by a number, a slice or an array: (k, H, W) or (n, k, H, W)."""
        wanted = rows if self.rows is None else self.rows[rows]
        return np.asarray(self.images[wanted])[..., self.positions, :, :]


class Rows(Protocol):
    """Samples that can be read in any order."""

    def take(self, places: Sequence[int]) -> Sequence[AnySample]:
        """Return the samples at these places."""


class OnDemandImages:
    """Images (N, C, H, W), decoded when they are read; nothing is kept.

    ``places`` says which of the rows they are. All have to be like the template.
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
        return np.dtype(self.template.dtype)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """Images by a number, a slice or an array: (C, H, W) or (n, C, H, W). Raises DataError if one is unusable."""
        chosen = self.places[rows]
        samples = self.rows.take(np.atleast_1d(chosen).tolist())
        result = np.empty((len(samples), *self.shape[1:]), dtype=self.dtype)

        def fill(i: int) -> None:
            result[i] = self.reader.read_like(self.template, samples[i]).spread(len(self.reader.channels))

        with ThreadPoolExecutor(count_workers()) as pool:
            list(pool.map(fill, range(len(samples))))
        return result if np.ndim(chosen) else result[0]


Images = np.ndarray | Planes | OnDemandImages
"""Images (N, C, H, W) of a split: an array, which may be a memory map, or what reads like one."""
