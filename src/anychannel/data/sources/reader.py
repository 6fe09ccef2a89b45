"""A sample to an image: its planes, which channels they are, and whether it is like the data set's first image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, NamedTuple

import numpy as np

from anychannel.channels import ChannelSet, Subset
from anychannel.data.content import BandFiles
from anychannel.data.errors import DataError, ImageError
from anychannel.data.files.decoded import Decoded, Scaling
from anychannel.data.files.read import ReadSettings, read
from anychannel.data.files.resize import resize_valid, stretch
from anychannel.data.limits import check_extent
from anychannel.data.sources.source import AnySample, Loaded, PlaneFields, Sample
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
    """Turns samples into images of one channel set.

    ``settings`` are those of images with all channels. ``kinds`` and ``grid`` are for planes that lie in files of their
    own: what the files of each channel are like, by its position, and the height and width to which planes of this
    shape are brought, so that an image without its finest plane is as large as the others. The planes of an image then
    get the type that holds those of all channels exactly; if ``kinds`` is None, they have to be of one type.
    """

    channels: ChannelSet
    settings: ReadSettings
    kinds: Mapping[int, PlaneKind] | None = field(default=None, compare=False)
    grid: tuple[int, int] | None = field(default=None, compare=False)
    known: dict[tuple[str, ...], tuple[Subset, ReadSettings]] = field(default_factory=dict, compare=False)

    def positions(self, sample: AnySample) -> Subset:
        """The positions of a sample's channels, in its planes' order; nothing is decoded.

        Raises ImageError if it has none, or names an unknown or repeated one.
        """
        return self.resolve(sample.channels)[0]

    def resolve(self, held: tuple[str, ...] | tuple[int, ...] | None) -> tuple[Subset, ReadSettings]:
        """Positions of named channels, and how an image of them is read."""
        if held is None:
            return self.known.setdefault((), (self.channels.full, self.settings))  # one tuple for all images
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

        Planes that come one by one are brought to ``settings.size``, or to the grid or the size of the largest:
        bilinear, masks nearest. Raises ImageError if the image cannot be used, or if its planes show different areas
        or, without ``kinds``, differ in type.
        """
        positions, settings = self.resolve(sample.channels)
        if not isinstance(loaded, PlaneFields):
            return Image.of(read(loaded, settings), positions)
        planes: dict[str, Decoded] = {}
        values, nearest = 0, []
        for position, (name, content) in zip(positions, loaded.items(), strict=True):
            label = sample.describe_plane(name)
            _, one = self.resolve((position,))
            try:
                planes[label] = read(content, replace(one, size=None))
                self.check_kind(position, planes[label])
            except ImageError as error:
                raise ImageError(f"{label}: {error.what}", error.fix) from error
            nearest.append(bool(one.nearest))
            values += planes[label].pixels.size
            check_extent(values)
        planes = bring_to_grid(planes, settings.size, self.grid, nearest)
        if self.kinds is not None:
            types = [*(one.pixels.dtype.name for one in planes.values()), *(one.dtype for one in self.kinds.values())]
            joint = np.result_type(*types)
            planes = {label: replace(one, pixels=one.pixels.astype(joint)) for label, one in planes.items()}
        return Image.of(join_planes(planes), positions)

    def check_kind(self, position: int, plane: Decoded) -> None:
        """Raise ImageError for a plane of another type, or of another size if none is set, than its channel's first."""
        first = (self.kinds or {}).get(position)
        if first is None:
            return
        if plane.pixels.dtype.name != first.dtype:
            raise ImageError(
                f"it holds {plane.pixels.dtype.name} values, but {first.path} holds {first.dtype}",
                "bring all files of a band to one number type",
            )
        if self.settings.size is None and plane.pixels.shape[1:] != first.shape:
            (height, width), (rows, columns) = plane.pixels.shape[1:], first.shape
            raise ImageError(
                f"it is {height} x {width} pixels, but {first.path} is {rows} x {columns}",
                "give a size, to which all are brought",
            )


class PlaneKind(NamedTuple):
    """Number type, height and width of a channel's first file, and its sample."""

    dtype: str
    shape: tuple[int, int]
    path: str


