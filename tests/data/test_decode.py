"""Files come back as the arrays that were written, and nothing is converted on the way."""

from __future__ import annotations

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageFile

from anychannel.data import DataError, read_image
from anychannel.data.files.axes import orient
from tests.helpers.image_files import smooth, write_image

RNG = np.random.default_rng(0)
NAMES = ("a", "b", "c", "d", "e", "f", "g")
TIFFS = [
    ("tif", 1, np.uint8),
    ("tif", 3, np.uint16),
    ("tif", 5, np.uint8),
    ("tif", 5, np.uint16),
    ("tif", 7, np.float32),
]
EXACT = [
    *((*case, "interleaved") for case in TIFFS),
    *((*case, "planar") for case in TIFFS),
    ("png", 3, np.uint8, ""),
    ("png", 1, np.uint8, ""),
    ("png", 4, np.uint8, ""),
    ("png", 3, np.uint16, ""),
    ("png", 1, np.uint16, ""),
    ("png", 4, np.uint16, ""),
    ("bmp", 3, np.uint8, ""),
]


def random_pixels(channels: int, dtype: type, height: int = 9, width: int = 7) -> np.ndarray:
    if dtype == np.float32:
        return RNG.normal(0, 1000, (channels, height, width)).astype(np.float32)
    return RNG.integers(0, np.iinfo(dtype).max, (channels, height, width), dtype=dtype, endpoint=True)


@pytest.mark.parametrize(("suffix", "channels", "dtype", "layout"), EXACT)
def test_lossless_files_come_back_bit_for_bit(tmp_path: Path, suffix: str, channels: int, dtype: type, layout: str):
    pixels = random_pixels(channels, dtype)
    path = write_image(tmp_path / f"image.{suffix}", pixels, layout)
    read = read_image(path, channels=NAMES[:channels])
    assert read.dtype == dtype
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, pixels)


def test_a_jpeg_comes_back_as_pillow_reads_it(tmp_path: Path):
    path = write_image(tmp_path / "image.jpg", smooth(3, 20, 30), quality=95)
    read = read_image(path, channels="R,G,B")
    np.testing.assert_array_equal(read, np.moveaxis(np.asarray(Image.open(path)), -1, 0))
    assert np.abs(read.astype(int) - smooth(3, 20, 30)).mean() < 3


def test_content_and_not_the_name_decides_how_a_file_is_read(tmp_path: Path):
    pixels = random_pixels(3, np.uint8)
    path = write_image(tmp_path / "image.png", pixels).rename(tmp_path / "image.jpg")
    np.testing.assert_array_equal(read_image(path, channels="R,G,B"), pixels)


def palette(path: Path) -> None:
    Image.fromarray(smooth(3, 8, 8).transpose(1, 2, 0)).convert("P").save(path)


def cmyk(path: Path) -> None:
    Image.new("CMYK", (8, 8)).save(path, format="JPEG")


def bitmap(path: Path) -> None:
    Image.new("1", (8, 8)).save(path)


def four_bits(path: Path) -> None:
    path.write_bytes(FOUR_BIT_PNG)


def transparent_colour(path: Path) -> None:
    Image.new("RGB", (8, 8)).save(path, transparency=(0, 0, 0))


def animation(path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green")]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def grey(path: Path) -> None:
    Image.new("L", (8, 8)).save(path)


def alpha(path: Path) -> None:
    Image.new("RGBA", (8, 8)).save(path)


def zero_bytes(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("no image")


def make_four_bit_png() -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 8, 8, 4, 0, 0, 0, 0)
    rows = zlib.compress(b"\0\x12\x34\x56\x78" * 8)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


FOUR_BIT_PNG = make_four_bit_png()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (palette, "it is a palette image; convert it to RGB"),
        (cmyk, "it is CMYK; convert it to RGB"),
        (bitmap, "it is a black-and-white bitmap; convert"),
        (four_bits, "it holds 4-bit values; convert it to 8 bit"),
        (transparent_colour, "it has a transparent colour; convert it to RGB"),
        (animation, "it is an animation; save one frame of it"),
        (grey, r"it has 1 channel \(greyscale\), but 3 expected \(R, G, B\); replace it, name one channel"),
        (alpha, r"it has 4 channels \(RGB with alpha\), but 3 expected \(R, G, B\); remove the alpha channel, or name"),
        (zero_bytes, r"the file is empty \(zero bytes\); replace or remove it"),
        (text, r"it is not an image in a known format \(\.jpg, .*\.zarr.*\); convert, replace or remove it"),
    ],
)
def test_what_would_need_a_conversion_is_refused_with_the_fix(tmp_path: Path, write, message: str):
    path = tmp_path / "image.png"
    write(path)
    with pytest.raises(DataError, match=f"image.png: {message}"):
        read_image(path, channels="R,G,B")


