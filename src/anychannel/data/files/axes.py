"""Bring decoded arrays to (C, H, W), upright."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from anychannel.data.errors import ImageError
from anychannel.data.files.decoded import Decoded

LAYOUTS = ("planar", "interleaved")
UNKNOWN_AXES = "IQ"


def arrange(found: Decoded, expected: int | None, layout: str | None) -> Decoded:
    """Return the image with ``pixels`` and ``missing`` as (C, H, W), upright; see ``channels_first``."""

    def bring(array: np.ndarray) -> np.ndarray:
        return orient(channels_first(array, found.axes, expected, layout), found.orientation)

    missing = None if found.missing is None else bring(found.missing)
    return replace(found, pixels=bring(found.pixels), missing=missing, axes="CYX", orientation=1)


def orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image upright.

    Args:
        pixels: (C, H, W) as stored.
        orientation: see ``Decoded``.

    Returns:
        (C, H, W), or (C, W, H) for orientations 5 to 8, as a view.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(1, 2)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return pixels[:, :: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def channels_first(pixels: np.ndarray, axes: str, expected: int | None, layout: str | None) -> np.ndarray:
    """Bring an array to (C, H, W).

    If the file does not say which axis holds the channels, the axis whose length is the number of channels does. If
    both the first and the last have this length, ``layout`` decides.

    Args:
        pixels: the file's array.
        axes: one letter for each axis; see ``Decoded``.
        expected: number of channels that the caller named, None if they are not named.
        layout: ``planar`` (C, H, W) or ``interleaved`` (H, W, C).

    Raises:
        ImageError: there is more than one axis beside height and width, or the channel axis is ambiguous.
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
    if not set(axes) & set(UNKNOWN_AXES):
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
