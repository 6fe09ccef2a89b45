"""What a file holds once it is decoded, before anything is made of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anychannel.data.errors import ImageError

DTYPES = ("uint8", "uint16", "float32")
"""Types that images are kept in."""

WIDENED = {"int8": "float32", "int16": "float32", "float16": "float32"}
"""Types of which every value is a float32 too."""

CHECKED = ("int32", "uint32", "int64", "uint64", "float64")
"""Types that are taken as float32 where no value of the file changes by it."""

Scaling = tuple[tuple[float, float], ...]
"""Scale and offset of each channel: physical value = scale * stored value + offset."""


@dataclass(frozen=True)
class Decoded:
    """A decoded file.

    Args:
        pixels: (C, H, W).
        meaning: what its channels are where the format says so (``"RGB"``), else "".
        names: the channels' names where the file tells them, None for one that it leaves out; () where it tells none.
        scaling: each channel's scale and offset where the file declares them.
        missing: (C, H, W), True where the file marks a value as no data; None where it marks none.
    """

    pixels: np.ndarray
    meaning: str = ""
    names: tuple[str | None, ...] = ()
    scaling: Scaling | None = None
    missing: np.ndarray | None = None


def bring_to_known_type(pixels: np.ndarray) -> np.ndarray:
    """Keep uint8, uint16 and float32; take other numbers as float32 where that changes no value.

    Raises:
        ImageError: a value would change, or these are no numbers.
    """
    name = pixels.dtype.name
    if name in DTYPES:
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if name in WIDENED:
        return pixels.astype(WIDENED[name])
    if name in CHECKED:
        with np.errstate(over="ignore"):
            narrowed = pixels.astype(np.float32)
        if np.array_equal(narrowed.astype(pixels.dtype), pixels, equal_nan=pixels.dtype.kind == "f"):
            return narrowed
        what = f"it holds {name} values that float32 cannot hold exactly"
    else:
        what = f"it holds {name} values"
    raise ImageError(what, f"convert it to one of {', '.join(DTYPES)} in the scale that you want")


def apply_scaling(pixels: np.ndarray, scaling: Scaling | None) -> np.ndarray:
    """Stored values to physical ones: (C, H, W) float32, computed in float64.

    Raises:
        ImageError: the file declares no scale and offset.
    """
    if scaling is None:
        raise ImageError("it declares no scale and offset", "leave scaled out, or declare them in the file")
    scale, offset = (np.array(values)[:, None, None] for values in zip(*scaling, strict=True))
    physical: np.ndarray = (pixels * scale + offset).astype(np.float32)
    return physical


def fill_missing(pixels: np.ndarray, missing: np.ndarray | None, nodata: float | str | None) -> np.ndarray:
    """Do with values that the file marks as no data what was asked for.

    Args:
        pixels: (C, H, W).
        missing: (C, H, W), True where a value is marked; None where none is.
        nodata: ``"keep"`` leaves them as they are, a number is put in their place, None refuses them.

    Raises:
        ImageError: values are marked and ``nodata`` is None, or the images' type cannot hold the number.
    """
    if missing is None or nodata == "keep" or not missing.any():
        return pixels
    if nodata is None:
        raise ImageError(
            f"{int(missing.sum()):,} of its {missing.size:,} values are marked as no data",
            "give nodata='keep' to take them as they are, nodata=NUMBER to put that in their place, or leave it out",
        )
    value = np.float64(nodata).astype(pixels.dtype)
    if pixels.dtype != np.float32 and value != nodata:
        raise ImageError(f"it holds {pixels.dtype.name} values, and nodata={nodata} is none", "give one that is")
    return np.where(missing, value, pixels)
