"""The image formats. A new one is a module that defines a ``Format``, and a line here."""

from __future__ import annotations

from anychannel.data.content import Content
from anychannel.data.errors import ImageError
from anychannel.data.files.decoded import Format
from anychannel.data.files.jpeg2000 import JPEG2000
from anychannel.data.files.npy import NPY
from anychannel.data.files.ome import OME_ZARR
from anychannel.data.files.pillow import PILLOW
from anychannel.data.files.tiff import TIFF

FORMATS: dict[str, Format] = {
    "pillow": PILLOW,
    "tiff": TIFF,
    "jpeg2000": JPEG2000,
    "npy": NPY,
    "ome-zarr": OME_ZARR,
}


def image_suffixes() -> tuple[str, ...]:
    """Endings of the names of image files, and of folders that are one image each."""
    return tuple(suffix for known in FORMATS.values() for suffix in known.suffixes)


def find_format(content: Content) -> Format:
    """Return the format of a file's bytes, or of a folder's files; ImageError if none recognises it."""
    for known in FORMATS.values():
        if known.recognises(content):
            return known
    known_names = ", ".join(image_suffixes())
    raise ImageError(f"it is not an image in a known format ({known_names})", "convert, replace or remove it")
