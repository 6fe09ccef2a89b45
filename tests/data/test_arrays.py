"""Arrays become a data set under the checks that files get."""

from __future__ import annotations

import numpy as np
import pytest

from anychannel import TrainingSettings, create_model, dataset_from_arrays, fit
from anychannel.data import SPLITS, DataError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 999, (30, 2, 8, 6), dtype=np.uint16)
LABELS = np.arange(30) % 3
THREE = ["train"] * 20 + ["val"] * 5 + ["test"] * 5


def test_given_splits_keep_images_labels_and_order():
    data = dataset_from_arrays(IMAGES, LABELS, channels="a,b", splits=THREE, classes=["x", "y", "z"])
    assert data.classes == ("x", "y", "z")
    for split, rows in zip(SPLITS, (slice(0, 20), slice(20, 25), slice(25, 30)), strict=True):
        part = getattr(data, split)
        np.testing.assert_array_equal(part.images, IMAGES[rows])
        np.testing.assert_array_equal(part.labels, LABELS[rows])
        assert part.paths == tuple(str(row) for row in range(30)[rows])
        assert not part.images.flags.writeable
    np.testing.assert_allclose(data.channels.mean, IMAGES[:20].mean(axis=(0, 2, 3)))


def test_without_splits_each_class_is_split_by_the_seed():
    data = dataset_from_arrays(IMAGES, LABELS, channels="a,b")
    assert {split: np.bincount(getattr(data, split).labels).tolist() for split in SPLITS} == {
        "train": [8, 8, 8],
        "val": [1, 1, 1],
        "test": [1, 1, 1],
    }
    again, other = (dataset_from_arrays(IMAGES, LABELS, channels="a,b", seed=seed) for seed in (0, 1))
    assert data.fingerprint == again.fingerprint != other.fingerprint


def test_labels_may_be_names():
    data = dataset_from_arrays(IMAGES, np.array(["dog", "cat", "owl"])[LABELS], channels="a,b", splits=THREE)
    assert data.classes == ("cat", "dog", "owl")
    assert data.val.labels.tolist() == [2, 1, 0, 2, 1]


def test_a_memory_map_is_read_like_an_array(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    data = dataset_from_arrays(mapped, LABELS, channels="a,b")
    assert data.fingerprint == dataset_from_arrays(IMAGES, LABELS, channels="a,b").fingerprint


@pytest.mark.parametrize(
    ("images", "values", "message"),
    [
        (
            np.moveaxis(IMAGES, 1, -1),
            {},
            r"shape \(30, 8, 6, 2\).*\(N, 2, height.*; the channels seem to be last: g",
        ),
        (IMAGES[0], {}, r"shape \(2, 8, 6\), but \(N, 2, height, width\) is expected for the channels a, b"),
        (IMAGES, {"labels": LABELS[:9]}, r"labels have shape \(9,\), but one label for each of the 30 images"),
        (IMAGES, {"labels": LABELS - 1}, "labels go from -1 to 1, but there are 2 classes, from 0"),
        (IMAGES, {"labels": LABELS * 0.5}, "labels are whole numbers from 0 or names of classes, got float64"),
        (IMAGES, {"labels": np.array(["x"] * 30), "classes": ["y"]}, "label 'x' is none of the classes y"),
        (IMAGES, {"classes": ["a", "a", "b"]}, "classes needs two or more names, each once, got a, a, b"),
        (IMAGES, {"labels": LABELS * 0}, "classes needs two or more names, each once, got 0"),
        (IMAGES, {"splits": ["train"] * 30}, "val: this split has no image; train and val both need some"),
        (IMAGES, {"splits": ["training"] * 30}, "splits needs one of train, val, test for each of the 30 images"),
        (IMAGES[[0, *range(29)]], {"splits": THREE[::-1]}, None),
        (
            IMAGES[[29, *range(1, 30)]],
            {"splits": THREE},
            "image 29: its content is in two splits .* and train as image 0",
        ),
        (IMAGES + 0.1, {}, "image 0: it holds float64 values that float32 cannot hold exactly"),
        (np.where(IMAGES[3, 0, 0, 0] == IMAGES, np.nan, IMAGES).astype(np.float32), {}, "holds NaN or infinite values"),
        (IMAGES[:6], {"labels": np.array([0, 0, 0, 1, 1, 1]) * [1, 1, 1, 1, 1, 2]}, "class '1' has 2 images, too few"),
    ],
)
def test_what_does_not_fit_is_refused(images: np.ndarray, values: dict, message: str | None):
    arguments = {"labels": LABELS} | values
    if message is None:
        with pytest.warns(UserWarning, match=r"the same picture under two classes: 0 \(0\) and 1 \(1\); keep it under"):
            assert len(dataset_from_arrays(images, channels="a,b", **arguments).train) == 20
        return
    with pytest.raises(DataError, match=message):
        dataset_from_arrays(images, channels="a,b", **arguments)


def test_a_network_trains_on_arrays():
    data = dataset_from_arrays(IMAGES, LABELS, channels="a,b")
    model = create_model("compact_k7", channels=data.channels, num_classes=3, stem="completion")
    result = fit(model, data.train, data.val, TrainingSettings(epochs=1, batch_size=8, sampler="dropout", device="cpu"))
    assert np.isfinite(result.rows[0]["train_loss"])
