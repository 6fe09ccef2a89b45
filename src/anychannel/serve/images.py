"""One image as the page needs it: pixels for the network, each channel as a picture, and what is odd about it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from anychannel.channels import ChannelError, ChannelSet, parse_names
from anychannel.data import DataError
from anychannel.data.content import Content, digest_content
from anychannel.data.errors import ImageError
from anychannel.data.files.names import check_names
from anychannel.data.files.read import ReadSettings, decode
from anychannel.data.files.resize import resize_and_crop
from anychannel.runs.examples import channel_png
from anychannel.runs.unlike import find_far, remark_on_type, remark_on_values
from anychannel.serve.extent import check_extent
from anychannel.utils.files import readable

UNUSED = "-"
"""Stands in a list of a file's channels for one that the network does not know."""
PICTURE_SIDE, SMALL_SIDE, MANY_CHANNELS = 256, 96, 16


@dataclass(frozen=True)
class Plane:
    """One channel: a grey PNG data URI, the values shown as black and white, and the file's own extremes and mean."""

    name: str
    picture: str
    black: float
    white: float
    minimum: float
    maximum: float
    mean: float


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """An image, ready to be classified.

    Args:
        id: digest of its content and of how it was read.
        name: the file's.
        channels: names of the channels that it holds and the network knows, in the order of ``pixels``.
        pixels: (k, *shape) in the file's own units.
        planes: one a channel, in the same order.
        overview: the whole image as a PNG data URI: in colour where it holds R, G and B, else its channels' mean.
        width, height: the file's, in pixels.
        dtype: ``uint8``, ``uint16`` or ``float32``.
        notes: sentences about what is odd.
        label: the true class, where it is known.
    """

    id: str
    name: str
    channels: tuple[str, ...]
    pixels: np.ndarray
    planes: tuple[Plane, ...]
    overview: str
    width: int
    height: int
    dtype: str
    notes: tuple[str, ...]
    label: str | None = None


def open_image(
    data: Content,
    name: str,
    known: ChannelSet,
    *,
    shape: tuple[int, int],
    channels: str | Sequence[str] | None = None,
    reading: Mapping[str, Any] | None = None,
    label: str | None = None,
    record: Mapping[str, Any] | None = None,
) -> OpenedImage:
    """Decode a file as training does.

    Args:
        data: the file's bytes, or those of a folder image's files.
        name: of the file, for messages.
        known: the network's channels.
        shape: height and width that the network is given, in pixels.
        channels: names of the file's channels in its order, ``-`` for each that the network does not know; None means
            that it holds just the network's channels.
        reading: further options of ``read_image``.
        label: the true class, where it is known.
        record: the run's ``run.json``, which tells the training images' type.

    Raises:
        ChannelError: a name is unknown or repeats, or all are ``-``.
        DataError: the file cannot be decoded, is too large once decoded, holds another number of channels or calls
            them otherwise; the message names it.
        MissingExtraError: a package that reads this format is not installed.
    """
    names = known.names if channels is None else parse_names(channels)
    kept = [position for position, channel in enumerate(names) if channel != UNUSED]
    if not kept:
        raise ChannelError(
            f"every channel of {name} is named {UNUSED!r}; name at least one of {', '.join(known.names)}"
        )
    used = tuple(names[position] for position in kept)
    known.positions(used)
    settings = ReadSettings(names, **{**(reading or {}), "check_names": False})
    try:
        check_extent(data)
        found = decode(data, settings)
        if len(found.names) == len(names) and (reading or {}).get("check_names", True):
            kinds = [known.kinds[position] for position in known.positions(used)]
            check_names([found.names[position] for position in kept], used, kinds)
    except ImageError as error:
        raise DataError(f"{name}: {error}") from error
    identity = repr((digest_content(data), name, names, shape, sorted((reading or {}).items())))
    key = hashlib.blake2b(identity.encode(), digest_size=12).hexdigest()
    return prepare(found.pixels[kept], used, name, known, shape=shape, key=key, label=label, record=record)


