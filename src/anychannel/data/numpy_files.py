"""NumPy arrays, alone or in ``.npy`` files: (H, W), (C, H, W) or (H, W, C)."""

from __future__ import annotations

from io import BytesIO

import numpy as np

from anychannel.data.decoded import Decoded
from anychannel.data.errors import ImageError
from anychannel.data.tiff import channels_first

NPY_SIGNATURE = b"\x93NUMPY"


def decode_npy(data: bytes, expected: int | None, layout: str | None) -> Decoded:
    """Decode a file's array; see ``decode_array``.

    Raises:
        ImageError: it is damaged, holds objects, or its channel axis cannot be told.
    """
    try:
        pixels = np.load(BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError) as error:
        if "pickle" in str(error) or "Object arrays" in str(error):
            raise ImageError("it holds Python objects", "save an array of numbers") from error
        reason = str(error).split("\n")[0] or type(error).__name__
        raise ImageError(f"it is truncated or damaged ({reason})", "replace or remove it") from error
    return decode_array(pixels, expected, layout)


def decode_array(pixels: np.ndarray, expected: int | None, layout: str | None) -> Decoded:
    """Channels first; which axis holds them is told by their number, else by ``layout``, never guessed.

    Raises:
        ImageError: the channel axis cannot be told.
    """
    if pixels.ndim < 2 or not pixels.size:
        raise ImageError(f"it is an array of shape {pixels.shape}", "save (C, H, W) or (H, W)")
    return Decoded(channels_first(pixels, "Q" * pixels.ndim, expected, layout))
