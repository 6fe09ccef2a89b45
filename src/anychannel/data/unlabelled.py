"""Read a folder of images that nobody labelled."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from anychannel.channels import ChannelSet
from anychannel.data.content import is_folder_image
from anychannel.data.errors import DataError
from anychannel.data.files.read import read_image
from anychannel.data.files.resize import resize_and_crop
from anychannel.data.sources.folders import is_image
from anychannel.data.workers import count_workers
from anychannel.utils.folders import walk_files
from anychannel.utils.sizes import ImageSize, height_width


def read_folder(
    folder: str | Path, channels: ChannelSet, *, size: ImageSize | None = None, **options: Any
) -> np.ndarray:
    """Read all image files of a folder and of the folders in it, a folder's own files first.

    Args:
        folder: the folder.
        channels: the channels of every file, in file order.
        size: height and width in pixels to which images are resized and cropped; None keeps the files' own.
        options: those of ``read_image`` that say how files become arrays, such as ``nodata``.

    Returns:
        (N, C, H, W) in the files' type and units.

    Raises:
        DataError: there is no image, a file cannot be read or lacks a channel, or files differ in size or type.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give a folder of image files")
    paths = [path for path in walk_files(root, is_file=is_folder_image, junk=[]) if is_image(path)]
    if not paths:
        raise DataError(f"{root} holds no image files")

    def read(path: Path) -> np.ndarray:
        pixels = read_image(path, channels=channels, **options)
        return pixels if size is None else resize_and_crop(pixels, height_width(size))

    with ThreadPoolExecutor(count_workers()) as pool:
        images = list(pool.map(read, paths))
    for path, image in zip(paths, images, strict=True):
        if (image.shape, image.dtype) != (images[0].shape, images[0].dtype):
            kinds = [f"{one.dtype} of {one.shape[1]} x {one.shape[2]} pixels" for one in (image, images[0])]
            raise DataError(f"{path} is {kinds[0]}, but {paths[0]} is {kinds[1]}; give a size, or convert the files")
    return np.stack(images)
