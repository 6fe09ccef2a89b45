"""Statistics of the training split against NumPy's on the whole array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anychannel.data import load_dataset
from anychannel.data.prepare import statistics
from tests.helpers.image_files import write_image, write_lists
from tests.helpers.moments import measure

RNG = np.random.default_rng(0)


def mixed(dtype: type, count: int = 50) -> np.ndarray:
    """Correlated channels far from zero."""
    base = RNG.normal(size=(count, 1, 8, 9))
    values = 30000 + 500 * np.concatenate(
        [base, 0.7 * base + RNG.normal(size=base.shape), -base, RNG.normal(size=base.shape)], 1
    )
    return (values / 300 if dtype == np.uint8 else values).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("block", [1, 7 * 4 * 8 * 9, 10**9])
def test_they_equal_numpys_whatever_the_block(dtype: type, block: int, monkeypatch: pytest.MonkeyPatch):
    images = mixed(dtype)
    monkeypatch.setattr(statistics, "BLOCK_VALUES", block)
    found = measure(images)
    pixels = np.moveaxis(images, 1, 0).reshape(4, -1).astype(np.float64)
    np.testing.assert_allclose(found.mean, pixels.mean(1), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std(1), rtol=1e-10)
    np.testing.assert_allclose(found.correlation, np.corrcoef(pixels), rtol=0, atol=1e-10)


def test_only_the_training_split_counts(lists: Path):
    data = load_dataset(lists)
    pixels = np.moveaxis(np.asarray(data.train.images), 1, 0).reshape(3, -1)
    np.testing.assert_allclose(data.channels.mean, pixels.mean(1))
    np.testing.assert_allclose(data.channels.std, pixels.std(1))
    np.testing.assert_allclose(data.channels.correlation, np.corrcoef(pixels))


def test_a_constant_channel_is_named_and_gets_standard_deviation_one(tmp_path: Path):
    entries: dict[str, list[tuple[str, int]]] = {}
    for split in ("train", "val", "test"):
        entries[split] = [(f"{split}_{i}.png", i) for i in range(2)]
        for path, _ in entries[split]:
            pixels = RNG.integers(0, 256, (3, 6, 6), dtype=np.uint8)
            pixels[1] = 7
            write_image(tmp_path / path, pixels)
    write_lists(tmp_path, entries)
    for _ in range(2):
        with pytest.warns(UserWarning, match="channel 'G' has the same value in every training pixel") as caught:
            data = load_dataset(tmp_path)
        assert Path(caught[0].filename) == Path(__file__)
    assert data.channels.mean[1] == 7
    assert data.channels.std[1] == 1
    assert data.channels.correlation is not None
    assert [row[1] for row in data.channels.correlation] == [0, 1, 0]
