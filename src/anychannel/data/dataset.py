"""What a data set is once loaded: three splits of images in memory or on disk, with named channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from anychannel.channels import ChannelSet, Subset
from anychannel.data.errors import DataError
from anychannel.data.planes import Images, Planes
from anychannel.utils.sizes import height_width

if TYPE_CHECKING:
    from anychannel.data.batches.stream import Stream

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Images with labels.

    Args:
        images: (N, C, H, W) uint8, uint16 or float32 in the files' own units, usually a read-only memory map.
        labels: (N,) int64 positions in the data set's ``classes``.
        paths: where each image comes from, as listed, relative to the data folder.
        present: (N, C) booleans, which channels each image has; the planes of the others hold nothing that means
            anything and are never read. None, also if it is given, where every image has every channel.
        digests: of what each image was read from, whatever its size and channels here: equal content, equal digest.
            None where that is not known.

    Raises:
        ValueError: the numbers of images, labels, paths and digests differ, ``present`` has another shape or type, or
            an image has no channel.
    """

    images: Images
    labels: np.ndarray
    paths: Sequence[str]
    present: np.ndarray | None = None
    digests: Sequence[str] | None = None

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
            return replace(self, images=Planes(self.images, positions))
        rows = self.rows_with(positions)
        return Split(
            Planes(self.images, positions, rows),
            self.labels[rows],
            tuple(self.paths[row] for row in rows),
            digests=None if self.digests is None else tuple(self.digests[row] for row in rows),
        )


@dataclass(frozen=True)
class ImageDataset:
    """A data set for classification.

    Args:
        name: the folder's name, or the embedded data set's.
        channels: names in the images' channel order, with statistics over the training split.
        classes: names in the labels' order.
        train, val, test: the splits; no image is in two of them. Training images may be a ``Stream``, which is read
            from shards and never held.
        fingerprint: hexadecimal digest of all pixels' sources, labels, names and settings: equal data, equal digest.
    """

    name: str
    channels: ChannelSet
    classes: tuple[str, ...]
    train: Split | Stream
    val: Split
    test: Split
    fingerprint: str

    def count_patterns(self) -> dict[str, dict[str, int]]:
        """How many images of each split have which channels (``"R,G"``); empty where every image has all."""
        splits = dict(zip(SPLITS, (self.train, self.val, self.test), strict=True))
        if not any(split.find_lacking()[0] for split in splits.values()):
            return {}
        return {
            name: {self.channels.key(pattern): count for pattern, count in split.count_patterns().items()}
            for name, split in splits.items()
        }

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return height_width(tuple(map(int, self.val.images.shape[-2:])))

    def select(self, channels: str | Sequence[str]) -> ImageDataset:
        """The same images with only some of their channels, in the order named, as a network dedicated to them sees.

        Images that lack one of them are left out. Statistics are the chosen channels' own, over all images that have
        them; no pixel is copied.

        Raises:
            ChannelError: a name is unknown or repeats.
            DataError: no image of a split has all of them.
        """
        positions = self.channels.positions(channels)
        chosen = self.channels.select(channels)

        views = {name: getattr(self, name).select(positions) for name in SPLITS}
        if not all(map(len, views.values())):
            raise DataError(
                f"an image of each split has to have all of {', '.join(chosen.names)}, but one split of "
                f"{self.name} has none; name fewer channels"
            )
        return replace(
            self,
            channels=chosen,
            **views,
            fingerprint=f"{self.fingerprint}:{','.join(chosen.names)}",
        )


def group_rows(present: np.ndarray) -> dict[Subset, np.ndarray]:
    """Rows of (N, C) booleans by what is true in them: most first, then in the channels' order; each ascending."""
    found, places = np.unique(present, axis=0, return_inverse=True)
    groups = [(tuple(np.flatnonzero(pattern).tolist()), i) for i, pattern in enumerate(found)]
    order = sorted(groups, key=lambda group: (-len(group[0]), group[0]))
    return {pattern: np.flatnonzero(places.reshape(-1) == i) for pattern, i in order}
