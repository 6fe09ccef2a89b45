"""A sample of a shard or a table, which is some named fields, to an image, what its planes are, and a label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from anychannel.channels import ChannelSet, Subset
from anychannel.data.files.decoded import Decoded
from anychannel.data.files.read import ReadSettings, read
from anychannel.data.files.registry import image_suffixes
from anychannel.data.listing import split_channels
from anychannel.data.partial import find_fault
from anychannel.data.problems import DataError, ImageError


class Sample(NamedTuple):
    """Some named fields, and where they lie, for messages: ``train-003.tar: 000017``."""

    place: str
    fields: Mapping[str, Any]


class Image(NamedTuple):
    """A sample's planes, and which channels they are.

    Args:
        found: pixels (k, H, W).
        positions: the k channels' positions in the data set's channels.
    """

    found: Decoded
    positions: Subset

    def spread(self, channels: int) -> np.ndarray:
        """(channels, H, W) with each plane in its channel's place, the others zero."""
        pixels = self.found.pixels
        if self.positions == tuple(range(channels)):
            return pixels
        planes = np.zeros((channels, *pixels.shape[1:]), dtype=pixels.dtype)
        planes[list(self.positions)] = pixels
        return planes


@contextmanager
def placed(sample: Sample) -> Iterator[None]:
    """Let errors inside say which sample they are about.

    Raises:
        DataError: in place of an ``ImageError``.
    """
    try:
        yield
    except ImageError as error:
        raise DataError(f"{sample.place}: {error}") from error


@dataclass(frozen=True)
class Fields:
    """Which fields hold what.

    Args:
        image: the field with the image, a file's bytes or an array; or several, each with one plane, in the channels'
            order: a sample that lacks one of them lacks this channel. None: the one field named as an image file is
            (``png``, ``tif``, ``npy`` ...).
        label: the field with the label, a number from 0 or a class's name.
        held: the field that tells which channels the image holds (``R,G`` or a list of names), in its planes' order;
            a sample without it holds all. None: all images hold all.
        class_names: the classes' names where they are given. Text is a number only where it is none of them.
    """

    image: str | tuple[str, ...] | None = None
    label: str = "label"
    held: str | None = None
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.held is not None and isinstance(self.image, tuple):
            raise ValueError(
                "held tells the channels of images in one field; with a field for each channel, leave out those that a "
                "sample lacks"
            )

    @property
    def may_lack(self) -> bool:
        """Whether samples can lack channels."""
        return self.held is not None or isinstance(self.image, tuple)

    def find_image(self, sample: Sample) -> str:
        """The name of the one field with the image.

        Raises:
            ImageError: there is none, or several that could be it.
        """
        if isinstance(self.image, str):
            if sample.fields.get(self.image) is None:
                raise ImageError(
                    f"it has no field {self.image!r}, only {list_fields(sample)}", "name the image's field"
                )
            return self.image
        found = [name for name in sample.fields if f".{name}" in image_suffixes()]
        if len(found) == 1:
            return found[0]
        what = f"several fields that may be its image ({', '.join(found)})" if found else "no field that is an image"
        raise ImageError(
            f"it has {what}; its fields are {list_fields(sample)}",
            "give image='NAME', or a name for each channel",
        )

    def find_label(self, sample: Sample) -> int | str:
        """The label as it is written: a class's name, or a number.

        Raises:
            ImageError: there is none, or it is neither a number nor text.
        """
        value = sample.fields.get(self.label)
        if value is None:
            raise ImageError(f"it has no field {self.label!r}, only {list_fields(sample)}", "give label='NAME'")
        if isinstance(value, bytes):
            value = value.decode("utf-8", errors="replace").strip()
        if isinstance(value, str):
            return int(value) if value.isdecimal() and value not in (self.class_names or ()) else value
        if isinstance(value, int | np.integer) and not isinstance(value, bool):
            return int(value)
        raise ImageError(
            f"its label is {value!r} of type {type(value).__name__}", "labels are whole numbers or classes' names"
        )


def list_fields(sample: Sample) -> str:
    """The names of a sample's fields that hold something."""
    return ", ".join(name for name, value in sample.fields.items() if value is not None) or "none"