def learn_planes(samples: Sequence[Sample], reader: Reader) -> Reader:
    """The reader with what the first readable file of each channel is like."""
    found: dict[int, PlaneKind] = {}
    for sample in samples:
        for name, position in zip(sample.channels or (), reader.positions(sample), strict=True):
            if position in found or not isinstance(sample.image, BandFiles):
                continue
            one = Sample(sample.path, sample.label, BandFiles({name: sample.image.files[name]}), (name,))
            with suppress(ImageError, OSError):  # it is noted when it is read for good
                pixels = reader.decode(one, one.load()).found.pixels
                found[position] = PlaneKind(pixels.dtype.name, (pixels.shape[1], pixels.shape[2]), sample.path)
        if len(found) == len(reader.channels):
            break
    grid = max((kind.shape for kind in found.values()), key=prod, default=None)
    return replace(reader, kinds=found, grid=grid)


def bring_to_grid(
    planes: Mapping[str, Decoded], size: int | None, grid: tuple[int, int] | None, nearest: Sequence[bool]
) -> dict[str, Decoded]:
    """Resize planes of one area to ``size``, else to ``grid`` if it has their shape, else as large as the finest.

    Raises ImageError if they do not show the same area, up to a pixel of the coarser, or are too large together.
    """
    finest = max(planes, key=lambda label: planes[label].pixels.size)
    for label, plane in planes.items():
        check_area(label, plane, finest, planes[finest])
    own = planes[finest].pixels.shape[1:]
    height, width = grid if grid is not None and of_one_shape(own, grid) else own
    if size is None:
        check_extent(len(planes) * height * width)
    found = {}
    for (label, plane), is_nearest in zip(planes.items(), nearest, strict=True):
        if size is None:
            pixels, missing = stretch(plane.pixels, (height, width), plane.missing, (is_nearest,))
        else:
            pixels, missing = resize_valid(plane.pixels, size, plane.missing, (is_nearest,))
        found[label] = replace(plane, pixels=pixels, missing=missing)
    return found


def of_one_shape(coarse: Sequence[int], fine: Sequence[int]) -> bool:
    """Whether two heights and widths have one ratio, up to a pixel of the smaller."""
    factor = sum(fine) / sum(coarse)
    return all(abs(large / factor - small) < max(1, 1 / factor) for small, large in zip(coarse, fine, strict=True))


def check_area(label: str, coarse: Decoded, other: str, fine: Decoded) -> None:
    """Raise ImageError unless two planes show the same area, up to a pixel of the coarser."""
    rows, columns = coarse.pixels.shape[1:]
    fits = of_one_shape((rows, columns), fine.pixels.shape[1:])
    if fits and coarse.area is not None and fine.area is not None:
        (system, *edges), (other_system, *other_edges) = coarse.area, fine.area
        step = max((edges[2] - edges[0]) / columns, (edges[3] - edges[1]) / rows)
        fits = system == other_system
        fits = fits and all(abs(a - b) <= step * (1 + 1e-6) for a, b in zip(edges, other_edges, strict=True))
    if not fits:
        raise ImageError(
            f"{label} shows another area ({describe_area(coarse)}) than {other} ({describe_area(fine)})",
            "cut both to one area",
        )


def describe_area(plane: Decoded) -> str:
    """Size and place for messages."""
    height, width = plane.pixels.shape[1:]
    place = (
        ""
        if plane.area is None
        else f" in {plane.area[0]} from " + " to ".join(f"{x:g}, {y:g}" for x, y in (plane.area[1:3], plane.area[3:5]))
    )
    return f"{height} x {width} pixels{place}"


def join_planes(planes: Mapping[str, Decoded]) -> Decoded:
    """Join images of one plane each. Raises ImageError if they differ in type."""
    (first, *_), found = planes, [*planes.values()]
    for label, plane in planes.items():
        if plane.pixels.dtype != found[0].pixels.dtype:
            raise ImageError(
                f"{label} holds {plane.pixels.dtype.name} values, but {first} holds {found[0].pixels.dtype.name}",
                "bring the planes of a sample to one type",
            )
    scaled = any(plane.scaling for plane in found)
    missing = [np.zeros(one.pixels.shape, bool) if one.missing is None else one.missing for one in found]
    return Decoded(
        np.concatenate([plane.pixels for plane in found]),
        scaling=tuple(pair for plane in found for pair in plane.scaling or ((1.0, 0.0),)) if scaled else None,
        missing=None if all(one.missing is None for one in found) else np.concatenate(missing),
    )


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
        own = [None if pair == (1.0, 0.0) else pair for pair in declared or (None,) * len(image.positions)]
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
