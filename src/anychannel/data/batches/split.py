"""A split whose images can be read in any order, and its batches as tensors."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from mmap import mmap
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from anychannel.channels import ChannelSet, Subset
from anychannel.data.batches.images import Images, Planes
from anychannel.data.workers import one_ahead
from anychannel.utils.processes import Share
from anychannel.utils.seeds import mix


class Batch(NamedTuple):
    """What one process takes of a training step's images: images (n, C, H, W) and labels (n,) int64 or (n, L) float32.

    ``present`` (batch, C) says which channels each image of the whole batch has, whichever process takes it; None means
    that every image has all. ``places`` says where images come from, for messages.
    """

    images: Tensor
    labels: Tensor
    present: np.ndarray | None
    places: Sequence[str]

    def held(self) -> np.ndarray:
        """(n, C) booleans, the channels that each image has, if ``present`` is that of these images (``in_order``)."""
        return np.ones((len(self.labels), self.images.shape[1]), bool) if self.present is None else self.present


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Pixels as a tensor of a type that PyTorch can compute with: uint8 and float32 as they are, uint16 as float32.

    PyTorch's uint16 has almost no operations; float32 holds every 16-bit value exactly.
    """
    return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32 if pixels.dtype == np.uint16 else None))


@dataclass(frozen=True)
class Split(Dataset[Any]):
    """Images with labels; also a map-style PyTorch data set, which a ``DataLoader`` takes, with workers.

    ``split[i]`` is the image (C, H, W) as a tensor, in the files' own units, and its label as an int, or its labels as
    float32 (L,). If images of the
    split lack channels, it is a dictionary with ``image``, ``label`` and ``present``, a boolean tensor (C,); planes of
    channels that the image lacks are zeros.

    Args:
        images: (N, C, H, W) uint8, uint16 or float32 in the files' own units, usually a read-only memory map.
        labels: (N,) int64 positions in the data set's ``classes``. If images have several labels, (N, L) float32, 1
            for each label of ``classes`` that an image has and 0 for the others.
        paths: where each image comes from, as listed, relative to the data folder.
        present: (N, C) booleans, which channels each image has; the planes of the others hold nothing that means
            anything and are never read. None, also if it is given, where every image has every channel.
        digests: of what each image was read from, whatever its size and channels here: equal content, equal digest.
            None where that is not known.
        channels: the images' channels in their order, with the training split's statistics; None where they have no
            names. Loaded data have them, and whoever gets the split then matches channels by name.
        classes: names in the labels' order, likewise.
        balanced: whether ``batches`` draws each class equally often, see ``balanced_order``.

    Raises:
        ValueError: the numbers of images, labels, paths and digests differ, ``present`` has another shape or type, or
            an image has no channel.
    """

    images: Images
    labels: np.ndarray
    paths: Sequence[str]
    present: np.ndarray | None = None
    digests: Sequence[str] | None = None
    channels: ChannelSet | None = None
    classes: tuple[str, ...] | None = None
    balanced: bool = False

    random_access: ClassVar[bool] = True
    """Whether images can be read in any order, as evaluation needs."""

    def __post_init__(self) -> None:
        counts = (len(self.images), len(self.labels), len(self.paths))
        if len(set(counts)) != 1:
            raise ValueError(
                "a split needs as many labels and paths as images, got {} images, {} labels, {} paths".format(*counts)
            )
        if self.digests is not None and len(self.digests) != len(self.images):
            raise ValueError(
                f"a split needs a digest for each of its {len(self.images)} images, got {len(self.digests)}"
            )
        if self.present is None:
            return
        if self.present.dtype != bool or self.present.shape != self.images.shape[:2]:
            raise ValueError(
                f"present says for each of {self.images.shape[0]} images which of {self.images.shape[1]} channels it "
                f"has, as booleans; got {self.present.dtype.name} of shape {self.present.shape}"
            )
        empty = np.flatnonzero(~self.present.any(axis=1))
        if len(empty):
            raise ValueError(f"image {self.paths[empty[0]]} has no channel ({len(empty)} in all); leave it out")
        if self.present.all():
            object.__setattr__(self, "present", None)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Any:
        """One sample; see the class. Raises IndexError if there is no such image."""
        place = operator.index(row)
        if not -len(self) <= place < len(self):
            raise IndexError(f"image {place} of a split of {len(self)}")
        return self.__getitems__([place % len(self)])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[Any]:
        """Samples at these numbers, which are read together; PyTorch's ``DataLoader`` calls this."""
        images, read = Rows(self).__getitems__(rows)
        labels = read if self.has_several else read.tolist()
        if self.present is None:
            return list(zip(images, labels, strict=True))
        present = torch.from_numpy(self.present[np.asarray(rows, dtype=np.int64)])
        images = torch.where(present[:, :, None, None], images, 0)
        found = zip(images, labels, present, strict=True)
        return [{"image": image, "label": label, "present": held} for image, label, held in found]

    def __getstate__(self) -> dict[str, Any]:
        """A worker started afresh opens the memory map itself, instead of being sent its content."""
        return dict(self.__dict__) | {"images": pack(self.images)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"images": unpack(state["images"])})

    @property
    def has_several(self) -> bool:
        """Whether images may have several labels."""
        return self.labels.ndim == 2

    def count_labels(self, classes: int = 0) -> np.ndarray:
        """(K,) images of each class or label; at least ``classes`` entries."""
        several = self.has_several
        counts: np.ndarray = (self.labels > 0).sum(axis=0) if several else np.bincount(self.labels, minlength=classes)
        return counts

    def rows_with(self, subset: Subset) -> np.ndarray:
        """Positions of the images that have all channels of ``subset``, ascending."""
        if self.present is None:
            return np.arange(len(self))
        return np.flatnonzero(self.present[:, list(subset)].all(axis=1))

    def patterns(self) -> dict[Subset, np.ndarray]:
        """Positions of the images, ascending, by the channels that they have; the richest pattern first."""
        if self.present is None:
            return {tuple(range(self.images.shape[1])): np.arange(len(self))}
        return group_rows(self.present)

    def count_patterns(self) -> dict[Subset, int]:
        """How many images have which channels."""
        return {pattern: len(rows) for pattern, rows in self.patterns().items()}

    def find_lacking(self) -> tuple[int, str]:
        """How many images lack channels, and the path of the first, "" where none does."""
        rows = [] if self.present is None else np.flatnonzero(~self.present.all(axis=1)).tolist()
        return len(rows), self.paths[rows[0]] if rows else ""

    def select(self, positions: Subset) -> Split:
        """Only these channels, in this order, of the images that have all of them; no pixel is copied."""
        if self.present is None:
            return self.arrange(positions)
        rows = self.rows_with(positions)
        kept = replace(
            self,
            images=Planes(self.images, range(self.images.shape[1]), rows),
            labels=self.labels[rows],
            paths=tuple(self.paths[row] for row in rows),
            present=self.present[rows],
            digests=self.digests and tuple(self.digests[row] for row in rows),
        )
        return kept.arrange(positions)

    def arrange(self, positions: Subset) -> Split:
        """All images with these channels, in this order; no pixel is copied."""
        present = None if self.present is None else self.present[:, list(positions)]
        channels = self.channels and self.channels.select([self.channels.names[i] for i in positions])
        return replace(self, images=Planes(self.images, positions), present=present, channels=channels)

    def batches(self, *, seed: int, epoch: int, batch_size: int, share: Share, first_step: int = 0) -> Iterator[Batch]:
        """One process's share of an epoch's batches; images that do not fill a batch are left for other epochs.

        Seed and epoch decide the order. ``batch_size`` counts images over all processes. Steps before ``first_step``
        are passed over. Yields this process's images and labels, and ``present`` and ``places`` of all processes'
        images.
        """
        steps = len(self) // batch_size
        order = balanced_order(seed, epoch, self.labels) if self.balanced else epoch_order(seed, epoch, len(self))
        return self.batches_of(order[: steps * batch_size].reshape(steps, batch_size)[first_step:], share=share)

    def in_order(self, batch_size: int, share: Share | None = None, most: int | None = None) -> Iterator[Batch]:
        """One process's share of the images, with their own ``present`` and ``places``, in the split's order.

        ``most`` reads only so many, evenly spaced.
        """
        own, rows = share or Share(), np.arange(len(self))
        if most is not None and most < len(rows):
            rows = np.unique(np.linspace(0, len(rows) - 1, most).astype(int))
        rows = rows[own.rows(len(rows))]
        batches = iterate_batches(self, batch_size, order=rows)
        for start, (images, labels) in zip(range(0, len(rows), batch_size), batches, strict=True):
            here = rows[start : start + batch_size]
            present = None if self.present is None else self.present[here]
            yield Batch(images, labels, present, [self.paths[row] for row in here.tolist()])

    def batches_of(self, order: np.ndarray, *, share: Share) -> Iterator[Batch]:
        """One process's share of batches of the rows ``order`` (steps, batch)."""
        mine = order[:, share.rows(order.shape[1])]
        batches = iterate_batches(self, mine.shape[1], order=mine.reshape(-1))
        if not isinstance(self.images, np.ndarray):  # they are decoded as they are read
            batches = one_ahead(batches)
        for rows, (images, labels) in zip(order, batches, strict=True):
            present = None if self.present is None else self.present[rows]
            yield Batch(images, labels, present, [self.paths[row] for row in rows.tolist()])


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """Order in which an epoch visits ``size`` images."""
    return np.random.default_rng(mix(seed, 1, epoch)).permutation(size)


