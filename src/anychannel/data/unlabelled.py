"""Read a folder of images that nobody labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from anychannel.data.errors import DataError
from anychannel.data.image_paths import ImagePath, find_images
from anychannel.data.input_images import Reader
from anychannel.data.workers import count_workers


def read_folder(
    folder: str | Path, reader: Reader, *, channels: str | Sequence[str] | None = None, bands: str | None = None
) -> np.ndarray:
    """Read all images of a folder, at any depth, that hold all channels of a network, as prediction reads them.

    The folder may name its files' channels, in ``channels.txt`` and ``channels.csv`` (see
    ``anychannel.data.sources.folders``).

    Args:
        folder: the folder.
        reader: reads an image as the network needs it. Its ``shape`` None keeps the files' own size.
        channels: names of the channels of all other files in order; see ``Reader.open``.
        bands: pattern of files with one band each, see ``anychannel.data.sources.band_files``. None: each is an image.

    Returns:
        (N, C, H, W) in the files' type and units, with the network's channels in its order.

    Raises:
        ChannelError: a name of ``channels`` is unknown.
        DataError: there is no image, or none with all channels; a file cannot be read; or files differ in size or type.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give a folder of image files")
    names = reader.channels.names

    def read(image: ImagePath) -> np.ndarray | None:
        if image.channels is not None and not set(names) <= set(image.channels):
            return None
        opened = reader.open_path(image, channels)
        if len(opened.channels) < len(names):
            return None
        return opened.pixels[[opened.channels.index(name) for name in names]]

    listed = find_images(root, bands)
    with ThreadPoolExecutor(count_workers()) as pool:
        found = zip(listed, pool.map(read, listed), strict=True)
        whole = {image.path: pixels for image, pixels in found if pixels is not None}
    if not whole:
        held = "" if listed[0].channels is None else f" ({listed[0].path} holds {', '.join(listed[0].channels)})"
        raise DataError(
            f"no image in {root} holds all channels of the network, {', '.join(names)}{held}; give images that do, or "
            "correct the names in channels.txt and channels.csv"
        )
    return stack(whole)


def stack(images: Mapping[str, np.ndarray]) -> np.ndarray:
    """Images by their names as one array. Raises DataError if they differ in size or type."""
    first, usual = next(iter(images.items()))
    for path, image in images.items():
        if (image.shape, image.dtype) != (usual.shape, usual.dtype):
            kinds = [f"{one.dtype} of {one.shape[1]} x {one.shape[2]} pixels" for one in (image, usual)]
            raise DataError(f"{path} is {kinds[0]}, but {first} is {kinds[1]}; give a size, or convert the files")
    return np.stack(list(images.values()))
