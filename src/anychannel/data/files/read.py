"""Read one image: find its format, decode it, check it against what is expected, bring it to size.

No value is converted on the way. A file that would need a conversion is refused with what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

import numpy as np

from anychannel.channels import ChannelSet, as_channel_set
from anychannel.data.content import Content, read_content
from anychannel.data.errors import OR_CONVERT, ColourError, DataError, ImageError
from anychannel.data.files.axes import LAYOUTS, arrange
from anychannel.data.files.decoded import Decoded, bring_values, fill_missing
from anychannel.data.files.names import RGB, check_names, is_mask
from anychannel.data.files.npy import from_array
from anychannel.data.files.pillow import decode_colours
from anychannel.data.files.registry import find_format
from anychannel.data.files.resize import resize_valid
from anychannel.utils.options import is_number
from anychannel.utils.plurals import plural


@dataclass(frozen=True)
class ReadSettings:
    """How files become arrays.

    ``channels`` are the files' channels in file order, and None accepts any number; ``kinds`` are their kinds if known,
    by which a file may name them; ``nearest`` says which of them are masks, which are resized without mixing. The other
    fields are the arguments of ``read_image``.
    """

    channels: tuple[str, ...] | None = None
    size: int | None = None
    layout: str | None = None
    nodata: float | str | None = None
    scaled: bool = False
    check_names: bool = True
    kinds: tuple[str | None, ...] = ()
    convert: str | None = None
    nearest: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if self.layout not in (None, *LAYOUTS):
            choices = " or ".join(map(repr, LAYOUTS))
            raise ValueError(f"layout is {choices}, or None to let the files tell, got {self.layout!r}")
        if self.size is not None and self.size < 1:
            raise ValueError(f"size is the side of the images in pixels, at least 1, or None, got {self.size}")
        if (
            self.nodata is not None
            and self.nodata != "keep"
            and not (is_number(self.nodata) and isfinite(float(self.nodata)))
        ):
            raise ValueError(f"nodata is 'keep', a number, or None to refuse such values, got {self.nodata!r}")
        if self.convert not in (None, "rgb"):
            raise ValueError(f"convert is 'rgb', or None to take values as they are, got {self.convert!r}")

    def naming(self, channels: ChannelSet) -> ReadSettings:
        """Return the same settings for files that hold these channels."""
        nearest = tuple(map(is_mask, channels.names, channels.kinds))
        return replace(self, channels=channels.names, kinds=channels.kinds, nearest=nearest if any(nearest) else ())

    def beyond_size(self) -> dict[str, object]:
        """Return the settings beside size and layout that change pixels, without defaults, for a cache's key."""
        given = {"nodata": self.nodata, "convert": self.convert}
        chosen: dict[str, object] = {name: value for name, value in given.items() if value is not None}
        chosen |= {"nearest": self.nearest} if self.nearest else {}
        return chosen | ({"scaled": True} if self.scaled else {})


def read(data: Content | np.ndarray | Decoded, settings: ReadSettings) -> Decoded:
    """Decode a file's bytes, or take pixels as they are, check the result and bring it to size.

    The pixels returned are (C, H, W) uint8, uint16 or float32, contiguous. Raises ImageError if the file cannot be used
    as ``settings`` say, MissingExtraError if a package that reads this format is not installed.
    """
    if isinstance(data, np.ndarray):
        data = from_array(data)
    elif not isinstance(data, Decoded):
        if not data:
            raise ImageError("the file is empty (zero bytes)", "replace or remove it")
        try:
            data = find_format(data).decode(data)
        except ColourError as error:
            if settings.convert is None or not isinstance(data, bytes):
                raise
            data = decode_colours(data, error.what)
    names = settings.channels
    found = arrange(data, None if names is None else len(names), settings.layout)
    if settings.convert is not None and (names is None or len(names) == len(RGB)):
        found = convert_to_rgb(found)
    if names is not None and len(found.pixels) != len(names):
        kind = f" ({found.meaning})" if found.meaning else ""
        raise ImageError(
            f"it has {plural(len(found.pixels), 'channel')}{kind}, but {len(names)} expected ({', '.join(names)})",
            channel_fix(found.meaning) + (OR_CONVERT if len(names) == len(RGB) and found.meaning else ""),
        )
    if names is not None and settings.check_names:
        check_names(found.names, names, settings.kinds)
    pixels, missing = fill_missing(bring_values(found, scaled=settings.scaled), found.missing, settings.nodata)
    if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
        fix = "replace them, or give nodata=NUMBER, which replaces NaN, if NaN is no data"
        raise ImageError("it holds NaN or infinite values", fix)
    pixels = np.ascontiguousarray(pixels)
    if settings.size is not None:
        pixels, missing = resize_valid(pixels, settings.size, missing, settings.nearest)
    return replace(found, pixels=pixels, missing=missing)


