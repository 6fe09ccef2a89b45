"""TIFF's many ways to hold channels all give (C, H, W)."""

from __future__ import annotations

import struct
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.errors import NotGeoreferencedWarning

from anychannel.data import DataError, read_image
from anychannel.data.errors import ImageError
from anychannel.data.files import tiff as tiff_module
from anychannel.data.files.read import ReadSettings, read

NAMES = ("a", "b", "c", "d", "e")
PIXELS = np.random.default_rng(0).integers(0, 60000, (5, 12, 11), dtype=np.uint16)
LAST = np.ascontiguousarray(np.moveaxis(PIXELS, 0, -1))

WAYS = {
    "planar samples": (PIXELS, {"planarconfig": "separate", "photometric": "minisblack"}),
    "interleaved samples": (LAST, {"planarconfig": "contig", "photometric": "minisblack"}),
    "pages, nothing said": (PIXELS, {}),
    "pages, no metadata": (PIXELS, {"metadata": None}),
    "channels last in pages, nothing said": (LAST, {}),
    "named axes": (PIXELS, {"metadata": {"axes": "CYX"}}),
    "named axes, channels last": (LAST, {"metadata": {"axes": "YXC"}}),
    "OME": (PIXELS, {"ome": True, "metadata": {"axes": "CYX"}}),
    "ImageJ": (PIXELS, {"imagej": True, "metadata": {"axes": "CYX"}}),
    "stack in depth": (PIXELS, {"metadata": {"axes": "ZYX"}}),
    "big-endian": (PIXELS, {"byteorder": ">"}),
    "BigTIFF": (PIXELS, {"bigtiff": True}),
    "tiles, compressed": (
        PIXELS,
        {"tile": (16, 16), "compression": "zlib", "planarconfig": "separate", "photometric": "minisblack"},
    ),
    "predictor": (
        LAST,
        {"compression": "zlib", "predictor": True, "planarconfig": "contig", "photometric": "minisblack"},
    ),
}


def write(path: Path, *images: tuple[np.ndarray, dict], **options) -> Path:
    with tifffile.TiffWriter(path, **options) as writer:
        for pixels, settings in images:
            writer.write(pixels, **settings)
    return path


def description_of(path: Path) -> str:
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages.first.description


@pytest.mark.parametrize("options", [{"ome": True, "metadata": {"axes": "CYX"}}, {}])
def test_a_file_that_declares_planes_that_it_does_not_hold_is_refused(tmp_path: Path, options: dict):
    whole, part = tmp_path / "whole.tif", tmp_path / "part.tif"
    tifffile.imwrite(whole, PIXELS, photometric="minisblack", **options)
    tifffile.imwrite(part, PIXELS[:2], photometric="minisblack", description=description_of(whole), metadata=None)
    message = r"its metadata declare an image of 5 x 12 x 11, 660 values, but its pages hold \d+; write it again"
    with pytest.raises(DataError, match=message):
        read_image(part, channels=NAMES)


def test_pixels_that_go_on_after_the_only_page_are_read(tmp_path: Path):
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, PIXELS, imagej=True, truncate=True, metadata={"axes": "CYX"})
    np.testing.assert_array_equal(read_image(path, channels=NAMES), PIXELS)


def test_ome_metadata_that_are_no_xml_are_told_as_damage(tmp_path: Path):
    path = tmp_path / "image.ome.tif"
    tifffile.imwrite(path, PIXELS, photometric="minisblack", ome=True, metadata={"axes": "CYX"})
    text = description_of(path).replace('Name="', 'Name="B&', 1)
    tifffile.imwrite(path, PIXELS, photometric="minisblack", description=text, metadata=None)
    with pytest.raises(DataError, match=r"image\.ome\.tif: it is truncated or damaged \("):
        read_image(path, channels=NAMES)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_store_channels_gives_the_same_array(tmp_path: Path, way: str):
    pixels, options = WAYS[way]
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, pixels, **options)
    read = read_image(path, channels=NAMES)
    assert read.dtype == np.dtype(np.uint16)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, PIXELS)


def test_where_both_axes_could_be_channels_the_layout_is_asked_for_and_obeyed(tmp_path: Path):
    pixels = PIXELS[:, :, :5]
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, pixels, metadata=None)
    message = "it is an array of 5 x 12 x 5 that does not say which axis holds its channels; give layout='planar'"
    with pytest.raises(DataError, match=message):
        read_image(path, channels=NAMES)
    np.testing.assert_array_equal(read_image(path, channels=NAMES, layout="planar"), pixels)
    expected = np.moveaxis(pixels, -1, 0)
    np.testing.assert_array_equal(read_image(path, channels=NAMES, layout="interleaved"), expected)


