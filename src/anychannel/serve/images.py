"""Opened images: pixels for the network, pictures of the channels for the page, and the store that keeps them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from anychannel.channels import ChannelSet
from anychannel.data.files.resize import resize_and_crop
from anychannel.data.input_images import InputImage
from anychannel.runs.examples import channel_png
from anychannel.serve.schemas import ChannelPicture, Image
from anychannel.utils.files import readable

PICTURE_SIDE, SMALL_SIDE, MANY_CHANNELS = 256, 96, 16


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """An image that requests can refer to: as the network receives it, and the JSON that describes it."""

    input: InputImage
    view: Image

    @property
    def bytes(self) -> int:
        """Memory of the pixels and pictures in bytes."""
        pictures = sum(len(channel.picture) for channel in self.view.channels)
        return self.input.original.nbytes + self.input.pixels.nbytes + len(self.view.overview) + pictures


def draw_image(image: InputImage, known: ChannelSet, *, key: str, label: str | None = None) -> OpenedImage:
    """Draw each channel of an image.

    All images use the same grey scale for a channel, so that pictures can be compared. A channel whose mean is far from
    the training mean is drawn from its own minimum to its own maximum. ``known`` are the network's channels, ``key`` is
    the image's id, ``label`` its true class.
    """
    height, width = image.original.shape[1:]
    shape: tuple[int, int] = image.pixels.shape[1:]
    side = min(height, width, PICTURE_SIDE if len(image.channels) <= MANY_CHANNELS else SMALL_SIDE)
    larger = [round(edge * side / min(shape)) for edge in shape]
    drawn = image.pixels if side <= min(shape) else resize_and_crop(image.original, (larger[0], larger[1]))
    pictures, scaled = [], {}
    for plane, picture, name, position in zip(
        image.pixels, drawn, image.channels, known.positions(image.channels), strict=True
    ):
        black, white = grey_range(image.original.dtype, known.mean[position], known.std[position])
        if name in image.far and picture.min() < picture.max():
            black, white = float(picture.min()), float(picture.max())
        scaled[name] = np.clip((picture.astype(np.float64) - black) / (white - black), 0, 1)
        pictures.append(
            ChannelPicture(
                name=name,
                picture=channel_png(scaled[name], 0, 1),
                black=black,
                white=white,
                minimum=float(plane.min()),
                maximum=float(plane.max()),
                mean=float(plane.mean(dtype=np.float64)),
            )
        )
    notes = image.remarks()
    if image.far:  # the last remark is about them
        its = ("Its picture is", "its") if len(image.far) == 1 else ("Their pictures are", "their")
        notes[-1] += f" {its[0]} stretched to {its[1]} own values."
    colour = set("RGB") <= scaled.keys()
    whole = np.stack([scaled[name] for name in "RGB"], axis=-1) if colour else np.mean(list(scaled.values()), axis=0)
    view = Image(
        id=key,
        name=readable(image.name),
        channels=pictures,
        overview=channel_png(whole, 0, 1),
        width=width,
        height=height,
        dtype=image.original.dtype.name,
        image_size=shape,
        dead={},
        notes=notes,
        label=label,
    )
    return OpenedImage(image, view)


def grey_range(dtype: np.dtype[Any], mean: float, std: float) -> tuple[float, float]:
    """Values drawn as black and white: the training mean minus 2 and plus 3 standard deviations, within the type."""
    limits = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else np.finfo(dtype)
    black, white = max(float(limits.min), mean - 2 * std), min(float(limits.max), mean + 3 * std)
    return (black, white) if black < white else (float(limits.min), float(limits.max))


class ImageStore:
    """Keeps opened images by id: ``always`` and the latest ones, up to ``most_bytes``. It is thread-safe."""

    def __init__(self, always: Sequence[OpenedImage] = (), most_bytes: int = 256 * 2**20) -> None:
        self.most_bytes = most_bytes
        self._lock = Lock()
        self._always = {image.view.id: image for image in always}
        self._recent: OrderedDict[str, OpenedImage] = OrderedDict()

    def add(self, image: OpenedImage) -> None:
        """Keep an image until newer ones need its memory. The newest image always stays."""
        with self._lock:
            self._recent[image.view.id] = image
            self._recent.move_to_end(image.view.id)
            while sum(kept.bytes for kept in self._recent.values()) > self.most_bytes and len(self._recent) > 1:
                self._recent.popitem(last=False)

    def get(self, key: str) -> OpenedImage | None:
        """The image with this id; None if it is not kept."""
        with self._lock:
            if key in self._recent:
                self._recent.move_to_end(key)
            return self._recent.get(key) or self._always.get(key)
