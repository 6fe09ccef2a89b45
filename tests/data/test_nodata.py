"""Values that are no data count in no statistic, do not mix into others, and make a band that has no other missing."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest

from anychannel.data import DataError, dataset_from_arrays, dataset_from_huggingface, load_dataset, read_image
from anychannel.data.files.resize import resize_and_crop, resize_valid
from anychannel.utils.processes import Share
from tests.data.test_geotiff import write_geotiff
from tests.helpers.moments import measure
from tests.helpers.shard_files import write_shard

RNG = np.random.default_rng(0)


def half_tiles(root: Path, value: float, dtype: str, **options) -> tuple[np.ndarray, np.ndarray]:
    """Two independent bands of 2000 to 3000; the left or right half of each tile is no data."""
    pixels = RNG.integers(2000, 3000, (24, 2, 16, 16)).astype(dtype)
    valid = np.ones(pixels.shape, bool)
    valid[::2, :, :, :8] = valid[1::2, :, :, 8:] = False
    pixels[~valid] = value
    for i, one in enumerate(pixels):
        write_geotiff(root / "ab"[i % 2] / f"{i}.tif", one, **options)
    return pixels, valid


@pytest.mark.parametrize(
    ("dtype", "value", "tag", "nodata"),
    [
        ("uint16", 0, 0, "keep"),
        ("uint16", 0, 0, 9),
        ("uint16", 0, None, 0),
        ("float32", np.nan, np.nan, 0),
        ("float32", np.nan, None, -1),
        ("float32", -9999, -9999, "keep"),
    ],
)
def test_they_count_in_no_mean_deviation_or_correlation(tmp_path: Path, dtype: str, value, tag, nodata):
    pixels, valid = half_tiles(tmp_path, value, dtype, nodata=tag)
    data = load_dataset(tmp_path, channels="x,y", nodata=nodata)
    rows = [int(Path(path).stem) for path in data.train.paths]
    for band in range(2):
        inside = pixels[rows, band][valid[rows, band]].astype(float)
        assert data.channels.mean[band] == pytest.approx(inside.mean())
        assert data.channels.std[band] == pytest.approx(inside.std())
    assert data.channels.correlation is not None
    assert abs(data.channels.correlation[0][1]) < 0.1


def test_statistics_equal_numpys_over_the_valid_pixels_of_each_pair():
    images = RNG.normal(30000, 500, (20, 3, 7, 9))
    images[:, 1] += 0.5 * images[:, 0]
    valid = RNG.random(images.shape) < 0.7
    found = measure(np.where(valid, images, 0), valid)
    planes, counts = np.moveaxis(images, 1, 0).reshape(3, -1), np.moveaxis(valid, 1, 0).reshape(3, -1)
    for i in range(3):
        assert found.mean[i] == pytest.approx(planes[i][counts[i]].mean(), rel=1e-12)
        assert found.std[i] == pytest.approx(planes[i][counts[i]].std(), rel=1e-9)
        for j in range(3):
            both = counts[i] & counts[j]
            expected = np.corrcoef(planes[i][both], planes[j][both])[0, 1]
            assert found.correlation[i][j] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("size", [5, 8, 13, 40])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_resizing_does_not_mix_them_into_others(size: int, dtype: str):
    pixels, missing = np.full((2, 20, 24), 200, dtype), np.zeros((2, 20, 24), bool)
    missing[0, :, :9] = missing[1, 3:8] = True
    pixels[missing] = 0
    resized, gone = resize_valid(pixels, size, missing)
    assert gone is not None
    np.testing.assert_allclose(resized[~gone], 200, rtol=1e-6)
    np.testing.assert_allclose(resized[gone], 0)
    whole = RNG.integers(0, 200, (2, 20, 24)).astype(dtype)
    same, none = resize_valid(whole, size, np.zeros(whole.shape, bool))
    np.testing.assert_array_equal(same, resize_and_crop(whole, size))
    assert not none.any()


def test_the_lowest_number_that_marks_them_stays_finite(tmp_path: Path):
    lowest = float(np.finfo(np.float32).min)
    pixels = RNG.normal(size=(1, 20, 20)).astype(np.float32)
    pixels[:, :11] = lowest
    write_geotiff(tmp_path / "a.tif", pixels, nodata=lowest)
    assert np.isfinite(read_image(tmp_path / "a.tif", channels="x", size=7, nodata="keep")).all()


def empty_bands(root: Path, count: int = 24) -> list[Path]:
    """Tiles of two bands; every third has no valid pixel in the second."""
    paths = []
    for i in range(count):
        pixels = RNG.integers(2000, 3000, (2, 8, 8)).astype(np.uint16)
        pixels[1] *= i % 3 > 0
        paths.append(write_geotiff(root / "ab"[i % 2] / f"{i:02d}.tif", pixels, nodata=0))
    return paths


def test_a_band_without_a_valid_pixel_is_missing_in_its_image(tmp_path: Path):
    empty_bands(tmp_path)
    for _ in range(2):  # the second time from the cache
        data = load_dataset(tmp_path, channels="x,y", nodata="keep")
        for split in (data.train, data.val, data.test):
            numbers = np.array([int(Path(path).stem) for path in split.paths])
            present = np.ones((len(split), 2), bool) if split.present is None else split.present
            np.testing.assert_array_equal(present[:, 1], numbers % 3 > 0)
        assert 2400 < data.channels.mean[1] < 2600
    dedicated = data.select("y")
    assert len(dedicated.train) == int(np.asarray(data.train.present)[:, 1].sum())


def test_an_image_without_any_valid_pixel_is_refused_by_name(tmp_path: Path):
    empty_bands(tmp_path)
    write_geotiff(tmp_path / "a" / "void.tif", np.zeros((2, 8, 8), np.uint16), nodata=0)
    with pytest.raises(DataError, match=r"a/void\.tif: all of its values are no data; leave it out"):
        load_dataset(tmp_path, channels="x,y", nodata="keep")


@pytest.mark.parametrize("statistics_images", [None, 4])
def test_streamed_images_lack_such_a_band_too(tmp_path: Path, statistics_images: int | None):
    paths = empty_bands(tmp_path / "tiles")
    for split, rows in {"train": range(12), "val": range(12, 18), "test": range(18, 24)}.items():
        samples = {f"{i:02d}": {"tif": paths[i].read_bytes(), "cls": str(i % 2)} for i in rows}
        write_shard(tmp_path / "shards" / f"{split}-0.tar", samples)
    data = load_dataset(
        f"wds:{tmp_path / 'shards'}", channels="x,y", nodata="keep", statistics_images=statistics_images
    )
    assert data.train.count_patterns() == {(0, 1): 8, (0,): 4}
    seen = 0
    for batch in data.train.batches(seed=0, epoch=0, batch_size=6, share=Share(0, 1)):
        np.testing.assert_array_equal(batch.present[:, 1], (batch.images[:, 1] > 0).flatten(1).any(1).numpy())
        seen += len(batch.labels)
    assert seen == 12
    dedicated = data.select("y").train
    assert len(dedicated) == 8
    for batch in dedicated.batches(seed=0, epoch=0, batch_size=4, share=Share(0, 1)):
        assert (batch.images > 0).all()


def test_rows_and_arrays_lack_such_a_band_too(tmp_path: Path):
    content = [path.read_bytes() for path in empty_bands(tmp_path)]
    table = datasets.Dataset.from_dict({"image": content, "label": [i % 2 for i in range(24)]})
    data = dataset_from_huggingface(table, image="image", channels="x,y", nodata="keep")
    assert sum(part["x"] for part in data.count_patterns().values() if "x" in part) == 8
    images = RNG.normal(size=(24, 2, 6, 6)).astype(np.float32)
    images[::3, 1] = np.nan
    data = dataset_from_arrays(images, np.arange(24) % 2, channels="x,y", nodata=0)
    assert sum(part["x"] for part in data.count_patterns().values() if "x" in part) == 8
    with pytest.raises(ValueError, match="unknown setting 'nodat'"):
        dataset_from_huggingface(table, image="image", channels="x,y", nodat="keep")


def test_nan_is_refused_until_a_number_is_given(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.where(np.eye(6) > 0, np.nan, 3).astype(np.float32))
    for nodata in (None, "keep"):
        with pytest.raises(
            DataError, match="NaN or infinite values; replace them, or give nodata=NUMBER, which replaces"
        ):
            read_image(tmp_path / "a.npy", channels="x", nodata=nodata)
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy", channels="x", nodata=-1)[0], 3 - 4 * np.eye(6))
    np.save(tmp_path / "b.npy", np.full((4, 4), np.inf, np.float32))
    with pytest.raises(DataError, match="NaN or infinite values"):
        read_image(tmp_path / "b.npy", channels="x", nodata=-1)
