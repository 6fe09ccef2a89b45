"""What a decoder returns, what a format consists of, and the conversions of values that all formats share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from anychannel.data.content import Content
from anychannel.data.errors import ImageError
from anychannel.utils.options import is_number

DTYPES = ("uint8", "uint16", "float32")
"""Types of decoded images."""

COLOURS = {2: "greyscale with alpha", 3: "RGB", 4: "RGB with alpha"}

Scaling = tuple[tuple[float, float], ...]
"""Scale and offset of each channel: physical value = scale * stored value + offset."""


Area = tuple[str, float, float, float, float]


@dataclass(frozen=True)
class Decoded:
    """A decoded image.

    Args:
        pixels: array with the axes that ``axes`` names. After ``decode``: (C, H, W).
        axes: one letter for each axis, as tifffile names them: Y, X, C channels, S samples, Z depth, ... I and Q are
            unknown, and then Y and X are guesses too.
        orientation: 1 to 8 as in the TIFF 6.0 and EXIF standards; other values count as 1, upright.
        is_colour: whether the format declares the channels as colours (with or without alpha).
        names: the file's names for its channels, None for a channel without one; () if the file names none.
        scaling: each channel's scale and offset if the file declares them.
        missing: array shaped like ``pixels``, True where a value is no data; None if the file marks none.
        converted: what the image was before it was converted to RGB, "" if it was not.
        area: where the image lies, if the file says it: its coordinate system, and left, bottom, right and top in it.
    """

    pixels: np.ndarray
    axes: str = "CYX"
    orientation: int = 1
    is_colour: bool = False
    names: tuple[str | None, ...] = ()
    scaling: Scaling | None = None
    missing: np.ndarray | None = None
    converted: str = ""
    area: Area | None = None

    def select(self, planes: list[int]) -> Decoded:
        """Only these planes of (C, H, W), in this order."""
        return replace(
            self,
            pixels=self.pixels[planes],
            names=tuple(self.names[i] for i in planes) if len(self.names) == len(self.pixels) else (),
            scaling=self.scaling and tuple(self.scaling[i] for i in planes),
            missing=None if self.missing is None else self.missing[planes],
        )

    @property
    def meaning(self) -> str:
        """What the channels of (C, H, W) are, if the format says it (``"RGB"``), else ``""``."""
        count = len(self.pixels)
        return "greyscale" if count == 1 else COLOURS.get(count, "") if self.is_colour else ""


@dataclass(frozen=True)
class Format:
    """An image format.

    Args:
        suffixes: lower-case endings of the names of its files. They select the files in a folder; how a file is read
            depends on its content.
        recognises: whether content has this format.
        decode: turns content into an array. It raises ``ImageError`` for content that it cannot decode, and calls
            ``check_extent`` before it allocates memory for the pixels.
    """

    suffixes: tuple[str, ...]
    recognises: Callable[[Content], bool]
    decode: Callable[[Any], Decoded]


def starts_with(*signatures: bytes) -> Callable[[Content], bool]:
    """Make a ``recognises`` function for formats whose files start with fixed bytes."""
    return lambda content: isinstance(content, bytes) and content.startswith(signatures)


def damaged(reason: Exception | str) -> ImageError:
    """Return the error for a file that cannot be decoded, or not to its end."""
    text = str(reason).strip().split("\n")[0] or type(reason).__name__
    if "cannot identify image file" in text:  # Pillow adds the address of a buffer
        text = "not an image in a known format"
    return ImageError(f"it is truncated or damaged ({text})", "replace or remove it")


@contextmanager
def library_errors(*errors: type[Exception]) -> Iterator[None]:
    """Turn a library's errors for damaged files into ``ImageError``.

    Put only calls into that library inside, so that an error in our own code surfaces as it is.
    """
    try:
        yield
    except ImageError:
        raise
    except errors as error:
        raise damaged(error) from error
    except MemoryError as error:
        raise ImageError("it does not fit into memory", "scale it down, or replace it if it is damaged") from error


def bring_to_known_type(pixels: np.ndarray) -> np.ndarray:
    """Keep uint8, uint16 and float32; convert other numbers to float32, or refuse them if that changes a value."""
    name, exactly = pixels.dtype.name, ""
    if name in DTYPES:
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.dtype.kind in "iuf":
        with np.errstate(over="ignore"):
            narrowed = pixels.astype(np.float32)
        if np.array_equal(narrowed.astype(pixels.dtype), pixels, equal_nan=pixels.dtype.kind == "f"):
            return narrowed
        exactly = " that float32 cannot hold exactly"
    fix = f"convert it to one of {', '.join(DTYPES)} in the scale that you want"
    raise ImageError(f"it holds {name} values{exactly}", fix)


def apply_scaling(pixels: np.ndarray, scaling: Scaling | None) -> np.ndarray:
    """Convert stored to physical values: (C, H, W) float32, computed in float64."""
    if scaling is None:
        raise ImageError("it declares no scale and offset", "leave scaled out, or declare them in the file")
    scale, offset = (np.array(values)[:, None, None] for values in zip(*scaling, strict=True))
    physical: np.ndarray = (pixels * scale + offset).astype(np.float32)
    return physical


def bring_values(found: Decoded, *, scaled: bool) -> np.ndarray:
    """The values of a decoded image as they are used: physical ones if ``scaled``, else the stored ones."""
    return apply_scaling(found.pixels, found.scaling) if scaled else bring_to_known_type(found.pixels)


def fill_missing(
    pixels: np.ndarray, missing: np.ndarray | None, nodata: float | str | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Keep, replace or refuse values that are no data, as ``read_image`` explains; return where they are, if any are.

    ``missing`` is where the file marks them, None if it marks none.
    """
    if is_number(nodata):
        missing = pixels == nodata if missing is None else missing
        missing = missing | np.isnan(pixels) if pixels.dtype == np.float32 else missing
    if missing is None or not missing.any():
        return pixels, None
    if nodata is None:
        raise ImageError(
            f"{int(missing.sum()):,} of its {missing.size:,} values are marked as no data",
            "give nodata='keep' to take them as they are, nodata=NUMBER to put that in their place, or leave it out",
        )
    if nodata == "keep":
        return pixels, missing
    value = np.float64(nodata).astype(pixels.dtype)
    if pixels.dtype != np.float32 and value != nodata:
        raise ImageError(f"it holds {pixels.dtype.name} values, and nodata={nodata} is none", "give one that is")
    return np.where(missing, value, pixels), missing
