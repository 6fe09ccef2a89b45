"""What a data set is once loaded: three splits of images in memory or on disk, with named channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from anychannel.channels import ChannelSet
from anychannel.data.batches.split import Split
from anychannel.data.batches.stream import Stream
from anychannel.data.errors import DataError
from anychannel.data.sources.source import SPLITS
from anychannel.utils.plurals import few
from anychannel.utils.sizes import height_width

MOST_NAMES = 12
"""More columns are counted instead of named."""


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
        skipped: a line for each image that ``skip_bad`` left out.
        converted: how many images ``convert`` brought to RGB, by what they were.
        how: how the images were split, as ``split at random by plot``; empty if it is not known.
        other_columns: columns of a table that are no labels, if it has a column for each label; None: it has not.
    """

    name: str
    channels: ChannelSet
    classes: tuple[str, ...]
    train: Split | Stream
    val: Split
    test: Split
    fingerprint: str
    skipped: tuple[str, ...] = ()
    converted: Mapping[str, int] = field(default_factory=dict)
    how: str = ""
    other_columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in SPLITS:
            named = replace(getattr(self, name), channels=self.channels, classes=self.classes)
            object.__setattr__(self, name, named)

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
    def has_several(self) -> bool:
        """Whether images may have several labels, so that a split's ``labels`` are (N, L)."""
        return self.val.has_several

    def count_classes(self) -> dict[str, list[int]]:
        """How many images of each class or label each split has; streamed training images are left out."""
        splits = {name: getattr(self, name) for name in SPLITS}
        return {
            name: split.count_labels(len(self.classes)).tolist()
            for name, split in splits.items()
            if isinstance(split, Split)
        }

    def describe_split(self) -> str:
        """One line, as ``5 classes; 200 / 25 / 25 images (train / val / test), split at random by plot``.

        If each label is a column of a table, it names these, and the columns that are no labels.
        """
        counts = " / ".join(f"{len(getattr(self, name)):,}" for name in SPLITS)
        what = "labels, several an image" if self.has_several else "classes"
        labels = ""
        if self.other_columns is not None:
            others = f", and not {few(self.other_columns, MOST_NAMES)}" if self.other_columns else ""
            labels = f"; labels are the columns {few(self.classes, MOST_NAMES)}{others}"
        how = f", {self.how}" if self.how else ""
        return f"{len(self.classes):,} {what}; {counts} images (train / val / test){how}{labels}"

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
        if not all(len(view) or not len(getattr(self, name)) for name, view in views.items()):
            raise DataError(
                f"an image of each split has to have all of {', '.join(chosen.names)}, but one split of "
                f"{self.name} has none; name fewer channels"
            )
        return replace(self, channels=chosen, **views, fingerprint=f"{self.fingerprint}:{','.join(chosen.names)}")
