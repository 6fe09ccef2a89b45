"""What the Open Microscopy Environment's formats say about channels: OME-XML in TIFFs, and OME-Zarr images.

An OME-Zarr image is a folder. Its full resolution is read, by zarr; its axes are named in its metadata (NGFF 0.4 and
0.5), and so may be its channels ("omero"). A chunk that is not stored is blank by the format's definition, and is read
so; an image without any is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import numpy as np

from anychannel.data.decoded import Decoded
from anychannel.data.errors import ImageError
from anychannel.utils.extras import need

METADATA = ("zarr.json", ".zattrs")


def read_ome_xml(text: str) -> tuple[str | None, ...]:
    """Names of the first image's channels.

    Args:
        text: OME-XML.

    Raises:
        ImageError: the pixels lie in several files.
    """
    root = ElementTree.fromstring(text)
    files = {element.get("FileName") or element.text for element in root.iter() if element.tag.endswith("}UUID")}
    if len(files) > 1:
        raise ImageError(f"its image is spread over {len(files)} files", "save it as one file")
    pixels = next((element for element in root.iter() if element.tag.endswith("}Pixels")), None)
    channels = [] if pixels is None else [child for child in pixels if child.tag.endswith("}Channel")]
    return tuple(channel.get("Name") for channel in channels)


def decode_ome_zarr(files: Mapping[str, bytes]) -> Decoded:
    """Decode an OME-Zarr image.

    Args:
        files: content of every file in its folder, by relative path.

    Returns:
        Pixels (C, H, W) of the highest resolution.

    Raises:
        ImageError: it is damaged, of another version, or has an axis of more than one beside channel, y and x.
        MissingExtraError: zarr is not installed.
    """
    multiscale, path, names = read_metadata(files)
    zarr = need("zarr", "ome", "an OME-Zarr image")
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    to_buffer = default_buffer_prototype().buffer.from_bytes
    store = MemoryStore({name: to_buffer(content) for name, content in files.items()}, read_only=True)
    try:
        array = zarr.open_array(store, path=path, mode="r")
        if array.nchunks_initialized == 0:
            raise ImageError("none of its chunks is there, so that it would be blank", "replace or remove it")
        pixels = np.asarray(array[...])
    except ImageError:
        raise
    except Exception as error:  # zarr and its codecs raise many kinds
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ImageError(f"it is incomplete or damaged ({reason})", "replace or remove it") from error
    axes = [axis["name"] if isinstance(axis, dict) else axis for axis in multiscale.get("axes", "tczyx")]
    if len(axes) != pixels.ndim:
        raise ImageError(f"it names axes {', '.join(axes)}, but has shape {pixels.shape}", "correct its metadata")
    keep = [i for i, axis in enumerate(axes) if axis in ("c", "y", "x") or pixels.shape[i] > 1]
    left = [axes[i] for i in keep]
    pixels = pixels.reshape([pixels.shape[i] for i in keep])
    if not {"y", "x"} <= set(left) <= {"c", "y", "x"}:
        raise ImageError(
            f"it has axes {', '.join(left)} of lengths {pixels.shape}, not channels, height and width",
            "save one image with its channels",
        )
    if "c" not in left:
        pixels, left = pixels[None], ["c", *left]
    return Decoded(pixels.transpose([left.index(axis) for axis in "cyx"]), names=names)


def read_metadata(files: Mapping[str, bytes]) -> tuple[dict[str, Any], str, tuple[str | None, ...]]:
    """An image's ``multiscales`` metadata, where its full resolution lies, and its channels' names.

    Raises:
        ImageError: it has no such metadata, damaged ones, or several images.
    """
    for name in METADATA:
        if name in files:
            try:
                values = json.loads(files[name])
                attributes = values.get("attributes", {}).get("ome", {}) if name == "zarr.json" else values
                images = list(attributes.get("multiscales", []))
                paths = [str(image["datasets"][0]["path"]) for image in images]
                labels = tuple(channel.get("label") for channel in attributes.get("omero", {}).get("channels", ()))
            except (ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
                reason = str(error) if isinstance(error, ValueError) else "its multiscales are no list of data sets"
                raise ImageError(f"its {name} is damaged ({reason})", "replace or remove it") from error
            if len(images) > 1:
                raise ImageError(f"it holds {len(images)} images", "keep the one that you want")
            if images:
                return images[0], paths[0], labels
    raise ImageError("it is no OME-Zarr image: its folder has no 'multiscales' metadata", "give the image's own folder")
