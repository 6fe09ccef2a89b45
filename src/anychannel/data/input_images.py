"""Bring files and arrays to the form in which a network was trained on images of their kind. It needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from anychannel.channels import ChannelError, ChannelSet, parse_names
from anychannel.data.content import BandFiles, Content
from anychannel.data.dead_channels import FAR
from anychannel.data.errors import OR_CONVERT, DataError, ImageError
from anychannel.data.files.decoded import Decoded
from anychannel.data.files.names import check_names, is_mask
from anychannel.data.files.read import ReadSettings, open_content, read
from anychannel.data.files.resize import resize_valid
from anychannel.data.image_paths import ImagePath
from anychannel.data.sources.band_files import match_bands, name_planes
from anychannel.data.sources.reader import Reader as PlaneReader
from anychannel.data.sources.source import PlaneFields, Sample
from anychannel.utils.plurals import plural

READING = ("layout", "nodata", "scaled", "check_names", "convert")
"""Entries of ``data_options`` that apply to new files as well."""

UNUSED = "-"
"""Stands in a list of a file's channels for one that the network does not know."""


@dataclass(frozen=True, eq=False)
class InputImage:
    """An image that is ready for the network: the k channels that it has and the network knows, in the planes' order.

    ``original`` holds the (k, H, W) pixels of the file, ``pixels`` those resized and cropped as in training. ``far`` is
    a sentence for each channel whose mean is far from the training mean. ``notes`` lists the other differences from the
    training images in sentences.
    """

    name: str
    channels: tuple[str, ...]
    original: np.ndarray
    pixels: np.ndarray
    far: Mapping[str, str]
    notes: tuple[str, ...]

    def remarks(self, channels: Sequence[str] | None = None) -> list[str]:
        """All differences from the training images in these channels; None means all that the image has."""
        far = [text for name, text in self.far.items() if channels is None or name in channels]
        others = f", and {plural(len(far) - 1, 'more channel')} likewise" if len(far) > 1 else ""
        about = [f"{far[0]}{others}: is this the same sensor, depth and order of channels?"] if far else []
        return [*self.notes, *about]


def invalid(channels: str) -> list[str]:
    """The remark about channels without a valid pixel, if there are any."""
    return [f"No pixel of {channels} is valid, so that it counts as missing."] if channels else []


