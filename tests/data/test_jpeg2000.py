"""JPEG 2000: stored values to the last bit, of every depth; limits and damage as for other formats."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import rasterio
from PIL import Image

from anychannel.data import DataError, read_image

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (3, 12, 17), dtype=np.uint8)


def with_rasterio(path: Path, pixels: np.ndarray, **options: object) -> Path:
    """Write (C, H, W) without loss, with a place on Earth."""
    count, height, width = pixels.shape
    shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype.name}
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 6e6)}
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES", **shape, **place, **options
    ) as file:
        file.write(pixels)
    return path


@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
def test_values_are_as_stored_whatever_their_depth(tmp_path: Path, bits: int):
    dtype = np.uint8 if bits == 8 else np.uint16
    pixels = RANDOM.integers(0, 2**bits, (1, 20, 30)).astype(dtype)
    path = with_rasterio(tmp_path / "B02.jp2", pixels, NBITS=str(bits))
    found = read_image(path, channels="B02")
    assert found.dtype == dtype
    assert np.array_equal(found, pixels)


def test_colours_channels_and_codestreams_are_read(tmp_path: Path):
    Image.fromarray(np.moveaxis(RGB, 0, 2)).save(tmp_path / "rgb.jp2", irreversible=False)
    assert np.array_equal(read_image(tmp_path / "rgb.jp2", channels="R,G,B"), RGB)
    five = RANDOM.integers(0, 9000, (5, 9, 11), dtype=np.uint16)
    assert np.array_equal(read_image(with_rasterio(tmp_path / "five.jp2", five), channels="a,b,c,d,e"), five)
    whole = (tmp_path / "five.jp2").read_bytes()
    (tmp_path / "bare.j2k").write_bytes(whole[whole.index(b"\xff\x4f\xff\x51") :])
    assert np.array_equal(read_image(tmp_path / "bare.j2k", channels="a,b,c,d,e"), five)


def test_a_file_that_is_cut_is_refused_wherever_it_ends(tmp_path: Path):
    Image.fromarray(np.moveaxis(RGB, 0, 2)).save(tmp_path / "whole.jp2", irreversible=False)
    whole = (tmp_path / "whole.jp2").read_bytes()
    for end in range(12, len(whole), 23):
        (tmp_path / "cut.jp2").write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"cut\.jp2: it is truncated or damaged"):
            read_image(tmp_path / "cut.jp2", channels="R,G,B")


def test_random_changes_are_read_or_refused(tmp_path: Path):
    Image.fromarray(np.moveaxis(RGB, 0, 2)).save(tmp_path / "whole.jp2", irreversible=False)
    whole = (tmp_path / "whole.jp2").read_bytes()
    refused = 0
    for _ in range(120):
        changed = bytearray(whole)
        for place in RANDOM.integers(12, min(200, len(whole)), 3):
            changed[place] = RANDOM.integers(0, 256)
        (tmp_path / "a.jp2").write_bytes(changed)
        try:
            read_image(tmp_path / "a.jp2", channels="R,G,B")
        except DataError:
            refused += 1
    assert refused > 10


def test_a_declared_size_beyond_the_limit_is_refused_before_it_is_decoded(tmp_path: Path):
    bare = imagecodecs.jpeg2k_encode(np.zeros((16, 16), np.uint8), codecformat="j2k")
    at = bare.index(b"\xff\x4f\xff\x51") + 8
    for width in (60_000, 2**32 - 1):
        size = struct.pack(">2I", width, 60_000)
        (tmp_path / "vast.j2k").write_bytes(bare[:at] + size + bare[at + 8 :])
        tracemalloc.start()
        with pytest.raises(DataError, match="more than the limit of 200,000,000"):
            read_image(tmp_path / "vast.j2k", channels="a")
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
        tracemalloc.stop()


def test_a_palette_is_refused_and_converted_when_asked(tmp_path: Path):
    file = io.BytesIO()
    Image.fromarray(RGB[0]).save(file, "JPEG2000", irreversible=False)
    whole = file.getvalue()
    ihdr = whole.index(b"jp2h") - 4
    (length,) = struct.unpack_from(">I", whole, ihdr)
    colours = b"".join(bytes([i, 255 - i, 7]) for i in range(256))
    palette = struct.pack(">HB3B", 256, 3, 7, 7, 7) + colours
    maps = b"".join(struct.pack(">HBB", 0, 1, i) for i in range(3))
    inner = whole[ihdr + 8 : ihdr + length]
    for kind, content in ((b"pclr", palette), (b"cmap", maps)):
        inner += struct.pack(">I4s", len(content) + 8, kind) + content
    header = struct.pack(">I4s", len(inner) + 8, b"jp2h") + inner
    (tmp_path / "p.jp2").write_bytes(whole[:ihdr] + header + whole[ihdr + length :])
    with pytest.raises(DataError, match="it is a palette image; convert it to RGB"):
        read_image(tmp_path / "p.jp2", channels="R,G,B")