@pytest.mark.parametrize("order", ["BGRX", "XBGR", "BGXR"])
@pytest.mark.parametrize("fourth", ["varies", 0, 255])
def test_the_fourth_byte_of_a_bmp_is_not_lost(tmp_path: Path, order: str, fourth: str | int):
    path, pixels = tmp_path / "image.bmp", random_pixels(4, np.uint8)
    if fourth != "varies":
        pixels[3] = fourth
    planes = dict(zip("RGBX", pixels[:, ::-1], strict=True))  # BMP stores rows from the bottom
    masks = [0xFF << 8 * order.index(channel) for channel in "RGB"]
    body = np.stack([planes[channel] for channel in order], axis=-1).tobytes()
    header = struct.pack("<IiiHHIIiiII4I", 56, 7, 9, 1, 32, 3, len(body), 0, 0, 0, 0, *masks, 0)
    path.write_bytes(struct.pack("<2sIII", b"BM", 70 + len(body), 0, 70) + header + body)
    if fourth == "varies":
        with pytest.raises(DataError, match="a fourth value that BMP declares as unused; save it as TIFF or PNG"):
            read_image(path, channels="R,G,B")
    else:
        np.testing.assert_array_equal(read_image(path, channels="R,G,B"), pixels[:3])


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere\.png: cannot be read \(No such file or directory\)"):
        read_image(tmp_path / "nowhere.png", channels="R")


@pytest.mark.parametrize("layout", ["planar", "npy"])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (np.int16, -32768),
        (np.int8, -128),
        (np.float16, 0.1),
        (np.uint32, 2**24),
        (np.int32, -(2**24)),
        (np.float64, 0.5),
    ],
)
def test_other_number_types_become_float32_where_no_value_changes(tmp_path: Path, dtype: type, value, layout: str):
    pixels = np.full((2, 5, 5), value, dtype)
    path = tmp_path / ("image.npy" if layout == "npy" else "image.tif")
    if layout == "npy":
        np.save(path, pixels)
    else:
        write_image(path, pixels)
    read = read_image(path, channels="a,b")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read.astype(np.float64), pixels.astype(np.float64))


@pytest.mark.parametrize(("dtype", "value"), [(np.uint32, 2**24 + 1), (np.float64, 0.1), (np.float64, 1e300)])
def test_numbers_that_float32_cannot_hold_are_refused(tmp_path: Path, dtype: type, value):
    path = write_image(tmp_path / "image.tif", np.full((2, 5, 5), value, dtype))
    message = (
        f"it holds {np.dtype(dtype).name} values that float32 cannot hold exactly; convert it to one of uint8, uint16"
    )
    with pytest.raises(DataError, match=message):
        read_image(path, channels="a,b")


