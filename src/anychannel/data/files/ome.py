"""Formats of the Open Microscopy Environment: channel names in OME-TIFF, and OME-Zarr images.

An OME-Zarr image is a folder. zarr reads its full resolution. Its metadata (NGFF 0.4 and 0.5) name the axes and may
name the channels ("omero"). By the format's definition a chunk that is not stored is blank; an image without any chunk
is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Any
from xml.etree import ElementTree

import numpy as np

from anychannel.data.content import FOLDER_SUFFIXES
from anychannel.data.errors import ImageError
from anychannel.data.files.decoded import Decoded, Format, damaged, library_errors
from anychannel.data.limits import check_extent
from anychannel.utils.extras import need
from anychannel.utils.unfold import unfolds_beyond

METADATA = ("zarr.json", ".zattrs")
CHECKSUM = 4
"""Bytes of a checksum, CRC-32C, that may follow what it checks."""
DAMAGED = (LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What zarr and its codecs raise for damaged images, found by damaging some."""


def read_ome_xml(text: str) -> tuple[str | None, ...]:
    """Return the names of the first image's channels in OME-XML."""
    with library_errors(ElementTree.ParseError):
        root = ElementTree.fromstring(text)
    files = {element.get("FileName") or element.text for element in root.iter() if element.tag.endswith("}UUID")}
    if len(files) > 1:
        raise ImageError(f"its image is spread over {len(files)} files", "save it as one file")
    for element in root.iter():
        with library_errors(ValueError):
            check_extent(prod(int(value) for name, value in element.items() if name.startswith("Size")))
    pixels = next((element for element in root.iter() if element.tag.endswith("}Pixels")), None)
    channels = [] if pixels is None else [child for child in pixels if child.tag.endswith("}Channel")]
    return tuple(channel.get("Name") for channel in channels)


def decode_ome_zarr(files: Mapping[str, bytes]) -> Decoded:
    """Decode the highest resolution of an OME-Zarr image, from the content of its folder's files by relative path."""
    axes, path, names = read_metadata(files)
    zarr = need("zarr", "ome", "an OME-Zarr image")
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    to_buffer = default_buffer_prototype().buffer.from_bytes
    store = MemoryStore({name: to_buffer(content) for name, content in files.items()}, read_only=True)
    with library_errors(*DAMAGED):
        array = zarr.open_array(store, path=path, mode="r")
        for shape in (array.shape, array.chunks, array.shards or ()):
            check_extent(prod(shape))
        stored = array.nchunks_initialized
        size, held = prod(array.chunks) * array.dtype.itemsize, prod(array.shards or array.chunks) // prod(array.chunks)
        chunks = [one for name in files if name.startswith(path) for one in split_shard(files[name], held)]
    if any(unfolds_beyond(one, size + CHECKSUM) for one in chunks):
        raise damaged("a chunk unfolds to more than it declares")
    if stored == 0:
        raise ImageError("none of its chunks is there, so that it would be blank", "replace or remove it")
    with library_errors(*DAMAGED):
        pixels = np.asarray(array[...])
    if len(axes) != pixels.ndim:
        raise ImageError(f"it names axes {', '.join(axes)}, but has shape {pixels.shape}", "correct its metadata")
    keep = [i for i, axis in enumerate(axes) if axis in ("c", "y", "x") or pixels.shape[i] > 1]
    left = [axes[i] for i in keep]
    pixels = pixels.reshape([pixels.shape[i] for i in keep])
    if sorted(left) not in (["x", "y"], ["c", "x", "y"]):
        raise ImageError(
            f"it has axes {', '.join(left)} of lengths {pixels.shape}, not channels, height and width",
            "save one image with its channels",
        )
    order = [left.index(axis) for axis in "cyx" if axis in left]
    return Decoded(pixels.transpose(order), axes="CYX"[-len(order) :], names=names)


def split_shard(content: bytes, held: int) -> list[bytes]:
    """The chunks in a stored file, which end with a table of where they are if there are several (``held``)."""
    if held == 1:
        return [content]
    table = np.frombuffer(content[-16 * held - CHECKSUM : -CHECKSUM], "<u8")
    places = table.reshape(-1, 2).tolist() if len(table) == 2 * held else []
    return [content[start : start + size] for start, size in places if start < len(content)]


def read_metadata(files: Mapping[str, bytes]) -> tuple[list[str], str, tuple[str | None, ...]]:
    """Return an image's axes, the path of its full resolution, and the names of its channels."""
    for name in METADATA:
        if name not in files:
            continue

        def broken(reason: object, name: str = name) -> ImageError:
            return ImageError(f"its {name} is damaged ({reason})", "replace or remove it")

        try:
            values = json.loads(files[name])
        except (ValueError, RecursionError) as error:
            raise broken(error) from error
        attributes = entry(entry(values, "attributes"), "ome") if name == "zarr.json" else values
        match entry(attributes, "multiscales"):
            case None | [] if isinstance(values, dict):
                continue
            case [{"datasets": [{"path": str(path)}, *_]} as image]:
                axes = [str(entry(axis, "name") or axis) for axis in listed(entry(image, "axes")) or "tczyx"]
                labels = [entry(one, "label") for one in listed(entry(entry(attributes, "omero"), "channels"))]
                return axes, path, tuple(label if isinstance(label, str) else None for label in labels)
            case [_, _, *_] as images:
                raise ImageError(f"it holds {len(images)} images", "keep the one that you want")
            case _:
                raise broken("its multiscales are no list of data sets")
    raise ImageError("it is no OME-Zarr image: its folder has no 'multiscales' metadata", "give the image's own folder")


def entry(value: Any, key: str) -> Any:
    """An entry of a JSON object; None if there is none, or no object."""
    return value.get(key) if isinstance(value, dict) else None


def listed(value: Any) -> list[Any]:
    """A JSON array; empty if it is something else."""
    return value if isinstance(value, list) else []


OME_ZARR = Format(FOLDER_SUFFIXES, lambda content: not isinstance(content, bytes), decode_ome_zarr)