def test_an_unknown_layout_is_refused_with_the_valid_ones(tmp_path: Path):
    with pytest.raises(ValueError, match=r"layout is 'planar' or 'interleaved', or None .*, got 'chw'"):
        read_image(tmp_path / "image.tif", channels=NAMES, layout="chw")


def test_a_stack_of_another_number_of_channels_is_refused_with_both_numbers(tmp_path: Path):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, PIXELS)
    with pytest.raises(DataError, match="array of 5 x 12 x 11, no axis of which has the 3 channels expected; name"):
        read_image(path, channels="a,b,c")
    tifffile.imwrite(path, PIXELS, planarconfig="separate", photometric="minisblack")
    with pytest.raises(DataError, match=r"it has 5 channels, but 3 expected \(a, b, c\); name the files' channels"):
        read_image(path, channels="a,b,c")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            [(PIXELS[0], {}), (PIXELS[0, :5, :5], {})],
            r"it holds 2 images \(12 x 11 and 5 x 5\); keep the one that you want",
        ),
        (
            [(np.stack([PIXELS, PIXELS]), {"photometric": "minisblack", "metadata": {"axes": "ZCYX"}})],
            "it has axes ZCYX of lengths .2, 5, 12, 11., more than channels, height and width; save one image",
        ),
        (
            [(PIXELS[0].astype(np.uint8), {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)})],
            "it is a palette image; convert it to RGB",
        ),
        ([(LAST[..., :4], {"photometric": "separated"})], "it is CMYK; convert it to RGB"),
        ([(PIXELS[0], {"photometric": "miniswhite"})], "it is greyscale stored inverted"),
    ],
)
def test_files_that_are_no_single_array_of_channels_are_refused(tmp_path: Path, images: list, message: str):
    path = write(tmp_path / "image.tif", *images)
    with pytest.raises(DataError, match=message):
        read_image(path, channels="a")


AS_STORED = "as stored"
PHOTOMETRIC = {
    "MINISBLACK": AS_STORED,
    "RGB": AS_STORED,
    "YCBCR": "it is YCbCr without JPEG compression; convert it to RGB",
    "PALETTE": "it is a palette image; convert it to RGB",
    "SEPARATED": AS_STORED,  # three inks; four are CMYK
    "CIELAB": "it is CIELAB; convert it to RGB",
    "ICCLAB": "it is CIELAB; convert it to RGB",
    "ITULAB": "it is CIELAB; convert it to RGB",
    "MINISWHITE": "it is greyscale stored inverted",
    "MASK": "it is a transparency mask",
    "CFA": "it is a raw sensor mosaic; demosaic it",
    "LOGL": "it is logarithmic luminance",
    "LOGLUV": "it is logarithmic luminance",
    "LINEAR_RAW": "it is a camera's raw image; develop it",
    "DEPTH_MAP": "it is a depth map",
    "SEMANTIC_MASK": "it is a mask of a camera's raw image",
    "99": "its photometric interpretation 99 is unknown; convert it to RGB",
}


@pytest.mark.parametrize("name", [*tifffile.PHOTOMETRIC.__members__, "99"])
@pytest.mark.parametrize("extra", [{}, {"compression": "zlib"}, {"planarconfig": "separate"}], ids=str)
def test_every_photometric_interpretation_is_read_as_stored_or_refused(tmp_path: Path, name: str, extra: dict):
    path, pixels = tmp_path / "image.tif", np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    stored = np.moveaxis(pixels, -1, 0)
    written = stored if "planarconfig" in extra else pixels
    tifffile.imwrite(path, written, photometric="rgb", metadata=None, **extra)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages.first.tags[262].overwrite(int(name) if name.isdecimal() else tifffile.PHOTOMETRIC[name])
    if PHOTOMETRIC[name] == AS_STORED:
        np.testing.assert_array_equal(read_image(path, channels="R,G,B"), stored)
        return
    with pytest.raises(DataError, match=PHOTOMETRIC[name]):
        read_image(path, channels="R,G,B")


@pytest.mark.parametrize("stored", ["YCBCR", "RGB"])
def test_jpeg_in_a_tiff_comes_back_as_rgb(tmp_path: Path, stored: str):
    """The writer converts RGB to the colour space that JPEG stores."""
    path, red = tmp_path / "image.tif", np.full((16, 16, 3), (220, 30, 10), np.uint8)
    tifffile.imwrite(path, red, photometric="rgb", compression="jpeg", compressionargs={"outcolorspace": stored})
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages.first.photometric.name == stored
    np.testing.assert_allclose(read_image(path, channels="R,G,B"), np.moveaxis(red, -1, 0), atol=3)