def balanced_order(seed: int, epoch: int, labels: np.ndarray) -> np.ndarray:
    """Order of an epoch in which each class that has images occurs equally often, to one image.

    It holds as many images as ``labels``, (N,) or (N, L). An image of a rare class comes again once all others of its
    class have come, and of a frequent class some images do not come. Of several labels an image, each label is a class,
    and having none is one too.
    """
    random = np.random.default_rng(mix(seed, 1, epoch))
    if labels.ndim == 2:
        held = np.column_stack([labels > 0, ~labels.any(axis=1)]).T
        classes = random.permutation(np.flatnonzero(held.any(axis=1)))
    else:
        classes = random.permutation(np.unique(labels))
    order = []
    for place, label in enumerate(classes.tolist()):
        rows = np.flatnonzero(labels == label if labels.ndim == 1 else held[label])
        wanted = (len(labels) - place - 1) // len(classes) + 1
        turns = [random.permutation(rows) for _ in range(-(-wanted // len(rows)))]
        order.append(np.concatenate(turns)[:wanted])
    found: np.ndarray = random.permutation(np.concatenate(order))
    return found


def group_rows(present: np.ndarray) -> dict[Subset, np.ndarray]:
    """Rows of (N, C) booleans by what is true in them: most first, then in the channels' order; each ascending."""
    found, places = np.unique(present, axis=0, return_inverse=True)
    groups = [(tuple(np.flatnonzero(pattern).tolist()), i) for i, pattern in enumerate(found)]
    order = sorted(groups, key=lambda group: (-len(group[0]), group[0]))
    return {pattern: np.flatnonzero(places.reshape(-1) == i) for pattern, i in order}


class Rows(Dataset[tuple[Tensor, Tensor]]):
    """A split whose rows are fetched a batch at a time."""

    def __init__(self, split: Split) -> None:
        self.split = split

    @property
    def images(self) -> Images:
        """The split's images."""
        return self.split.images

    @property
    def labels(self) -> np.ndarray:
        """The split's labels."""
        return self.split.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return to_tensor(self.images[row]), torch.as_tensor(self.labels[row])

    def __getitems__(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) images and (B,) or (B, L) labels.

        Each row is read once, in ascending order, then put where it belongs.
        """
        ascending, places = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
        images = self.images[ascending]
        if len(ascending) != len(rows) or not np.array_equal(places, np.arange(len(rows))):
            images = images[places]
        return to_tensor(images), torch.from_numpy(self.labels[np.asarray(rows, dtype=np.int64)])


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
    """Yield batches of images (B, C, H, W), uint8 or float32 in the files' own units, and (B,) int64 or (B, L)
    float32 labels.

    The last batch may hold fewer. ``order`` lists the rows to read, repeats allowed; None reads all rows as they come.
    ``num_workers`` processes read ahead; 0 reads in this one. The batches are the same.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is a number of images, at least 1, got {batch_size}")
    rows = np.arange(len(split)) if order is None else np.asarray(order)
    loader = DataLoader(
        Rows(split),
        batch_size,
        sampler=rows.tolist(),
        collate_fn=pass_through,
        num_workers=num_workers,
        generator=torch.Generator(),
    )
    yield from loader


def pass_through(batch: Any) -> Any:
    """Batches are already put together by ``Rows``."""
    return batch
