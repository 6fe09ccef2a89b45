"""Resizing against Pillow, for any number of channels and number type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anychannel.data import read_image
from anychannel.data.files.resize import resize_and_crop
from tests.helpers.image_files import smooth, write_image


@pytest.mark.parametrize(
    ("height", "width", "size"), [(60, 60, 24), (40, 70, 24), (70, 40, 24), (12, 20, 24), (33, 31, 30)]
)
def test_resizing_equals_pillow_up_to_rounding(height: int, width: int, size: int):
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
    scale = size / min(height, width)
    target = (round(height * scale), round(width * scale))
    image = Image.fromarray(np.moveaxis(pixels, 0, -1)).resize(target[::-1], Image.Resampling.BILINEAR)
    top, left = (target[0] - size) // 2, (target[1] - size) // 2
    expected = np.moveaxis(np.asarray(image), -1, 0)[:, top : top + size, left : left + size]
    resized = resize_and_crop(pixels, size)
    assert resized.shape == (3, size, size)
    assert resized.dtype == np.uint8
    assert np.abs(resized.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_ends_of_the_range_survive(dtype: type):
    low, high = np.zeros((2, 9, 9), dtype), np.full((2, 9, 9), np.iinfo(dtype).max, dtype)
    np.testing.assert_array_equal(resize_and_crop(low, 5), low[:, :5, :5])
    np.testing.assert_array_equal(resize_and_crop(high, 5), high[:, :5, :5])


def test_sixteen_bits_and_floats_are_resized_alike():
    pixels = smooth(5, 30, 20, np.uint16)
    as_float = resize_and_crop(pixels.astype(np.float32), 12)
    np.testing.assert_array_equal(resize_and_crop(pixels, 12), np.rint(as_float).astype(np.uint16))


def test_an_image_of_the_right_shorter_side_is_only_cropped(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 65536, (4, 10, 17), dtype=np.uint16)
    path = write_image(tmp_path / "image.tif", pixels)
    np.testing.assert_array_equal(read_image(path, channels="a,b,c,d", size=10), pixels[:, :, 3:13])


@pytest.mark.parametrize(("height", "width"), [(20, 60), (40, 30), (10, 20), (7, 90)])
def test_a_height_and_a_width_are_covered_and_cut_from_the_centre(height: int, width: int):
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
    scale = max(10 / height, 20 / width)
    target = (round(height * scale), round(width * scale))
    image = Image.fromarray(np.moveaxis(pixels, 0, -1)).resize(target[::-1], Image.Resampling.BILINEAR)
    top, left = (target[0] - 10) // 2, (target[1] - 20) // 2
    expected = np.moveaxis(np.asarray(image), -1, 0)[:, top : top + 10, left : left + 20]
    assert np.abs(resize_and_crop(pixels, (10, 20)).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("length", [300_000, 300_001])
def test_of_a_very_long_image_only_the_middle_is_resized(length: int):
    strip = np.zeros((1, 1, length), np.uint8)
    strip[..., length // 2 - 3 : length // 2 + 4] = 200
    for pixels in (strip, strip.transpose(0, 2, 1)):
        np.testing.assert_array_equal(resize_and_crop(pixels, 224), np.full((1, 224, 224), 200))


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_below_one_is_refused(tmp_path: Path, size: int):
    with pytest.raises(ValueError, match=f"size is the side of the images in pixels, at least 1, or None, got {size}"):
        read_image(tmp_path / "image.png", channels="a", size=size)