def convert_to_rgb(found: Decoded) -> Decoded:
    """Convert (C, H, W) pixels to 8-bit RGB: grey values count three times, alpha is left out, 16 bits become 8."""
    planes = {1: [0, 0, 0], 2: [0, 0, 0], 3: [0, 1, 2], 4: [0, 1, 2]}.get(len(found.pixels))
    what = found.meaning or ("RGB" if len(found.pixels) == len(RGB) else "")
    if found.pixels.dtype == bool:
        found = replace(found, pixels=found.pixels * np.uint8(255))
    if planes is None or not what or found.pixels.dtype not in (np.uint8, np.uint16):
        kind = f"{plural(len(found.pixels), 'channel')} of {found.pixels.dtype.name}"
        raise ImageError(f"it has {kind}, which is not converted to RGB", "leave convert out, or convert it yourself")
    rgb = replace(found.select(planes), names=(), is_colour=True)
    if found.pixels.dtype == np.uint16:
        eight = ((rgb.pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
        rgb, what = replace(rgb, pixels=eight), f"{what} of 16 bits"
    return replace(rgb, converted=found.converted or what) if what != "RGB" else rgb


def channel_fix(meaning: str) -> str:
    """What to do about a file with an unexpected number of channels."""
    if "alpha" in meaning:
        return "remove the alpha channel, or name it"
    if meaning == "greyscale":
        return "replace it, name one channel if all files are like this, or say which one it has (docs/partial-data.md)"
    return "name the files' channels in their order, say which ones this file has (docs/partial-data.md), or replace it"


def read_image(
    path: str | Path,
    *,
    channels: ChannelSet | str | Sequence[str],
    size: int | None = None,
    layout: str | None = None,
    nodata: float | str | None = None,
    scaled: bool = False,
    check_names: bool = True,
    convert: str | None = None,
) -> np.ndarray:
    """Read one image as ``load_dataset`` does.

    Args:
        path: JPEG, PNG, TIFF, BMP, WebP, JPEG 2000 or NumPy file, or an OME-Zarr folder.
        channels: names of the file's channels in file order, or a sensor (see ``as_channel_set``).
        size: height and width in pixels to which the image is resized and cropped; None keeps its size.
        layout: ``planar`` (C, H, W) or ``interleaved`` (H, W, C), for a TIFF or array that does not say it.
        nodata: for values that the file marks as no data: ``"keep"`` keeps them, a number replaces them and NaN, None
            refuses the file. In a file that marks none, values that equal the number are no data.
        scaled: convert stored to physical values with the scale and offset that the file declares.
        check_names: refuse a file whose own channel names contradict ``channels``.
        convert: ``"rgb"`` converts grey, alpha, palette, CMYK and 16 bits to 8-bit RGB as Pillow does; None refuses.

    Returns:
        (C, H, W) uint8, uint16 or float32 in the file's own units.

    Raises:
        DataError: the file is missing, cannot be decoded, or does not hold these channels.
    """
    settings = ReadSettings(None, size, layout, nodata, scaled, check_names, convert=convert).naming(
        as_channel_set(channels)
    )
    data = open_content(path, str(path))
    try:
        return read(data, settings).pixels
    except ImageError as error:
        raise DataError(f"{path}: {error}") from error


def open_content(path: str | Path, name: str) -> Content:
    """Read a file or folder image; errors are DataErrors about ``name``."""
    try:
        return read_content(Path(path))
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}); check the path") from error
    except ImageError as error:
        raise DataError(f"{name}: {error}") from error