@dataclass(frozen=True)
class Reader:
    """Brings images to the form in which a network of these channels was trained on them. It holds no network.

    ``shape`` is the height and width in pixels of the training images, and None keeps an image's own; ``size_was_set``
    says that it is not the files' own size. ``image_type`` names the training images' type, if known. ``options`` are
    arguments of ``ReadSettings``.
    """

    channels: ChannelSet
    shape: tuple[int, int] | None = None
    size_was_set: bool = False
    image_type: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def open(
        self,
        image: str | Path | Content | Decoded | BandFiles | np.ndarray,
        channels: str | Sequence[str] | None = None,
        *,
        name: str | None = None,
        layout: str | None = None,
        nodata: float | str | None = None,
    ) -> InputImage:
        """Decode an image as in training.

        Args:
            image: path of a file, content of a file, files with one band each, a decoded image, or a (C, H, W) array.
            channels: names of the image's channels, or groups, in order, ``-`` for each that the network does not know.
                None means the network's channels. Of files with one band each: those to read, None means all.
            name: name for messages. None uses the path.
            layout: ``planar`` or ``interleaved``, for a TIFF or array that does not say. None uses the run's setting.
            nodata: ``"keep"`` or a replacement value; see ``load_dataset``. None uses the run's setting.

        Raises:
            ChannelError: a name is unknown or repeats, or all are ``-``.
            DataError: the image cannot be read, or has another number of channels or other channel names.
        """
        if isinstance(image, str | Path):
            name = name or str(image)
            image = open_content(image, name)
        name = name or "the image"
        if isinstance(image, BandFiles):
            return self.open_bands(image, None if channels is None else self.expand(channels), name, layout, nodata)
        names = self.channels.names if channels is None else self.expand(channels)
        kept = [position for position, channel in enumerate(names) if channel != UNUSED]
        if not kept:
            raise ChannelError(
                f"every channel of {name} is named {UNUSED!r}; name at least one of {', '.join(self.channels.names)}"
            )
        used = tuple(names[position] for position in kept)
        kinds = [self.channels.kinds[position] for position in self.channels.positions(used)]
        options = self.reading(layout, nodata)
        settings = ReadSettings(names, **{**options, "check_names": False})
        try:
            found = read(image, settings)
            if options["check_names"] and len(found.names) == len(names):
                check_names([found.names[position] for position in kept], used, kinds)
        except ImageError as error:
            raise DataError(f"{name}: {str(error).replace(OR_CONVERT, '')}") from error
        found = found.select(kept)
        return self.prepare(found.pixels, used, name, found.missing)

    def open_path(
        self,
        image: ImagePath,
        channels: str | Sequence[str] | None = None,
        *,
        layout: str | None = None,
        nodata: float | str | None = None,
    ) -> InputImage:
        """Decode an image that ``find_images`` lists.

        Names of channels that come with it count, and those that are not the network's are not used. ``channels`` are
        those of a file that comes without; see ``open``, also for the errors.
        """
        names = image.channels and [name if name in self.channels.names else UNUSED for name in image.channels]
        if image.files is not None:
            return self.open(image.files, names, name=image.path, layout=layout, nodata=nodata)
        return self.open(image.path, names or channels, layout=layout, nodata=nodata)

    def reading(self, layout: str | None, nodata: float | str | None) -> dict[str, Any]:
        """The run's options for reading files, and those given here."""
        given = {key: value for key, value in (("layout", layout), ("nodata", nodata)) if value is not None}
        return {"check_names": True, **self.options, **given}

    def open_bands(
        self,
        image: BandFiles,
        channels: Sequence[str] | None,
        name: str,
        layout: str | None,
        nodata: float | str | None,
    ) -> InputImage:
        """See ``open``; files of bands that are none of the network's channels are not read."""
        try:
            files = name_planes(image.files, match_bands(list(image.files), self.channels)).files
            files = {key: file for key, file in files.items() if channels is None or key in channels}
            if not files:
                known = ", ".join(self.channels.names)
                raise ImageError(
                    f"its files are of the bands {', '.join(image.files)}, and none is one of the channels {known}",
                    "name the files as the channels",
                )
            image = BandFiles(files)
            sample = Sample(name, 0, image, tuple(files))
            return self.open_planes(sample, PlaneFields(image.load()), layout=layout, nodata=nodata)
        except OSError as error:
            raise DataError(f"{name}: {error.filename} cannot be read ({error.strerror}); check the file") from error
        except DataError as error:
            raise DataError(f"{name}: {error}") from error

    def open_planes(
        self, sample: Sample, planes: PlaneFields, *, layout: str | None = None, nodata: float | str | None = None
    ) -> InputImage:
        """Decode planes of an image that come one by one, as in training. Raises ImageError if one cannot be used."""
        size = self.shape[0] if self.shape is not None and self.size_was_set else None
        settings = ReadSettings(size=size, **self.reading(layout, nodata)).naming(self.channels)
        reader = PlaneReader(self.channels, settings, kinds={}, grid=None if size else self.shape)
        found, positions = reader.decode(sample, planes)
        found = found.select(sorted(range(len(positions)), key=lambda plane: positions[plane]))
        held = tuple(self.channels.names[position] for position in sorted(positions))
        opened = self.prepare(found.pixels, held, sample.path, found.missing)
        absent = ", ".join(key for key in planes if key not in held)
        return replace(opened, notes=(*invalid(absent), *opened.notes))

    def expand(self, names: str | Sequence[str]) -> tuple[str, ...]:
        """Put the channels of a group in the place of its name; ``-`` stays. Raises ChannelError if one is unknown."""
        given = parse_names(names)
        return tuple(name for one in given for name in ((one,) if one == UNUSED else self.channels.expand([one])))

    def prepare(
        self, pixels: np.ndarray, channels: tuple[str, ...], name: str, missing: np.ndarray | None = None
    ) -> InputImage:
        """Resize (k, H, W) pixels of named channels as in training, and compare them with the training images.

        A channel is missing if all of its pixels are no data (``missing``, shaped like the pixels).

        Raises:
            DataError: no pixel of any channel is valid.
        """
        shape = self.shape or (pixels.shape[1], pixels.shape[2])
        nearest = [is_mask(channel, self.channels.kinds[self.channels.names.index(channel)]) for channel in channels]
        fitted, missing = resize_valid(pixels, shape, missing, nearest)
        notes = []
        if missing is not None:
            held = np.flatnonzero(~missing.all(axis=(1, 2))).tolist()
            absent = ", ".join(channel for position, channel in enumerate(channels) if position not in held)
            if not held:
                raise DataError(f"{name}: all values of {', '.join(channels)} are no data; it cannot be classified")
            notes += invalid(absent)
            pixels, fitted, missing = pixels[held], fitted[held], missing[held]
            channels = tuple(channels[position] for position in held)
        far = self.find_far(fitted, channels, missing)
        if self.image_type not in (None, pixels.dtype.name):
            notes.append(
                f"It holds {pixels.dtype.name} values, the training images held {self.image_type}: do equal numbers "
                "mean the same?"
            )
        if not self.size_was_set and pixels.shape[1:] != shape:
            sizes = [f"{height} x {width}" for height, width in (pixels.shape[1:], shape)]
            notes.append(f"It is {sizes[0]} pixels and was brought to {sizes[1]}, as in training.")
        return InputImage(name, channels, pixels, fitted, far, tuple(notes))

    def find_far(
        self, pixels: np.ndarray, channels: Sequence[str], missing: np.ndarray | None = None
    ) -> dict[str, str]:
        """Find channels whose mean is far from the training mean. A wrong depth or order of channels causes this."""
        far = {}
        valid = np.broadcast_to(True, pixels.shape) if missing is None else ~missing
        for i, (name, position) in enumerate(zip(channels, self.channels.positions(channels), strict=True)):
            mean, std = self.channels.mean[position], self.channels.std[position]
            average = float(pixels[i].mean(dtype=np.float64, where=valid[i]))
            if abs(average - mean) > FAR * std:
                here, usual, spread = (f"{v:,.0f}" if abs(v) >= 1000 else f"{v:.4g}" for v in (average, mean, std))
                far[name] = f"{name} averages {here} here, but {usual} ± {spread} in training"
        return far
