"""What a source of images provides: three splits of samples, and the names of classes and channels if it knows them.

A source lists its samples (``Sample``), or yields them from shards that are read in order (``Shards``). Everything else
is done once for all sources: ``anychannel.data.prepare``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from anychannel.channels import ChannelSet
from anychannel.data.errors import Problems
from anychannel.data.files.read import ReadSettings
from anychannel.data.sources.samples import AnySample, Fields, Sample

SPLITS = ("train", "val", "test")


class Shards(Protocol):
    """The samples of one split, in pieces that are read from the first sample to the last."""

    @property
    def storage(self) -> Literal["disk", "memory", "source"]:
        """Where decoded images are kept: in the cache, in memory, or nowhere, if rows are read again when needed."""

    @property
    def names(self) -> Sequence[str]:
        """Name of each shard, for messages."""

    @property
    def fields(self) -> Fields:
        """Which fields of a sample hold what."""

    def stamps(self) -> list[Any]:
        """Return plain values that change with the shards' content, as far as this is known without reading them."""

    def read(self, shard: int) -> Iterator[AnySample]:
        """Yield a shard's samples in its order. Raises ShardError if it cannot be read to its end."""


@dataclass(frozen=True)
class Listed:
    """A list of samples as shards of one sample each."""

    samples: Sequence[Sample]
    storage: Literal["disk", "memory"]
    fields: ClassVar[Fields] = Fields()

    @property
    def names(self) -> Sequence[str]:
        """The samples' paths."""
        return [sample.path for sample in self.samples]

    def stamps(self) -> list[Any]:
        """Nothing: files are known by their content."""
        return []

    def read(self, shard: int) -> Iterator[Sample]:
        """Yield the sample."""
        yield self.samples[shard]


@dataclass(frozen=True)
class StreamSettings:
    """How training images are read from shards.

    Args:
        epoch_images: images that an epoch draws; shards are then not counted, and an epoch may visit an image twice or
            not at all. None: an epoch visits each image once, and the images are counted first.
        statistics_images: images that the channels' statistics rest on; None takes all, or 10,000 with
            ``epoch_images``.
        buffer: samples among which the order is shuffled, of all lanes together.
        lanes: shards that are read side by side; see ``anychannel.data.batches.lanes``.
        workers: processes that read and decode; 0 uses threads of this one. The batches are the same.

    Raises:
        ValueError: a number is out of range.
    """

    epoch_images: int | None = None
    statistics_images: int | None = None
    buffer: int = 4096
    lanes: int | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        for name, what in (("epoch_images", " of images"), ("statistics_images", " of images"), ("lanes", "")):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is a number{what}, at least 1, or left out, got {value}")
        for name, what in (("buffer", "samples"), ("workers", "processes")):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is a number of {what}, 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class Source:
    """A data set before it is read.

    Args:
        name: of the data set.
        splits: a list of samples for ``train``, ``val`` and ``test``, or their shards.
        classes: names in the labels' order. None: taken from the labels.
        channels: names in the images' channel order. None: taken from the first image that has names.
        place: what messages call the data; by default the name.
        problems: what is wrong with single samples, found while listing them.
        stream: how to read training images during training, from shards. None: all images are read beforehand.
    """

    name: str
    splits: Mapping[str, Sequence[Sample] | Shards]
    classes: tuple[str, ...] | None = None
    channels: ChannelSet | tuple[str, ...] | None = None
    place: str = ""
    problems: Problems = field(default_factory=Problems)
    stream: StreamSettings | None = None


@dataclass(frozen=True)
class Request:
    """What ``load_dataset`` was asked for, whatever the source.

    Args:
        channels, classes, cache_dir, seed, progress, verify: see ``load_dataset``.
        settings: how images are read.
    """

    channels: ChannelSet | str | Sequence[str] | None = None
    classes: int | Sequence[str] | None = None
    cache_dir: str | Path | None = None
    seed: int = 0
    progress: bool = False
    verify: bool = False
    settings: ReadSettings = field(default_factory=ReadSettings)
