"""What the data tests share: a cache of their own, and small data sets of real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.image_files import write_image, write_lists


@pytest.fixture(autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for each test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ANYCHANNEL_CACHE", str(folder))
    return folder


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """List files over 12 different RGB PNGs of 6 x 6 pixels in two classes: 6 train, 2 val, 4 test."""
    root = tmp_path / "photos"
    rng = np.random.default_rng(0)
    entries: dict[str, list[tuple[str, int]]] = {}
    for split, count in (("train", 6), ("val", 2), ("test", 4)):
        entries[split] = [(f"images/{split}_{i}.png", i % 2) for i in range(count)]
        for path, _ in entries[split]:
            write_image(root / path, rng.integers(0, 256, (3, 6, 6), dtype=np.uint8))
    write_lists(root, entries)
    return root
