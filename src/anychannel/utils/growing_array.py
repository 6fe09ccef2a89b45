"""A ``.npy`` file that grows image by image."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np


class GrowingArray:
    """A ``.npy`` file to which images are appended; NumPy pads its header for the final number of images."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.count = 0
        self.shape: tuple[int, ...] = ()
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __enter__(self) -> GrowingArray:
        self.handle = self.file.open("wb+")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.handle.seek(0)
                self.write_header()
                self.handle.flush()
        finally:
            with suppress(OSError):  # what it would write is of no use after the first error
                self.handle.close()

    def write_header(self) -> None:
        """Write how many images there are, of which shape and type."""
        description = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": description, "fortran_order": False, "shape": (self.count, *self.shape)}
        np.lib.format.write_array_header_2_0(self.handle, header)

    def append(self, image: np.ndarray) -> None:
        """Write an image (C, H, W), like all before."""
        if not self.count:
            self.shape, self.dtype = image.shape, image.dtype
            self.write_header()
        self.handle.write(np.ascontiguousarray(image).data)
        self.count += 1
