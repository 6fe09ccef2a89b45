"""What a data set is once loaded: three splits of images in memory or on disk, with named channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from anychannel.channels import ChannelSet
from anychannel.data.planes import Images, Planes

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Images with labels.

    Args:
        images: (N, C, H, W) uint8, uint16 or float32 in the files' own units, usually a read-only memory map.
        labels: (N,) int64 positions in the data set's ``classes``.
        paths: where each image comes from, as listed, relative to the data folder.
    """

    images: Images
    labels: np.ndarray
    paths: tuple[str, ...]

    def __post_init__(self) -> None:
        counts = (len(self.images), len(self.labels), len(self.paths))
        if len(set(counts)) != 1:
            raise ValueError(
                "a split needs as many labels and paths as images, got {} images, {} labels, {} paths".format(*counts)
            )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageDataset:
    """A data set for classification.

    Args:
        name: the folder's name, or the embedded data set's.
        channels: names in the images' channel order, with statistics over the training split.
        classes: names in the labels' order.
        train, val, test: the splits; no image is in two of them.
        fingerprint: hexadecimal digest of all pixels' sources, labels, names and settings: equal data, equal digest.
    """

    name: str
    channels: ChannelSet
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    fingerprint: str

    def select(self, channels: str | Sequence[str]) -> ImageDataset:
        """The same images with only some of their channels, in the order named, as a network dedicated to them sees.

        Statistics are the chosen channels' own; no pixel is copied.

        Raises:
            ChannelError: a name is unknown or repeats.
        """
        positions = self.channels.positions(channels)
        chosen = self.channels.select(channels)

        def view(split: Split) -> Split:
            return replace(split, images=Planes(split.images, positions))

        return replace(
            self,
            channels=chosen,
            train=view(self.train),
            val=view(self.val),
            test=view(self.test),
            fingerprint=f"{self.fingerprint}:{','.join(chosen.names)}",
        )
