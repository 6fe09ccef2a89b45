"""Some of the channels of images that lie elsewhere, read when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class Images(Protocol):
    """What a split's images must be able to do: a NumPy array of shape (N, C, H, W), a memory map or ``Planes``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""

    @property
    def ndim(self) -> int:
        """Number of axes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


class Planes:
    """A view of some channels of images (N, C, H, W), or of some of them; nothing is copied before rows are read.

    Args:
        images: what to read from, a memory map as a rule.
        positions: the k channels, in this order.
        rows: the n images, in this order; None: all.

    Raises:
        ValueError: a position is out of range, repeats, or there is none.
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
