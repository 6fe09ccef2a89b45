"""NumPy arrays, in memory or in ``.npy`` files: (H, W), (C, H, W) or (H, W, C)."""

from __future__ import annotations

from io import BytesIO
from math import prod
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy

from anychannel.data.errors import ImageError
from anychannel.data.files.decoded import Decoded, Format, damaged, library_errors, starts_with
from anychannel.data.limits import check_extent


def decode_npy(data: bytes) -> Decoded:
    """Decode a ``.npy`` file."""
    file = BytesIO(data)
    try:  # a MemoryError comes from parsing a damaged header
        is_first_version = npy.read_magic(file) == (1, 0)
        read_header = npy.read_array_header_1_0 if is_first_version else npy.read_array_header_2_0
        shape, is_fortran, dtype = read_header(file)
    except (ValueError, OSError, EOFError, MemoryError, RecursionError, TokenError) as error:
        raise damaged(error) from error
    if dtype.hasobject:
        raise ImageError("it holds Python objects", "save an array of numbers")
    count = prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize > len(data) - file.tell():
        raise damaged(f"it declares an array of shape {shape} and ends before it")
    check_extent(count)
    with library_errors(ValueError):
        pixels = np.ndarray(shape, dtype, data, file.tell(), order="F" if is_fortran else "C")
    return from_array(pixels.copy())


def from_array(pixels: np.ndarray) -> Decoded:
    """Take an array as an image whose channel axis is unknown."""
    if pixels.ndim < 2 or not pixels.size:
        raise ImageError(f"it is an array of shape {pixels.shape}", "save (C, H, W) or (H, W)")
    return Decoded(pixels, axes="Q" * pixels.ndim)


NPY = Format((".npy",), starts_with(b"\x93NUMPY"), decode_npy)
