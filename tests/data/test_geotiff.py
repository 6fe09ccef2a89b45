"""GeoTIFFs are read by rasterio; their bands' names, scale and values without data are heeded, never guessed."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

from anychannel.data import DataError, load_dataset, read_image
from tests.helpers.image_files import write_lists

RNG = np.random.default_rng(0)
NAMES = ("B02", "B03", "B04", "B08")
SENTINEL = "sentinel2:B02,B03,B04,B08"


def write_geotiff(
    path: Path,
    pixels: np.ndarray,
    names: tuple[str | None, ...] = (),
    scaling: tuple[float, float] | None = None,
    mask: np.ndarray | None = None,
    **options,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    options = {"crs": "EPSG:32632", "transform": from_origin(5e5, 6e6, 10, 10)} | options
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", count=count, height=height, width=width, dtype=pixels.dtype, **options
        ) as file,
    ):
        file.write(pixels)
        for band, name in enumerate(names, start=1):
            if name is not None:
                file.set_band_description(band, name)
        if scaling is not None:
            file.scales, file.offsets = (scaling[0],) * count, (scaling[1],) * count
        if mask is not None:
            file.write_mask(mask)
    return path


def random_pixels(channels: int = 4, dtype: str = "uint16") -> np.ndarray:
    return RNG.integers(1, 200, (channels, 6, 5)).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("channels", [1, 4, 13])
def test_pixels_come_back_bit_for_bit(tmp_path: Path, channels: int, interleave: str, dtype: str):
    pixels = random_pixels(channels, dtype)
    path = write_geotiff(tmp_path / "a.tif", pixels, interleave=interleave, compress="deflate")
    read = read_image(path, channels=[f"band {i}" for i in range(channels)])
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, pixels)


def test_four_bands_of_eight_bit_are_channels_though_gdal_calls_the_fourth_alpha(tmp_path: Path):
    pixels = random_pixels(dtype="uint8")
    pixels[3, 0, 0] = 0
    path = write_geotiff(tmp_path / "a.tif", pixels, photometric="RGB", alpha="yes")
    np.testing.assert_array_equal(read_image(path, channels="naip"), pixels)


@pytest.mark.parametrize(
    ("names", "channels"),
    [
        (NAMES, SENTINEL),
        (("B2", "b3", "Band 4", "B8"), SENTINEL),
        (("B2, central wavelength 490 nm", "B3 (560 nm)", "red (B04)", "near infrared"), SENTINEL),
        (("blue", "green", "red", "NIR"), SENTINEL),
        (("blue", None, "red", None), SENTINEL),
        (("Band 1", "Band 2", "Band 3", "Band 4"), SENTINEL),
        (("Red", "Green", "Blue", "NIR"), "naip"),
        (("Blue", "Green", "Red", "NIR"), "B,G,R,NIR"),
        (("B", "G", "R", "Near-infrared"), "blue,green,red,nir"),
        (("Band 2 - Blue", "Band 3 - Green", "Band 4 - Red", "Band 8 - NIR"), SENTINEL),
        (("Red edge 1", "rededge075", "nir narrow", "SWIR_1"), "sentinel2:B05,B06,B8A,B11"),
        (("Coastal aerosol", "nir", "swir16", "swir22"), "landsat8:B1,B5,B6,B7"),
        ((), "w,x,y,z"),
    ],
)
def test_names_in_the_file_that_agree_are_accepted(tmp_path: Path, names, channels: str):
    pixels = random_pixels()
    np.testing.assert_array_equal(
        read_image(write_geotiff(tmp_path / "a.tif", pixels, names), channels=channels), pixels
    )


@pytest.mark.parametrize(
    ("name", "channel"),
    [
        ("Red edge 1", "sentinel2:B04"),
        ("Red", "sentinel2:B05"),
        ("red edge", "sentinel2:B05"),
        ("nir narrow", "sentinel2:B08"),
        ("narrow near infrared", "sentinel2:B08"),
        ("NIR", "sentinel2:B8A"),
        ("nir08", "sentinel2:B08"),
        ("B8 A", "sentinel2:B08"),
        ("B8A", "sentinel2:B08"),
        ("SWIR 2", "sentinel2:B11"),
        ("SWIR", "sentinel2:B11"),
        ("Blue-green", "B"),
        ("B4", "R"),
    ],
)
def test_part_of_a_name_is_another_name(tmp_path: Path, name: str, channel: str):
    path = write_geotiff(tmp_path / "a.tif", random_pixels(1), (name,))
    with pytest.raises(DataError, match=f"it names its channels otherwise: the file says {name}; given was"):
        read_image(path, channels=channel)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("B03 (blue)", "B02 (green)", None, None), "in another order"),
        (
            ("B04", "B03", "B02", "B08"),
            "its channels are in another order: the file says B04, B03, B02, B08; given was B02, B03, B04, B08; name",
        ),
        (("red", None, None, None), r"another order: the file says red, \(unnamed\), \(unnamed\), \(unnamed\); given"),
        (("B02", "B03", "B04", "B8A"), "it names its channels otherwise: the file says B02, B03, B04, B8A; given was"),
        (("B11", "B12", "B05", "B06"), "otherwise: .*; give the file's names, or check_names=False if yours mean"),
        (("Band 2", "Band 1", "Band 3", "Band 4"), "names its channels otherwise|in another order"),
    ],
)
def test_names_in_the_file_that_contradict_are_refused_with_both_orders(tmp_path: Path, names, message: str):
    path = write_geotiff(tmp_path / "a.tif", random_pixels(), names)
    with pytest.raises(DataError, match=message):
        read_image(path, channels=SENTINEL)
    assert read_image(path, channels=SENTINEL, check_names=False).shape == (4, 6, 5)


def make_tiles(root: Path, **options) -> Path:
    entries: dict[str, list[tuple[str, int]]] = {}
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        entries[split] = [(f"{split}_{i}.tif", i % 2) for i in range(count)]
        for path, _ in entries[split]:
            write_geotiff(root / path, random_pixels(), NAMES, **options)
    write_lists(root, entries)
    return root


def test_a_data_set_takes_its_names_from_its_files_and_checks_each(tmp_path: Path):
    root = make_tiles(tmp_path / "tiles")
    assert load_dataset(root).channels.names == NAMES
    assert load_dataset(root, channels=SENTINEL).channels.wavelengths_nm == (492.7, 559.8, 664.6, 832.8)
    write_geotiff(root / "val_1.tif", random_pixels(), NAMES[::-1])
    message = (
        r"val_1\.tif \(val\.txt line 2\): its channels are in another order: the file says B08, B04, B03, B02; giv"
    )
    for channels in (None, SENTINEL):
        with pytest.raises(DataError, match=message):
            load_dataset(root, channels=channels)


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ("sentinel2:B03,B02,B04,B08", "another order: the file says B02, B03, B04, B08; given was B03, B02, B04, B08"),
        ("R,G,B,NIR", "it names its channels otherwise: the file says B02, B03, B04, B08; given was R, G, B, NIR"),
    ],
)
@pytest.mark.parametrize("kept", [True, False], ids=["index kept", "index lost"])
def test_images_in_the_cache_do_not_let_other_names_pass(tmp_path: Path, cache_dir: Path, channels, message, kept):
    root = make_tiles(tmp_path / "tiles")
    load_dataset(root, channels=channels, check_names=False)
    (index,) = cache_dir.glob("images/*/index.json")
    if not kept:
        index.unlink()
    for _ in range(2):
        with pytest.raises(DataError, match=rf"8 problems .*\n  - train_0\.tif \(train\.txt line 1\): .*{message}"):
            load_dataset(root, channels=channels)
    assert load_dataset(root, channels=SENTINEL).channels.names == NAMES
    assert load_dataset(root, channels="w,x,y,z", check_names=False).channels.names == ("w", "x", "y", "z")
    assert list(cache_dir.glob("images/*/index.json")) == [index], "names shape no pixel"


def test_of_files_that_lack_channels_the_names_are_kept_too(tmp_path: Path):
    root = make_tiles(tmp_path / "tiles")
    for path in root.glob("*.tif"):
        write_geotiff(path, random_pixels())
    write_geotiff(root / "train_3.tif", random_pixels(2), ("B08", "B04"))
    lines = (root / "train.txt").read_text()
    (root / "train.txt").write_text(lines.replace("train_3.tif 1", "train_3.tif 1 B08,B04"))
    pixels = load_dataset(root, channels="x,y,B04,B08").train.images
    (root / "train.txt").write_text(lines.replace("train_3.tif 1", "train_3.tif 1 B04,B08"))
    with pytest.raises(
        DataError, match=r"1 problem .*\n  - train_3\.tif .*: the file says B08, B04; given was B04, B08"
    ):
        load_dataset(root, channels="x,y,B08,B04")
    again = load_dataset(root, channels="x,y,B08,B04", check_names=False).train
    assert again.images.filename == pixels.filename


def test_values_come_as_stored_or_scaled_and_files_of_another_scale_are_refused(tmp_path: Path):
    root = make_tiles(tmp_path / "tiles", scaling=(0.0001, 0.0))
    stored = load_dataset(root).train.images
    assert stored.dtype == np.uint16
    physical = load_dataset(root, scaled=True).train.images
    np.testing.assert_allclose(physical, stored * 0.0001, rtol=1e-6)
    write_geotiff(root / "test_0.tif", random_pixels(), NAMES, scaling=(0.0001, -0.1))
    message = r"test_0\.tif .*: it declares scale 0\.0001 and offset -0\.1, but train_0\.tif scale 0\.0001 and offset 0"
    with pytest.raises(DataError, match=message):
        load_dataset(root)
    assert load_dataset(root, scaled=True).test.images.dtype == np.float32
    write_geotiff(root / "test_0.tif", random_pixels(), NAMES)
    with pytest.raises(DataError, match=r"test_0\.tif .*: it declares no scale and offset; leave scaled out, or decl"):
        load_dataset(root, scaled=True)


def test_values_marked_as_no_data_are_refused_kept_or_replaced(tmp_path: Path):
    pixels = random_pixels()
    pixels[1, :2, 0] = 0
    path = write_geotiff(tmp_path / "a.tif", pixels, nodata=0)
    with pytest.raises(DataError, match="2 of its 120 values are marked as no data; give nodata='keep' to take them"):
        read_image(path, channels=SENTINEL)
    np.testing.assert_array_equal(read_image(path, channels=SENTINEL, nodata="keep"), pixels)
    filled = read_image(path, channels=SENTINEL, nodata=7)
    np.testing.assert_array_equal(filled, np.where(pixels == 0, 7, pixels))
    with pytest.raises(DataError, match="it holds uint16 values, and nodata=-1 is none; give one that is"):
        read_image(path, channels=SENTINEL, nodata=-1)
    with pytest.raises(ValueError, match="nodata is 'keep', a number, or None to refuse such values, got 'zero'"):
        read_image(path, channels=SENTINEL, nodata="zero")


def test_a_declared_number_that_no_value_has_changes_nothing(tmp_path: Path):
    pixels = random_pixels()
    path = write_geotiff(tmp_path / "a.tif", pixels, nodata=65535)
    np.testing.assert_array_equal(read_image(path, channels=SENTINEL), pixels)


def test_nan_may_mark_no_data_and_a_mask_too(tmp_path: Path):
    pixels = random_pixels(dtype="float32")
    pixels[0, 0, 0] = np.nan
    path = write_geotiff(tmp_path / "a.tif", pixels, nodata=np.nan)
    assert read_image(path, channels=SENTINEL, nodata=-1)[0, 0, 0] == -1
    mask = np.full((6, 5), 255, np.uint8)
    mask[0, 0] = 0
    path = write_geotiff(tmp_path / "b.tif", random_pixels(), mask=mask)
    with pytest.raises(DataError, match="4 of its 120 values are marked as no data"):
        read_image(path, channels=SENTINEL)


def test_the_cache_tells_settings_apart(tmp_path: Path):
    root = make_tiles(tmp_path / "tiles", nodata=0)
    pixels = random_pixels()
    pixels[0, 0, 0] = 0
    write_geotiff(root / "train_0.tif", pixels, NAMES, nodata=0)
    assert load_dataset(root, nodata="keep").train.images[0, 0, 0, 0] == 0
    assert load_dataset(root, nodata=9).train.images[0, 0, 0, 0] == 9
    with pytest.raises(DataError, match="1 of its 120 values are marked as no data"):
        load_dataset(root)


def test_a_tiff_with_gdal_s_tags_but_no_place_on_earth_is_read_quietly(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        path = write_geotiff(tmp_path / "a.tif", random_pixels(), NAMES, crs=None, transform=None)
    assert read_image(path, channels=SENTINEL).shape == (4, 6, 5)


def test_a_truncated_file_is_refused(tmp_path: Path):
    path = write_geotiff(tmp_path / "a.tif", random_pixels())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="it is truncated or damaged"):
        read_image(path, channels=SENTINEL)


def test_without_rasterio_the_extra_is_named(tmp_path: Path, monkeypatch):
    path = write_geotiff(tmp_path / "a.tif", random_pixels())
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(
        ImportError, match=r"a GeoTIFF needs .*rasterio.* not installed; pip install 'anychannel\[geo\]'"
    ):
        read_image(path, channels=SENTINEL)