@dataclass(frozen=True)
class Reader:
    """Turns samples into images of one channel set.

    Args:
        fields: which fields hold what.
        channels: the data set's channels.
        settings: how images are read; the channels' names are filled in here.
    """

    fields: Fields
    channels: ChannelSet
    settings: ReadSettings
    known: dict[tuple[str, ...], tuple[Subset, ReadSettings]] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        several = self.fields.image if isinstance(self.fields.image, tuple) else ()
        if several and len(several) != len(self.channels):
            raise DataError(
                f"image names {len(several)} fields ({', '.join(several)}), but there are {len(self.channels)} "
                f"channels ({', '.join(self.channels.names)}); name a field for each, in their order"
            )

    def positions(self, sample: Sample) -> Subset:
        """Which channels a sample's image holds, in its planes' order; nothing is decoded.

        Raises:
            ImageError: it holds none, or an unknown or repeated one is told.
        """
        if isinstance(self.fields.image, tuple):
            found = tuple(i for i, name in enumerate(self.fields.image) if sample.fields.get(name) is not None)
            if not found:
                raise ImageError(f"it has none of the fields {', '.join(self.fields.image)}", "leave it out")
            return found
        return self.resolve(sample)[0]

    def resolve(self, sample: Sample) -> tuple[Subset, ReadSettings]:
        """What an image in one field holds, and how it is read."""
        names = self.told(sample)
        if names not in self.known:
            wrong = find_fault(names, self.channels)
            if wrong is not None:
                raise ImageError(*wrong)
            held = self.channels.select(names)
            self.known[names] = self.channels.positions(names), self.settings.naming(held)
        return self.known[names]

    def told(self, sample: Sample) -> tuple[str, ...]:
        """The names of the channels that an image in one field holds."""
        value = None if self.fields.held is None else sample.fields.get(self.fields.held)
        if value is None:
            return self.channels.names
        if isinstance(value, bytes):
            value = value.decode("utf-8", errors="replace")
        names = split_channels(value.strip()) if isinstance(value, str) else tuple(str(one).strip() for one in value)
        if not names:
            raise ImageError(f"its field {self.fields.held!r} names no channel", "name those that it holds")
        return names

    def read(self, sample: Sample) -> Image:
        """Decode a sample's image and bring it to size.

        Raises:
            ImageError: see ``decode``; or the planes of several fields differ in size or type.
        """
        if not isinstance(self.fields.image, tuple):
            positions, settings = self.resolve(sample)
            return Image(read(content_of(sample.fields[self.fields.find_image(sample)]), settings), positions)
        positions = self.positions(sample)
        planes = []
        for position in positions:
            name = self.fields.image[position]
            one = self.settings.naming(self.channels.select([self.channels.names[position]]))
            try:
                planes.append(read(content_of(sample.fields[name]), one))
            except ImageError as error:
                raise ImageError(f"its field {name!r}: {error.what}", error.fix) from error
        return Image(join_planes(planes, [self.fields.image[position] for position in positions]), positions)


def read_unnamed(sample: Sample, fields: Fields, settings: ReadSettings) -> Decoded:
    """A sample's image, whatever channels it holds.

    Args:
        sample: which.
        fields: of which one holds the image.
        settings: that name no channels.

    Raises:
        ImageError: see ``decode``.
    """
    return read(content_of(sample.fields[fields.find_image(sample)]), settings)


def join_planes(planes: Sequence[Decoded], names: Sequence[str]) -> Decoded:
    """Images of one plane each to one image.

    Raises:
        ImageError: they differ in size or type, or only some of them declare a scale.
    """
    first = planes[0]
    for plane, name in zip(planes[1:], names[1:], strict=True):
        here = (plane.pixels.shape[1:], plane.pixels.dtype.name, plane.scaling is None)
        there = (first.pixels.shape[1:], first.pixels.dtype.name, first.scaling is None)
        if here != there:
            raise ImageError(
                f"its field {name!r} is {describe_plane(plane)}, but {names[0]!r} is {describe_plane(first)}",
                "bring the planes of a sample to one size, type and scale",
            )
    scaling = None if first.scaling is None else tuple(pair for plane in planes for pair in plane.scaling or ())
    return Decoded(np.concatenate([plane.pixels for plane in planes]), scaling=scaling)


def describe_plane(plane: Decoded) -> str:
    """Size, type and scale for messages."""
    height, width = plane.pixels.shape[1:]
    return f"{height} x {width} of {plane.pixels.dtype.name}{' with a scale' if plane.scaling else ''}"


def content_of(value: Any) -> bytes | np.ndarray:
    """An image field's file or array.

    Args:
        value: bytes; or an array, or nested lists of numbers.

    Raises:
        ImageError: it is something else.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, np.ndarray | list):
        try:
            pixels = np.asarray(value)
        except ValueError as error:
            raise ImageError("its image is a list of rows that differ in length", "store a whole array") from error
        if pixels.dtype != object:
            return pixels
    raise ImageError(
        f"its image is of type {type(value).__name__}", "store an image file's bytes, or an array of numbers"
    )
