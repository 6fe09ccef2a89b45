"""Batches of a split as tensors, in a given order, read from the memory map in the disk's order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from mmap import mmap
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from anychannel.data.dataset import Split
from anychannel.data.planes import Planes


class Batch(NamedTuple):
    """What one process takes of a training step's images.

    Args:
        images: (n, C, H, W), see ``to_tensor``.
        labels: (n,) int64.
        present: booleans, which channels each image has; None where every image has all.
        places: where images come from, for messages.
    """

    images: Tensor
    labels: Tensor
    present: np.ndarray | None
    places: Sequence[str]


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Pixels as a tensor of a type that PyTorch can compute with: uint8 and float32 as they are, uint16 as float32.

    PyTorch's uint16 has almost no operations; float32 holds every 16-bit value exactly.
    """
    return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32 if pixels.dtype == np.uint16 else None))


class Rows(Dataset[tuple[Tensor, Tensor]]):
    """A split whose rows are fetched a batch at a time.

    Args:
        split: what to read from.
    """

    def __init__(self, split: Split) -> None:
        self.images = split.images
        self.labels = split.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return to_tensor(self.images[row]), torch.as_tensor(self.labels[row])

    def __getitems__(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) images and (B,) labels: each row is read once, in ascending order, then put where it belongs."""
        ascending, places = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
        images = self.images[ascending]
        if len(ascending) != len(rows) or not np.array_equal(places, np.arange(len(rows))):
            images = images[places]
        return to_tensor(images), torch.from_numpy(self.labels[np.asarray(rows, dtype=np.int64)])

    def __getstate__(self) -> dict[str, Any]:
        """A worker started afresh opens the memory map itself, instead of being sent its content."""
        return dict(self.__dict__) | {"images": pack(self.images)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"images": unpack(state["images"])})


def pack(images: Any) -> Any:
    """What stands for images in another process: a memory map's file, a view's file and choice, else themselves."""
    if isinstance(images, Planes):
        return Planes, pack(images.images), images.positions, images.rows
    if isinstance(images, np.memmap) and isinstance(images.base, mmap) and str(images.filename).endswith(".npy"):
        return np.memmap, str(images.filename)
    return images


def unpack(packed: Any) -> Any:
    """Inverse of ``pack``."""
    if not isinstance(packed, tuple):
        return packed
    kind, content, *choice = packed
    return Planes(unpack(content), *choice) if kind is Planes else np.load(content, mmap_mode="r")


def iterate_batches(
    split: Split, batch_size: int, *, order: np.ndarray | None = None, num_workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of images and labels.

    Args:
        split: what to read from.
        batch_size: images a batch; the last batch may hold fewer.
        order: rows to read, in this order, repeats allowed; None reads all rows as they come.
        num_workers: processes that read ahead; 0 reads in this one. The batches are the same.

    Yields:
        (B, C, H, W) images, uint8 or float32 in the files' own units (see ``to_tensor``), and (B,) int64 labels.

    Raises:
        ValueError: ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is a number of images, at least 1, got {batch_size}")
    rows = np.arange(len(split)) if order is None else np.asarray(order)
    pieces = [rows[start : start + batch_size].tolist() for start in range(0, len(rows), batch_size)]
    loader = DataLoader(
        Rows(split),
        batch_sampler=pieces,
        collate_fn=pass_through,
        num_workers=num_workers,
        generator=torch.Generator(),
    )
    yield from loader


def pass_through(batch: Any) -> Any:
    """Batches are already put together by ``Rows``."""
    return batch
