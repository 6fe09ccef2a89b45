"""A new source is one file and one line: ``docs/add-a-source.md`` as a test."""

from __future__ import annotations

import numpy as np
import pytest

from anychannel import TrainingSettings, create_model, evaluate, fit, list_datasets, load_dataset
from anychannel.data import DataError
from anychannel.data.sources.registry import SOURCES, Kind
from anychannel.data.sources.source import SPLITS, Request, Sample, Source
from tests.helpers.image_files import write_image


def open_stripes(argument: str | None, request: Request, *, height: int = 12) -> Source:
    """``stripes:40``: 40 images a split, dark on the left or on the right; every third has no infrared channel."""
    random = np.random.default_rng(request.seed)
    splits: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        for i in range(int(argument or 20)):
            pixels = random.integers(120, 255, (2, height, 12), dtype=np.uint8)
            pixels[:, :, 6 * (i % 2) :][:, :, :6] //= 3
            path = f"{split}/{i}"
            if i % 3:
                splits[split].append(Sample(path, i % 2, pixels))
            else:
                splits[split].append(Sample(path, i % 2, pixels[:1], channels=("red",)))
    return Source("stripes", splits, classes=("left", "right"), channels=("red", "infrared"))


@pytest.fixture(autouse=True)
def stripes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "stripes", Kind(open_stripes, embedded=True))


def test_a_source_of_twenty_lines_is_trained_from():
    assert list_datasets() == ["bands", "stripes"]
    data = load_dataset("stripes:40", height=14, seed=3)
    assert data.channels.names == ("red", "infrared")
    assert data.train.images.shape == (40, 2, 14, 12)
    assert data.count_patterns()["train"] == {"red,infrared": 26, "red": 14}
    model = create_model("compact_k7", channels=data.channels, num_classes=2, stem="completion", classes=data.classes)
    settings = TrainingSettings(epochs=3, batch_size=8, sampler="split", device="cpu", crop_padding=0, flip=False)
    fit(model, data.train, data.val, settings)
    assert evaluate(model, data).subsets["red,infrared"]["accuracy"] > 0.9


def test_it_gets_the_checks_the_selection_and_the_resizing_of_every_source():
    data = load_dataset("stripes:9", size=8, classes=["right", "left"])
    assert data.train.images.shape[2:] == (8, 8)
    assert data.train.labels.tolist() == [1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert data.fingerprint != load_dataset("stripes:9", size=8).fingerprint
    with pytest.raises(TypeError, match=r"unknown option 'width' of stripes:.*; its options are height"):
        load_dataset("stripes", width=3)
    with pytest.raises(ValueError, match="height must be a whole number, got 'tall'"):
        load_dataset("stripes", height="tall")


def test_its_images_may_be_files_which_are_decoded_once(tmp_path, monkeypatch, cache_dir):
    def open_files(argument: str, request: Request, *, names: str = "ab") -> Source:
        splits = {}
        for number, split in enumerate(SPLITS):
            files = [tmp_path / f"{split}_{i}.png" for i in range(4)]
            for i, file in enumerate(files):
                write_image(file, np.full((3, 6, 6), 50 * number + 10 * i, np.uint8))
            splits[split] = [Sample(file.name, names[i % 2], file) for i, file in enumerate(files)]
        return Source(argument, splits)

    monkeypatch.setitem(SOURCES, "mine", Kind(open_files))
    data = load_dataset("mine:own")
    assert data.classes == ("a", "b")
    assert data.channels.names == ("R", "G", "B")
    assert isinstance(data.train.images, np.memmap)
    relabelled = load_dataset("mine:own", names="xy")
    assert relabelled.classes == ("x", "y")
    assert relabelled.train.images.filename == data.train.images.filename
    (tmp_path / "test_1.png").write_bytes(b"")
    monkeypatch.setattr("tests.data.test_add_a_source.write_image", lambda *_: None)
    with pytest.raises(DataError, match=r"1 problem in the data at own:\n  - test_1\.png: the file is empty"):
        load_dataset("mine:own")


@pytest.mark.parametrize("size", [9.0, np.int64(9), np.float32(9)])
def test_whole_numbers_of_any_type_are_sizes_and_seeds(size):
    data = load_dataset("stripes:6", size=size, seed=size, height=size, classes=np.int64(2))
    assert data.val.images.shape[2:] == (9, 9)
    assert data.fingerprint == load_dataset("stripes:6", size=9, seed=9, height=9).fingerprint
