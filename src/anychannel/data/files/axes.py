"""Bring decoded arrays to (C, H, W), upright."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from anychannel.data.errors import ImageError
from anychannel.data.files.decoded import Decoded

LAYOUTS = ("planar", "interleaved")


def arrange(found: Decoded, expected: int | None, layout: str | None) -> Decoded:
    """Return the image with ``pixels`` and ``missing`` as (C, H, W), upright; see ``channels_first``."""

    def bring(array: np.ndarray) -> np.ndarray:
        return orient(channels_first(array, found.axes, expected, layout), found.orientation)

    missing = None if found.missing is None else bring(found.missing)
    return replace(found, pixels=bring(found.pixels), missing=missing, axes="CYX", orientation=1)


def orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (C, H, W) upright, as a view: (C, W, H) for orientations 5 to 8. See ``Decoded`` for the numbers."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(1, 2)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[:, ::rows, ::columns]


def channels_first(pixels: np.ndarray, axes: str, expected: int | None, layout: str | None) -> np.ndarray:
    """Bring an array, whose axes ``Decoded`` explains, to (C, H, W).

    If the file does not say which axis holds the channels, the axis whose length is ``expected`` does. If both the
    first and the last have this length, ``layout`` decides: ``planar`` (C, H, W) or ``interleaved`` (H, W, C).
    """
    keep = [i for i, (axis, length) in enumerate(zip(axes, pixels.shape, strict=True)) if length > 1 or axis in "YX"]
    pixels = pixels.reshape([pixels.shape[i] for i in keep])
    axes = "".join(axes[i] for i in keep)
    if pixels.ndim == 2:
        return pixels[None]
    if pixels.ndim != 3:
        raise ImageError(
            f"it has axes {axes} of lengths {pixels.shape}, more than channels, height and width",
            "save one image with its channels a file",
        )
    if not set(axes) & set("IQ"):
        return np.moveaxis(pixels, next(i for i, axis in enumerate(axes) if axis not in "YX"), 0)
    first, last = pixels.shape[0] == expected, pixels.shape[2] == expected
    if layout == "planar" or (layout is None and first and not last):
        return pixels
    if layout == "interleaved" or (layout is None and last and not first):
        return np.moveaxis(pixels, -1, 0)
    shape = " x ".join(map(str, pixels.shape))
    if expected is not None and not first and not last:
        raise ImageError(
            f"it is an array of {shape}, no axis of which has the {expected} channels expected",
            "name the files' channels in their order, or replace the file",
        )
    raise ImageError(
        f"it is an array of {shape} that does not say which axis holds its channels",
        "give layout='planar' (channels first) or layout='interleaved' (channels last)",
    )