def test_an_array_tells_its_channel_axis_by_their_number_or_is_told(tmp_path: Path):
    pixels = random_pixels(3, np.uint16)
    np.save(tmp_path / "first.npy", pixels)
    np.save(tmp_path / "last.npy", np.moveaxis(pixels, 0, -1))
    for name in ("first", "last"):
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.npy", channels="a,b,c"), pixels)
    np.save(tmp_path / "cube.npy", random_pixels(3, np.uint16, 5, 3))
    with pytest.raises(DataError, match="does not say which axis holds its channels; give layout='planar'"):
        read_image(tmp_path / "cube.npy", channels="a,b,c")
    assert read_image(tmp_path / "cube.npy", channels="a,b,c", layout="interleaved").shape == (3, 3, 5)
    np.save(tmp_path / "none.npy", np.zeros((3, 0, 8)))
    with pytest.raises(DataError, match=r"it is an array of shape \(3, 0, 8\); save \(C, H, W\) or \(H, W\)"):
        read_image(tmp_path / "none.npy", channels="a,b,c")
    header = (tmp_path / "first.npy").read_bytes().replace(b"(3, ", b"(3000000000000000, ", 1)
    (tmp_path / "vast.npy").write_bytes(header)
    with pytest.raises(DataError, match=r"vast\.npy: it is truncated or damaged"):
        read_image(tmp_path / "vast.npy", channels="a,b,c")
    np.save(tmp_path / "objects.npy", np.array([{}, {}]), allow_pickle=True)
    with pytest.raises(DataError, match="it holds Python objects; save an array of numbers"):
        read_image(tmp_path / "objects.npy", channels="a")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float):
    pixels = np.zeros((2, 5, 5), np.float32)
    pixels[1, 2, 3] = value
    with pytest.raises(DataError, match="it holds NaN or infinite values; replace them"):
        read_image(write_image(tmp_path / "image.tif", pixels), channels="a,b")


@pytest.mark.parametrize(
    ("suffix", "dtype", "options"),
    [
        ("jpg", np.uint8, {"quality": 95}),
        ("jpg", np.uint8, {"quality": 95, "progressive": True}),
        ("png", np.uint8, {}),
        ("png", np.uint16, {}),
        ("webp", np.uint8, {}),
        ("bmp", np.uint8, {}),
        ("tif", np.uint16, {}),
        ("tif", np.uint16, {"compression": "zlib"}),
        ("tif", np.uint16, {"compression": "lzw", "tile": (16, 16)}),
    ],
)
def test_a_file_cut_anywhere_is_found_or_still_whole(tmp_path: Path, suffix: str, dtype: type, options: dict):
    path = write_image(tmp_path / f"image.{suffix}", random_pixels(3, dtype, 40, 30), **options)
    data, whole = path.read_bytes(), read_image(path, channels="R,G,B")
    found = []
    for length in {*range(1, len(data), max(1, len(data) // 40)), *range(len(data) - 8, len(data))}:
        path.write_bytes(data[:length])
        try:
            read = read_image(path, channels="R,G,B")
        except DataError as error:
            found.append(str(error))
        else:
            assert length > len(data) - 64
            np.testing.assert_array_equal(read, whole)
    assert len(found) >= 40
    unknown = [message for message in found if "not an image in a known format" in message]
    assert len(unknown) <= 1  # of the first byte alone
    assert all("truncated or damaged" in message for message in found if message not in unknown)


def test_a_global_switch_that_hides_truncation_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_image(tmp_path / "image.jpg", smooth(3, 20, 30))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(DataError, match="LOAD_TRUNCATED_IMAGES is set"):
        read_image(path, channels="R,G,B")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(tmp_path: Path, orientation: int):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[274] = orientation
    path = write_image(tmp_path / "image.png", random_pixels(3, np.uint8, 5, 8), exif=exif)
    with Image.open(path) as image:
        expected = np.moveaxis(np.asarray(ImageOps.exif_transpose(image)), -1, 0)
    np.testing.assert_array_equal(read_image(path, channels="R,G,B"), expected)


def test_a_tiff_is_turned_upright_too(tmp_path: Path):
    pixels = random_pixels(2, np.uint16, 5, 8)
    path = write_image(tmp_path / "image.tif", pixels, extratags=[(274, "H", 1, 6, True)])
    np.testing.assert_array_equal(read_image(path, channels="a,b"), np.rot90(pixels, -1, axes=(1, 2)))


def test_an_unknown_orientation_counts_as_upright():
    pixels = random_pixels(2, np.uint8)
    np.testing.assert_array_equal(orient(pixels, 0), pixels)


def test_sixteen_bit_png_keeps_its_low_bits(tmp_path: Path):
    pixels = np.arange(3 * 4 * 4, dtype=np.uint16).reshape(3, 4, 4) + 257
    path = tmp_path / "image.png"
    path.write_bytes(imagecodecs.png_encode(np.moveaxis(pixels, 0, -1).copy()))
    np.testing.assert_array_equal(read_image(path, channels="R,G,B"), pixels)
