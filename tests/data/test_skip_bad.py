"""``skip_bad`` leaves out images that cannot be used, names them, and refuses to leave out most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anychannel.data import DataError, load_dataset, read_image
from anychannel.utils.processes import Share
from tests.helpers.image_files import write_image
from tests.helpers.shard_files import encode, write_shard

RNG = np.random.default_rng(0)


def add_images(root: Path, count: int, channels: int = 3, start: int = 0) -> None:
    for label in "ab":
        for i in range(start, start + count):
            write_image(root / label / f"{i}.png", RNG.integers(0, 256, (channels, 8, 8), dtype=np.uint8))


def test_images_that_cannot_be_used_are_left_out_and_named(tmp_path: Path):
    add_images(tmp_path, 10)
    (tmp_path / "a" / "3.png").write_bytes(b"no image")
    (tmp_path / "a" / "4.png").write_bytes(b"")
    write_image(tmp_path / "b" / "5.png", np.zeros((1, 8, 8), np.uint8))
    write_image(tmp_path / "b" / "6.png", np.zeros((3, 8, 9), np.uint8))
    with pytest.raises(DataError, match=r"^4 problems .*[\s\S]*give skip_bad=True to leave them out$"):
        load_dataset(tmp_path)
    for _ in range(3):  # decoded, then from the cache
        with pytest.warns(UserWarning, match=r"has 4 images that cannot be used, left out by skip_bad: a/4\.png"):
            data = load_dataset(tmp_path, skip_bad=True)
        assert sorted(line.split(":")[0] for line in data.skipped) == ["a/3.png", "a/4.png", "b/5.png", "b/6.png"]
        kept = [path for split in (data.train, data.val, data.test) for path in split.paths]
        assert len(kept) == 16
        assert len(data.train.images) == len(data.train.labels) == len(data.train.digests)
        for path, image in zip(data.train.paths, data.train.images, strict=True):
            np.testing.assert_array_equal(image, read_image(tmp_path / path, channels="R,G,B"))
    write_image(tmp_path / "a" / "3.png", RNG.integers(0, 256, (3, 8, 8), dtype=np.uint8))
    with pytest.warns(UserWarning, match="has 3 images that cannot be used"):
        assert len(load_dataset(tmp_path, skip_bad=True).skipped) == 3


def test_most_images_are_never_left_out(tmp_path: Path):
    add_images(tmp_path, 9)
    for path in sorted(tmp_path.rglob("*.png"))[:10]:
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"10 images cannot be used and 8 can, too many to skip[\s\S]*a/0\.png: it is"):
        load_dataset(tmp_path, skip_bad=True)


def test_other_faults_are_still_refused(tmp_path: Path):
    for split in ("train", "val", "test"):
        add_images(tmp_path / split, 3)
    (tmp_path / "test" / "a" / "0.png").write_bytes((tmp_path / "train" / "a" / "0.png").read_bytes())
    with pytest.raises(DataError, match="its content is in two splits"):
        load_dataset(tmp_path, skip_bad=True)


def test_samples_of_shards_are_left_out_too(tmp_path: Path):
    for number, split in enumerate(("train", "val", "test")):
        samples = {}
        for i in range(10):
            pixels = np.full((3, 6, 6), 20 * i + number, np.uint8)
            content = b"no image" if i == 3 else encode(pixels)
            samples[f"{split}{i}"] = {"png": content, "cls": str(i % 2)}
        write_shard(tmp_path / f"{split}-0.tar", samples)
    with pytest.raises(DataError, match="3 problems"):
        load_dataset(f"wds:{tmp_path}")
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"has 3 images that cannot be used, .*train-0\.tar: train3: it is not"):
            data = load_dataset(f"wds:{tmp_path}", skip_bad=True)
        assert [len(split) for split in (data.train, data.val, data.test)] == [9, 9, 9]
        (batch,) = data.train.batches(seed=0, epoch=0, batch_size=9, share=Share(0, 1))
        assert sorted(batch.images[:, 0, 0, 0].tolist()) == [20 * i for i in range(10) if i != 3]
    with pytest.raises(DataError, match="with epoch_images the shards are not read whole, so skip_bad cannot be"):
        load_dataset(f"wds:{tmp_path}", skip_bad=True, epoch_images=6, class_names=["a", "b"])