def test_smaller_copies_of_the_image_in_the_same_file_are_passed_over(tmp_path: Path):
    small = {"subfiletype": 1, "planarconfig": "separate", "photometric": "minisblack"}
    large = {"planarconfig": "separate", "photometric": "minisblack"}
    path = write(tmp_path / "image.tif", (PIXELS, large), (PIXELS[:, ::2, ::2], small))
    np.testing.assert_array_equal(read_image(path, channels=NAMES), PIXELS)


def test_pages_lost_at_the_end_of_a_stack_are_missed(tmp_path: Path):
    """One channel expected and one page left: only the broken chain of pages tells."""
    buffer = BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for page in PIXELS:
            writer.write(page, metadata=None, contiguous=False)
    with tifffile.TiffFile(BytesIO(buffer.getvalue())) as tiff:
        second = tiff.pages[1].offset
    path = tmp_path / "image.tif"
    path.write_bytes(buffer.getvalue()[:second])
    with pytest.raises(DataError, match=r"truncated or damaged \(pages are missing after page 1\)"):
        read_image(path, channels="a")


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize(("pages", "source", "target"), [(1, 0, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1), (200, 199, 100)])
def test_pages_that_go_in_a_circle_are_refused(tmp_path: Path, pages: int, source: int, target: int, bigtiff: bool):
    path = tmp_path / "image.tif"
    write(path, *[(PIXELS[0], {"metadata": None, "contiguous": False})] * pages, bigtiff=bigtiff)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        offsets = [page.offset for page in tiff.pages]
    count, pointer, entry = ("<Q", "<Q", 20) if bigtiff else ("<H", "<I", 12)
    (entries,) = struct.unpack_from(count, data, offsets[source])
    struct.pack_into(pointer, data, offsets[source] + struct.calcsize(count) + entries * entry, offsets[target])
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"truncated or damaged \(page {source + 2} is an earlier page again\)"):
        read_image(path, channels="a")


def test_a_file_of_very_many_pages_is_refused(tmp_path: Path):
    path = write(tmp_path / "image.tif", *[(PIXELS[0, :1, :1], {"metadata": None, "contiguous": False})] * 4097)
    with pytest.raises(DataError, match="it holds more than 4,096 pages; keep the image that you want"):
        read_image(path, channels="a")


@pytest.mark.parametrize("way", ["predictor", "tiles, compressed"])
def test_tags_that_were_overwritten_are_reported_as_damage_of_the_file(way: str):
    """tifffile trusts a file's tags, and raises many kinds of errors for wrong ones."""
    buffer = BytesIO()
    pixels, options = WAYS[way]
    tifffile.imwrite(buffer, pixels, **options)
    whole, refused = buffer.getvalue(), 0
    for place in range(8, 264):
        data = bytearray(whole)
        data[place] = 0
        with tiff_module.quiet():
            try:
                read(bytes(data), ReadSettings(NAMES))
            except ImageError:
                refused += 1
    assert refused


@pytest.mark.parametrize("function", ["check_complete", "is_geotiff", "read_ome_xml", "Decoded"])
def test_a_bug_of_our_own_is_not_reported_as_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str):
    def broken(*_: object, **__: object) -> None:
        raise TypeError("a bug")

    path = tmp_path / "image.ome.tif"
    tifffile.imwrite(path, PIXELS, photometric="minisblack", ome=True, metadata={"axes": "CYX"})
    monkeypatch.setattr(tiff_module, function, broken)
    with pytest.raises(TypeError, match="a bug"):
        read_image(path, channels=NAMES)


@pytest.mark.parametrize("compression", ["jpeg", "deflate", "lzw", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("tiled", [False, True])
def test_compressions_that_gdal_writes_are_read(tmp_path: Path, compression: str, tiled: bool):
    """JPEG's tables are beside its parts, and the last parts are padded or shorter."""
    path, pixels = tmp_path / "image.tif", np.random.default_rng(0).integers(90, 110, (3, 70, 90)).astype(np.uint8)
    options = {"photometric": "ycbcr"} if compression == "jpeg" else {}
    blocks = {"tiled": True, "blockxsize": 64, "blockysize": 64} if tiled else {}
    options |= {"width": 90, "height": 70, "count": 3, "dtype": "uint8", "interleave": "pixel", **blocks}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", compress=compression, **options) as file:
            file.write(pixels)
    with tifffile.TiffFile(path) as tiff:
        assert not tiff_module.is_geotiff(tiff.pages.first), "rasterio would read it"
    np.testing.assert_allclose(read_image(path, channels="R,G,B"), pixels, atol=30 * (compression == "jpeg"))


def test_webp_in_tiff_is_read(tmp_path: Path):
    pixels = np.full((48, 32, 3), (200, 90, 40), np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", pixels, photometric="rgb", compression="webp")
    np.testing.assert_allclose(read_image(tmp_path / "image.tif", channels="R,G,B").mean((1, 2)), (200, 90, 40), atol=3)
