"""Small files that unfold to more than memory holds, files without an end: refused before memory is allocated."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from benchmarks.faults.bomb_files import (
    BLANK,
    VAST,
    jpeg2000,
    npy_header,
    patched_tiff,
    png,
    sparse,
    tiff_with_part,
    zarr_of,
)
from PIL import Image

from anychannel.data import DataError, load_dataset, read_image
from tests.helpers.image_files import bright_halves, write_class_folders

LIMIT = "values, more than the limit of 200,000,000; cut or scale it down, or set ANYCHANNEL_MAX_VALUES to a larger"
LARGER = "its compressed parts hold more pixels than it declares"
BOMBS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "NumPy header of 18 GB": ("a.npy", npy_header, r"declares an array of shape \(60000, 300000\) and ends before"),
    "deflate TIFF": (
        "a.tif",
        lambda p: patched_tiff(p, VAST, compression="zlib"),
        LIMIT,
    ),
    "GeoTIFF": (
        "a.tif",
        lambda p: patched_tiff(p, VAST, extratags=[(42113, 2, 2, "0", True)]),
        LIMIT,
    ),
    "tiles": ("a.tif", lambda p: patched_tiff(p, {322: 50_000, 323: 50_000}, tile=(16, 16), compression="zlib"), LIMIT),
    "deflate stream": ("a.tif", lambda p: tiff_with_part(p, "zlib", zlib.compress(bytes(1 << 26))), "damaged"),
    "JPEG 2000 in TIFF": ("a.tif", lambda p: tiff_with_part(p, "jpeg2000", jpeg2000(4000)), LARGER),
    "JPEG XL in TIFF": (
        "a.tif",
        lambda p: tiff_with_part(p, "jpegxl", imagecodecs.jpegxl_encode(BLANK)),
        "its compression JPEGXL is not supported; save it with deflate",
    ),
    "PNG": ("a.png", lambda p: png(p, 9000, 9000), LIMIT),
    "16-bit PNG": ("a.png", lambda p: png(p, 9000, 9000, 16), LIMIT),
    "PNG beyond Pillow's limit": ("a.png", lambda p: png(p, 60_000, 60_000), r"it is too large \(Image size"),
    "OME-Zarr": ("a.zarr", lambda p: zarr_of(p, [1, 50_000, 50_000], [1, 16, 16]), LIMIT),
    "chunks of an OME-Zarr": ("a.zarr", lambda p: zarr_of(p, [1, 16, 16], [1, 50_000, 50_000]), LIMIT),
    "a file of 20 GB": ("a.png", sparse, "it holds 2,684,354,560 " + LIMIT),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_file_that_unfolds_to_too_much_is_refused_before_memory_is_allocated(tmp_path: Path, bomb: str):
    name, write, message = BOMBS[bomb]
    write(tmp_path / name)
    warm_up(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=message):
            read_image(tmp_path / name, channels="R,G,B")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * 2**20


def warm_up(folder: Path) -> None:
    """Import what readers import when they are used."""
    zarr_of(folder / "warm.zarr", [1, 16, 16], [1, 16, 16])
    read_image(folder / "warm.zarr", channels="a")


def test_the_limit_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = [tmp_path / name for name in ("a.npy", "a.png", "a.tif", "a.zarr")]
    np.save(paths[0], BLANK)
    Image.fromarray(BLANK).save(paths[1])
    tifffile.imwrite(paths[2], BLANK)
    zarr_of(paths[3], [1, 16, 16], [1, 16, 16])
    for path in paths:
        monkeypatch.setenv("ANYCHANNEL_MAX_VALUES", "255")
        with pytest.raises(DataError, match=f"{path.name}: it decodes to 256 values, more than the limit of 255; cut"):
            read_image(path, channels="a")
        monkeypatch.setenv("ANYCHANNEL_MAX_VALUES", "256")
        assert read_image(path, channels="a").shape == (1, 16, 16)
    monkeypatch.setenv("ANYCHANNEL_MAX_VALUES", "many")
    with pytest.raises(
        ValueError, match="ANYCHANNEL_MAX_VALUES is the largest number of values of an image, got 'many'"
    ):
        read_image(paths[0], channels="a")


def test_only_files_and_image_folders_are_read(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    zarr_of(tmp_path / "folder.zarr", [1, 16, 16], [1, 16, 16])
    os.mkfifo(tmp_path / "folder.zarr" / "pipe")
    for name in ("pipe.png", "endless.png", "folder.zarr"):
        with pytest.raises(DataError, match=rf"{name}: cannot be read \(it is not a regular file\); check the path"):
            read_image(tmp_path / name, channels="a")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_a_data_set_with_a_pipe_or_a_device_is_refused(tmp_path: Path, make: Callable[[Path], None]):
    draw = bright_halves(np.random.default_rng(0), 8, 8)
    write_class_folders(tmp_path / "photos", {"train": 2, "val": 1, "test": 1}, ("left", "right"), draw)
    make(tmp_path / "photos" / "train" / "left" / "endless.png")
    with pytest.raises(DataError, match=r"1 problem .*\n  - train/left/endless\.png: it is not a file; list files"):
        load_dataset(tmp_path / "photos", channels="R,G,B", cache_dir=tmp_path / "cache")
