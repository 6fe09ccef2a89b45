"""The image formats. A new one is a module that defines a ``Format``, and a line here."""

from __future__ import annotations

from anychannel.data.content import Content
from anychannel.data.files.decoded import Format, damaged
from anychannel.data.files.npy import NPY
from anychannel.data.files.ome import OME_ZARR
from anychannel.data.files.pillow import PILLOW
from anychannel.data.files.tiff import TIFF

FORMATS: dict[str, Format] = {"pillow": PILLOW, "tiff": TIFF, "npy": NPY, "ome-zarr": OME_ZARR}


def image_suffixes() -> tuple[str, ...]:
    """Endings of the names of image files, and of folders that are one image each."""
    return tuple(suffix for known in FORMATS.values() for suffix in known.suffixes)


def find_format(content: Content) -> Format:
    """Return the format of a file's bytes, or of a folder's files; ImageError if none recognises it."""
    for known in FORMATS.values():
        if known.recognises(content):
            return known
    raise damaged("not an image in a known format")


def count_values(content: Content) -> int | None:
    """Number of values to which an image decodes, from its header; None if its format does not tell."""
    known = find_format(content)
    return None if known.count_values is None or not isinstance(content, bytes) else known.count_values(content)
