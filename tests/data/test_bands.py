"""The embedded bands: deterministic, no scan in two splits, every band informative and none sufficient."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from anychannel.channels import ChannelError
from anychannel.data import SPLITS, ImageDataset, Split, list_datasets, load_dataset
from anychannel.data.sources import bands as source
from anychannel.data.sources.bands import scans
from tests.helpers.quick import COPIES


@pytest.fixture(autouse=True, scope="module")
def _all_copies():
    """The data set as users have it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "COPIES", COPIES)
        yield


@pytest.fixture(scope="module")
def bands() -> ImageDataset:
    return load_dataset("bands")


def test_it_is_listed():
    assert list_datasets() == ["bands"]


def test_four_bands_with_wavelengths_are_the_default(bands: ImageDataset):
    assert bands.channels.names == ("band_1", "band_2", "band_3", "band_4")
    assert bands.channels.wavelengths_nm == (450.0, 1033.3, 1616.7, 2200.0)
    assert bands.classes == tuple("0123456789")
    assert bands.train.images.shape == (5032, 4, 24, 24)
    assert bands.val.images.shape == (540, 4, 24, 24)
    assert bands.test.images.shape == (538, 4, 24, 24)
    assert bands.train.images.dtype == np.uint8
    assert bands.train.labels.dtype == np.int64


@pytest.mark.parametrize("count", [1, 3, 9])
def test_any_number_of_bands_can_be_had(count: int):
    data = load_dataset(f"bands:{count}")
    assert data.name == f"bands:{count}"
    assert data.val.images.shape == (540, count, 24, 24)
    assert len(set(data.channels.wavelengths_nm)) == count
    assert all(std > 5 for std in data.channels.std)


@pytest.mark.parametrize("count", ["0", "65", "x", "", "-1", "2.5"])
def test_a_number_of_bands_that_does_not_exist_is_refused(count: str):
    with pytest.raises(
        ValueError, match=f"bands:{count} is not a data set; the number of bands is 1 to 64, as in bands:8"
    ):
        load_dataset(f"bands:{count}")


def test_it_follows_from_the_seed(bands: ImageDataset):
    again, other = (load_dataset("bands:4", seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(again.train.images, bands.train.images)
    assert again.fingerprint == bands.fingerprint != other.fingerprint
    assert again.test.paths == bands.test.paths != other.test.paths


def test_no_scan_is_in_two_splits_and_all_are_used(bands: ImageDataset):
    sources = [{path.split("/")[0] for path in getattr(bands, split).paths} for split in SPLITS]
    assert sum(map(len, sources)) == len(set.union(*sources)) == 1797
    _, digits = scans()
    for split in SPLITS:
        part = getattr(bands, split)
        assert [digits[int(path[6:10])] for path in part.paths] == part.labels.tolist()
        assert len(set(part.paths)) == len(part)


def test_renderings_of_one_scan_differ_and_so_do_the_bands(bands: ImageDataset):
    images = bands.train.images[:4].reshape(16, -1).astype(float)
    correlation = np.corrcoef(images)
    assert correlation[~np.eye(16, dtype=bool)].max() < 0.95


def test_statistics_tell_the_bands_apart(bands: ImageDataset):
    pixels = np.moveaxis(bands.train.images, 1, 0).reshape(4, -1)
    np.testing.assert_allclose(bands.channels.mean, pixels.mean(1))
    np.testing.assert_allclose(bands.channels.std, pixels.std(1))
    assert np.ptp(bands.channels.mean) > 20


def test_every_band_is_informative_and_none_suffices(bands: ImageDataset):
    """Chance is 10 %. A linear reader of half-size images is weak: the bounds are far below a network's accuracy."""

    def read(part: Split, channels: list[int]) -> np.ndarray:
        images = part.images[:, channels].astype(np.float32) / 255
        return images.reshape(len(part), len(channels), 12, 2, 12, 2).mean((3, 5)).reshape(len(part), -1)

    def accuracy(*channels: int) -> float:
        model = RidgeClassifier(alpha=10).fit(read(bands.train, [*channels]), bands.train.labels)
        return float(model.score(read(bands.test, [*channels]), bands.test.labels))

    singles = [accuracy(band) for band in range(4)]
    together = accuracy(0, 1, 2, 3)
    assert min(singles) > 0.3
    assert max(singles) < accuracy(0, 1) < accuracy(0, 1, 2) < together
    assert together > max(singles) + 0.15


def test_it_can_be_resized_cut_to_some_classes_and_renamed():
    data = load_dataset("bands", channels="a,b", size=16, classes=["7", "3"])
    assert data.channels.names == ("a", "b")
    assert data.classes == ("7", "3")
    assert data.train.images.shape[1:] == (2, 16, 16)
    whole = load_dataset("bands:2")
    expected = [path for path, label in zip(whole.test.paths, whole.test.labels, strict=True) if label in (3, 7)]
    assert list(data.test.paths) == expected
    assert set(data.test.labels.tolist()) == {0, 1}


def test_as_many_names_as_bands_are_needed():
    with pytest.raises(ChannelError, match="bands:3 has 3 channels, but 2 names are given: a, b"):
        load_dataset("bands:3", channels="a,b")


def test_what_applies_to_folders_only_is_refused():
    with pytest.raises(
        ValueError, match=r"layout, form, nodata, .* are about reading files, but 'bands' is embedded; leave"
    ):
        load_dataset("bands", layout="planar")


def test_four_bands_are_rendered_in_seconds():
    scans()
    started = time.process_time()
    load_dataset("bands:4", seed=3)
    assert time.process_time() - started < 3
