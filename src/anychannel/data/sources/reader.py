"""A sample to an image: its planes, which channels they are, and whether it is like the data set's first image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from anychannel.channels import ChannelSet, Subset
from anychannel.data.errors import DataError, ImageError
from anychannel.data.files.decoded import Decoded, Scaling
from anychannel.data.files.read import ReadSettings, read
from anychannel.data.sources.source import AnySample, Loaded, PlaneFields
from anychannel.utils.names import unknown_name


class Image(NamedTuple):
    """A decoded sample: pixels (k, H, W), and the positions of the k channels in the data set's channels."""

    found: Decoded
    positions: Subset

    @classmethod
    def of(cls, found: Decoded, positions: Subset) -> Image:
        """An image without the planes that have no valid pixel. Raises ImageError if none is left."""
        if found.missing is None:
            return cls(found, positions)
        held = np.flatnonzero(~found.missing.all(axis=(1, 2))).tolist()
        if not held:
            raise ImageError("all of its values are no data", "leave it out")
        return cls(found.select(held), tuple(positions[i] for i in held))

    def valid(self, channels: int) -> np.ndarray:
        """Where there are data: (channels, H, W) booleans, or (channels, 1, 1) for whole planes."""
        missing = self.found.missing
        valid = np.zeros((channels, *((1, 1) if missing is None else missing.shape[1:])), dtype=bool)
        valid[list(self.positions)] = True if missing is None else ~missing
        return valid

    def spread(self, channels: int) -> np.ndarray:
        """(channels, H, W) with each plane in its channel's place, the others zero."""
        pixels = self.found.pixels
        if self.positions == tuple(range(channels)):
            return pixels
        planes = np.zeros((channels, *pixels.shape[1:]), dtype=pixels.dtype)
        planes[list(self.positions)] = pixels
        return planes

    def digest(self, channels: int) -> bytes:
        """64 bits that stand for the pixels and for their channels."""
        key = b"" if self.positions == tuple(range(channels)) else bytes(self.positions)[:64]
        return hashlib.blake2b(np.ascontiguousarray(self.found.pixels).data, digest_size=8, key=key).digest()


@contextmanager
def placed(sample: AnySample) -> Iterator[None]:
    """Name the sample in errors about its image, as DataError."""
    try:
        yield
    except ImageError as error:
        raise DataError(f"{sample.place}: {error}") from error


@dataclass(frozen=True)
class Reader:
    """Turns samples into images of one channel set. ``settings`` are those of images with all channels."""

    channels: ChannelSet
    settings: ReadSettings
    known: dict[tuple[str, ...], tuple[Subset, ReadSettings]] = field(default_factory=dict, compare=False)

    def positions(self, sample: AnySample) -> Subset:
        """The positions of a sample's channels, in its planes' order; nothing is decoded.

        Raises ImageError if it has none, or names an unknown or repeated one.
        """
        return self.resolve(sample.channels)[0]

    def resolve(self, held: tuple[str, ...] | tuple[int, ...] | None) -> tuple[Subset, ReadSettings]:
        """Positions of named channels, and how an image of them is read."""
        if held is None:
            return self.channels.full, self.settings
        names = tuple(self.channels.names[name] if isinstance(name, int) else name for name in held)
        if names in self.known:
            return self.known[names]
        for name in names:
            if name not in self.channels.names:
                what, _, valid = unknown_name("channel", name, self.channels.names).partition("; ")
                raise ImageError(what, valid)
            if names.count(name) > 1:
                raise ImageError(f"channel {name!r} is named twice", "name each of the file's planes once")
        self.known[names] = self.channels.positions(names), self.settings.naming(self.channels.select(names))
        return self.known[names]

    def read_like(self, template: Template, sample: AnySample) -> Image:
        """Read and decode a sample. Raises DataError if it cannot be used, or is not what the template demands."""
        with placed(sample):
            image = self.decode(sample, sample.load())
            template.check(image, sample.place, scaled=self.settings.scaled)
        return image

    def decode(self, sample: AnySample, loaded: Loaded | PlaneFields) -> Image:
        """Decode what was loaded of a sample and bring it to size.

        Raises ImageError if the image cannot be used, or if planes of several fields differ in size or type.
        """
        positions, settings = self.resolve(sample.channels)
        if not isinstance(loaded, PlaneFields):
            return Image.of(read(loaded, settings), positions)
        planes = []
        for position, (name, content) in zip(positions, loaded.items(), strict=True):
            _, one = self.resolve((position,))
            try:
                planes.append(read(content, one))
            except ImageError as error:
                raise ImageError(f"its field {name!r}: {error.what}", error.fix) from error
        return Image.of(join_planes(planes, list(loaded)), positions)


