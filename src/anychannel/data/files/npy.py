"""NumPy arrays, in memory or in ``.npy`` files: (H, W), (C, H, W) or (H, W, C)."""

from __future__ import annotations

from io import BytesIO
from tokenize import TokenError

import numpy as np

from anychannel.data.errors import ImageError
from anychannel.data.files.decoded import Decoded, Format, damaged, starts_with


def decode_npy(data: bytes) -> Decoded:
    """Decode a ``.npy`` file."""
    try:  # a MemoryError means a damaged header, as the file is in memory already
        pixels = np.load(BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError, TokenError) as error:
        if "Object arrays" in str(error):
            raise ImageError("it holds Python objects", "save an array of numbers") from error
        raise damaged(error) from error
    return from_array(pixels)


def from_array(pixels: np.ndarray) -> Decoded:
    """Take an array as an image whose channel axis is unknown."""
    if pixels.ndim < 2 or not pixels.size:
        raise ImageError(f"it is an array of shape {pixels.shape}", "save (C, H, W) or (H, W)")
    return Decoded(pixels, axes="Q" * pixels.ndim)


NPY = Format((".npy",), starts_with(b"\x93NUMPY"), decode_npy)
