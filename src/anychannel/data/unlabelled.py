"""Read a folder of images that nobody labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from anychannel.channels import ChannelSet
from anychannel.data.errors import DataError, ImageError, Problems
from anychannel.data.files.read import ReadSettings, read_image
from anychannel.data.files.resize import resize_and_crop
from anychannel.data.sources.band_files import BandPattern, match_bands, name_planes
from anychannel.data.sources.folders import list_images
from anychannel.data.sources.reader import Reader, placed
from anychannel.data.sources.source import Sample
from anychannel.data.workers import count_workers
from anychannel.utils.sizes import ImageSize, height_width


def read_folder(
    folder: str | Path,
    channels: ChannelSet,
    *,
    size: ImageSize | None = None,
    bands: str | None = None,
    **options: Any,
) -> np.ndarray:
    """Read all image files of a folder and of the folders in it, a folder's own files first.

    Args:
        folder: the folder.
        channels: the channels of every file, in file order.
        size: height and width in pixels to which images are resized and cropped; None keeps the files' own.
        bands: pattern of files with one band each, see ``anychannel.data.sources.band_files``. None: each is an image.
        options: those of ``read_image`` that say how files become arrays, such as ``nodata``.

    Returns:
        (N, C, H, W) in the files' type and units.

    Raises:
        DataError: there is no image, a file cannot be read or lacks a channel, or files differ in size or type.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give a folder of image files")
    paths = list_images(root, [])
    if not paths:
        raise DataError(f"{root} holds no image files")
    if bands is not None:
        return stack(read_scenes(root, paths, channels, BandPattern.parse(bands), size, options))

    def read(path: Path) -> np.ndarray:
        pixels = read_image(path, channels=channels, **options)
        return pixels if size is None else resize_and_crop(pixels, height_width(size))

    with ThreadPoolExecutor(count_workers()) as pool:
        return stack(dict(zip(map(str, paths), pool.map(read, paths), strict=True)))


def stack(images: Mapping[str, np.ndarray]) -> np.ndarray:
    """Images by their names as one array. Raises DataError if they differ in size or type."""
    first, usual = next(iter(images.items()))
    for path, image in images.items():
        if (image.shape, image.dtype) != (usual.shape, usual.dtype):
            kinds = [f"{one.dtype} of {one.shape[1]} x {one.shape[2]} pixels" for one in (image, usual)]
            raise DataError(f"{path} is {kinds[0]}, but {first} is {kinds[1]}; give a size, or convert the files")
    return np.stack(list(images.values()))


def read_scenes(
    root: Path,
    files: Sequence[Path],
    channels: ChannelSet,
    pattern: BandPattern,
    size: ImageSize | None,
    options: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """The scenes of files with one band each, by their names. Raises DataError if one lacks a channel."""
    problems = Problems()
    scenes = pattern.gather(root, files, problems)
    problems.raise_if_any(root)
    pattern.refuse_empty(root, scenes)
    known = match_bands(list(dict.fromkeys(band for one in scenes.found.values() for band in one.files)), channels)
    height, width = (None, None) if size is None else height_width(size)
    side = height if height == width else None
    grid = None if height is None or width is None else (height, width)
    reader = Reader(channels, ReadSettings(size=side, **options).naming(channels), kinds={}, grid=grid)

    def read(key: str) -> np.ndarray:
        image = name_planes(scenes.found[key].files, known)
        sample = Sample(str(root / key), 0, image, tuple(image.files))
        with placed(sample):
            found = reader.decode(sample, sample.load()) if image.files else None
            held = () if found is None else [channels.names[position] for position in found.positions]
            absent = [name for name in channels.names if name not in held]
            if found is None or absent:
                raise ImageError(
                    f"it lacks {', '.join(absent)}", "images without labels need all channels; leave it out"
                )
        pixels = found.spread(len(channels))
        return pixels if grid is None else resize_and_crop(pixels, grid)

    with ThreadPoolExecutor(count_workers()) as pool:
        return dict(zip(scenes.found, pool.map(read, scenes.found), strict=True))