def join_planes(planes: Sequence[Decoded], names: Sequence[str]) -> Decoded:
    """Join images of one plane each. Raises ImageError if they differ in size or type, or only some have a scale."""
    first = planes[0]
    for plane, name in zip(planes[1:], names[1:], strict=True):
        if describe_plane(plane) != describe_plane(first):
            raise ImageError(
                f"its field {name!r} is {describe_plane(plane)}, but {names[0]!r} is {describe_plane(first)}",
                "bring the planes of a sample to one size, type and scale",
            )
    scaling = None if first.scaling is None else tuple(pair for plane in planes for pair in plane.scaling or ())
    missing = [np.zeros(one.pixels.shape, bool) if one.missing is None else one.missing for one in planes]
    return Decoded(
        np.concatenate([plane.pixels for plane in planes]),
        scaling=scaling,
        missing=None if all(one.missing is None for one in planes) else np.concatenate(missing),
    )


def describe_plane(plane: Decoded) -> str:
    """Size, type and scale for messages."""
    height, width = plane.pixels.shape[1:]
    return f"{height} x {width} of {plane.pixels.dtype.name}{' with a scale' if plane.scaling else ''}"


Scalings = dict[int, tuple[str, Scaling | None, tuple[float, float] | None]]
"""By a channel's position: an image that has it, this image's scaling, and the channel's own scale and offset."""


@dataclass(frozen=True)
class Template:
    """What all images have to be like: height and width, type and path of the first readable one.

    ``scalings`` holds the first readable image of each channel, see ``Scalings``. It grows as images are checked.
    """

    size: tuple[int, ...]
    dtype: str
    path: str
    scalings: Scalings

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Template:
        """From plain values, also from JSON."""
        scalings = {
            int(position): (path, whole and tuple(map(tuple, whole)), own and tuple(own))
            for position, (path, whole, own) in values["scalings"].items()
        }
        return cls(tuple(values["size"]), values["dtype"], values["path"], scalings)

    def check(self, image: Image, place: str, *, scaled: bool) -> None:
        """Raise ImageError for an image of another number type or size, or, unless it was applied, of another scale.

        The scales of channels that no image before it had are noted.
        """
        pixels, declared = image.found.pixels, image.found.scaling
        own: Sequence[tuple[float, float] | None] = declared or (None,) * len(image.positions)
        for position, pair in zip(image.positions, own, strict=True):
            self.scalings.setdefault(position, (place, declared, pair))
        if pixels.dtype.name != self.dtype:
            raise ImageError(
                f"it holds {pixels.dtype.name} values, but {self.path} holds {self.dtype}",
                "bring all files to one number type",
            )
        if pixels.shape[1:] != self.size:
            (height, width), (other_height, other_width) = pixels.shape[1:], self.size
            raise ImageError(
                f"it is {height} x {width} pixels, but {self.path} is {other_height} x {other_width}",
                "give a size, to which all are brought",
            )
        for position, pair in zip(image.positions, own, strict=True):
            path, scaling, expected = self.scalings[position]
            if not scaled and pair != expected:
                raise ImageError(
                    f"it declares {describe_scaling(declared)}, but {path} {describe_scaling(scaling)}, so that "
                    "equal values mean different things",
                    "give scaled=True to use physical values",
                )


def describe_scaling(scaling: Scaling | None) -> str:
    """``scale 0.0001 and offset -0.1`` of the first channel, and how many differ from it."""
    if scaling is None:
        return "no scale and offset"
    (scale, offset), *others = scaling
    more = ", ..." * any(pair != (scale, offset) for pair in others)
    return f"scale {scale:g} and offset {offset:g}{more}"
