"""``convert="rgb"`` makes 8-bit RGB of other pictures as Pillow does, and says how many."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from anychannel.data import DataError, load_dataset, read_image
from tests.helpers.image_files import smooth, write_image

RNG = np.random.default_rng(0)
PICTURE = np.moveaxis(smooth(3, 12, 14), 0, -1)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        (".png", "L"),
        (".png", "LA"),
        (".png", "RGBA"),
        (".png", "P"),
        (".png", "1"),
        (".png", "RGB"),
        (".jpg", "CMYK"),
        (".jpg", "L"),
        (".bmp", "P"),
        (".webp", "RGBA"),
        (".tif", "P"),
        (".tif", "CMYK"),
        (".tif", "L"),
        (".tif", "RGBA"),
        (".tif", "1"),
    ],
)
def test_a_picture_of_any_mode_becomes_the_rgb_that_pillow_makes(tmp_path: Path, suffix: str, mode: str):
    file = BytesIO()
    kind = {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper())
    picture = Image.fromarray(PICTURE).convert(mode)
    if mode == "RGBA":
        picture.putalpha(77)
    picture.save(file, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(file.getvalue())
    found = read_image(path, channels="R,G,B", convert="rgb")
    with Image.open(path) as image:
        np.testing.assert_array_equal(found, np.moveaxis(np.asarray(image.convert("RGB")), -1, 0))
    if mode != "RGB":
        with pytest.raises(DataError, match=r"or give convert='rgb'|it holds bool values"):
            read_image(path, channels="R,G,B")


def test_sixteen_bits_become_eight_by_scale(tmp_path: Path):
    deep = RNG.integers(0, 65536, (3, 8, 8), dtype=np.uint16)
    path = write_image(tmp_path / "a.png", deep)
    np.testing.assert_array_equal(read_image(path, channels="R,G,B", convert="rgb"), np.rint(deep / 257))
    grey = write_image(tmp_path / "b.tif", deep[:1])
    expected = np.rint(np.repeat(deep[:1], 3, 0) / 257)
    np.testing.assert_array_equal(read_image(grey, channels="R,G,B", convert="rgb"), expected)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((5, 8, 8), np.uint8), "it has 5 channels of uint8, which is not converted to RGB"),
        (np.zeros((1, 8, 8), np.float32), "it has 1 channel of float32, which is not converted to RGB"),
    ],
)
def test_what_has_no_common_conversion_is_refused(tmp_path: Path, pixels: np.ndarray, message: str):
    with pytest.raises(DataError, match=message):
        read_image(write_image(tmp_path / "a.tif", pixels), channels="R,G,B", convert="rgb")


def test_sixteen_bit_greyscale_stored_inverted_is_not_converted(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), np.uint16), photometric="miniswhite")
    with pytest.raises(DataError, match=r"it is greyscale stored inverted .*, which is not converted; save it as RGB"):
        read_image(tmp_path / "a.tif", channels="R,G,B", convert="rgb")


def test_a_data_set_counts_what_was_converted(tmp_path: Path):
    for label in "ab":
        for i in range(8):
            pixels = RNG.integers(0, 256, ((3, 4, 1)[min(i, 2)], 8, 8), dtype=np.uint8)
            write_image(tmp_path / label / f"{i}.png", pixels)
    for _ in range(2):  # the second time from the cache
        data = load_dataset(tmp_path, convert="rgb")
        assert data.channels.names == ("R", "G", "B")
        assert dict(data.converted) == {"greyscale": 12, "RGB with alpha": 2}
    with pytest.raises(DataError, match="convert='rgb' makes images of 3 channels, but 2 channels are named"):
        load_dataset(tmp_path, channels="a,b", convert="rgb")
    with pytest.raises(ValueError, match="convert is 'rgb', or None to take values as they are, got 'grey'"):
        load_dataset(tmp_path, convert="grey")