def prepare(
    pixels: np.ndarray,
    channels: tuple[str, ...],
    name: str,
    known: ChannelSet,
    *,
    shape: tuple[int, int],
    key: str,
    label: str | None = None,
    record: Mapping[str, Any] | None = None,
) -> OpenedImage:
    """Bring (k, H, W) pixels to the network's size and draw each channel; one whose values lie far off the training
    images' is drawn from its own least value to its own greatest.
    """
    height, width = pixels.shape[1:]
    fitted = pixels if (height, width) == shape else resize_and_crop(pixels, shape)
    side = min(height, width, PICTURE_SIDE if len(channels) <= MANY_CHANNELS else SMALL_SIDE)
    larger = [round(edge * side / min(shape)) for edge in shape]
    shown = fitted if side <= min(shape) else resize_and_crop(pixels, (larger[0], larger[1]))
    planes, scaled = [], {}
    far = find_far(fitted, channels, known)
    for plane, drawn, channel in zip(fitted, shown, channels, strict=True):
        position = known.names.index(channel)
        mean, std = known.mean[position], known.std[position]
        average, low, high = float(plane.mean(dtype=np.float64)), float(plane.min()), float(plane.max())
        black, white = shown_range(pixels.dtype, mean, std)
        if channel in far:
            own = float(drawn.min()), float(drawn.max())
            black, white = own if own[0] < own[1] else (black, white)
        scaled[channel] = np.clip((drawn.astype(np.float64) - black) / (white - black), 0, 1)
        picture = channel_png(scaled[channel], 0, 1)
        planes.append(Plane(channel, picture, black=black, white=white, minimum=low, maximum=high, mean=average))
    return OpenedImage(
        id=key,
        name=readable(name),
        channels=channels,
        pixels=fitted,
        planes=tuple(planes),
        overview=draw_overview(scaled),
        width=width,
        height=height,
        dtype=pixels.dtype.name,
        notes=(*remark_on_type(pixels.dtype, record or {}), *stretched(far)),
        label=label,
    )


def stretched(far: Mapping[str, str]) -> list[str]:
    """What to say of channels whose values lie far off the training images', and of how they are drawn."""
    drawn = "Its picture is stretched to its" if len(far) == 1 else "Pictures are stretched to their"
    return [f"{remark} {drawn} own values." for remark in remark_on_values(far.values())]


def draw_overview(scaled: Mapping[str, np.ndarray]) -> str:
    """One picture of channels that are scaled to 0 to 1."""
    if all(name in scaled for name in "RGB"):
        return channel_png(np.stack([scaled[name] for name in "RGB"], axis=-1), 0, 1)
    return channel_png(np.mean(list(scaled.values()), axis=0), 0, 1)


def shown_range(dtype: np.dtype, mean: float, std: float) -> tuple[float, float]:
    """Values shown as black and as white: 2 training standard deviations below the mean to 3 above, within the type.

    It depends on the training data alone, so that pictures of different images can be compared.
    """
    limits = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else np.finfo(dtype)
    black, white = max(float(limits.min), mean - 2 * std), min(float(limits.max), mean + 3 * std)
    return (black, white) if black < white else (float(limits.min), float(limits.max))


class ImageStore:
    """Opened images by id: the latest ``most_bytes`` of them, and those that are pinned. Safe across threads."""

    def __init__(self, most_bytes: int = 256 * 2**20) -> None:
        self.most_bytes = most_bytes
        self._lock = Lock()
        self._pinned: dict[str, OpenedImage] = {}
        self._recent: OrderedDict[str, OpenedImage] = OrderedDict()
        self._held = 0

    def pin(self, image: OpenedImage) -> None:
        """Keep an image for good."""
        with self._lock:
            self._pinned[image.id] = image

    def add(self, image: OpenedImage) -> None:
        """Keep an image until newer ones need its room; the newest always stays."""
        with self._lock:
            old = self._recent.pop(image.id, None)
            self._recent[image.id] = image
            self._held += weight(image) - (0 if old is None else weight(old))
            while self._held > self.most_bytes and len(self._recent) > 1:
                self._held -= weight(self._recent.popitem(last=False)[1])

    def get(self, key: str) -> OpenedImage | None:
        """The image, None where it is not kept (any more)."""
        with self._lock:
            if key in self._recent:
                self._recent.move_to_end(key)
            return self._recent.get(key) or self._pinned.get(key)


def weight(image: OpenedImage) -> int:
    """Bytes of an image's pixels and pictures."""
    return image.pixels.nbytes + len(image.overview) + sum(len(plane.picture) for plane in image.planes)
