"""Runs beside data that are not, or no longer, those that they were trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from anychannel.data import load_dataset
from anychannel.runs import RunConfig, execute, train_run
from anychannel.runs.folder import RunError
from anychannel.runs.own_data import describe_data, find_changes
from tests.data.files import write_image
from tests.data.shard_files import write_shards

COUNTS = {"train": 6, "val": 2, "test": 4}


def add_class(root: Path, name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    for split, count in COUNTS.items():
        for i in range(count):
            pixels = random.integers(0, 256, (3, 12, 12)).astype(np.uint8)
            write_image(root / split / name / f"{i}.png", pixels)


def make_photos(root: Path, classes: str = "abc", seed: int = 0) -> Path:
    for place, name in enumerate(classes):
        add_class(root, name, seed + place)
    return root


def configure(photos: Path) -> RunConfig:
    training = {"epochs": 1, "batch_size": 8, "device": "cpu", "crop_padding": 1}
    model = {"model": "compact_k7", "model_options": {"width": 16}}
    return RunConfig.from_dict({"data": str(photos), "channels": "R,G,B", **model, "training": training})


def change_content(photos: Path) -> None:
    add_class(photos, "a", seed=7)


def add_images(photos: Path) -> None:
    write_image(photos / "train" / "a" / "more.png", np.full((3, 12, 12), 7, np.uint8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_content, "as many images, but other ones, or other labels"),
        (add_images, "18 -> 19 train images"),
        (
            lambda photos: add_class(photos, "d", seed=9),
            r"classes a, b, c \(3\) -> a, b, c, d \(4\); 18 -> 24 train images; 6 -> 8 val images; 12 -> 16 test",
        ),
    ],
)
def test_a_run_goes_on_with_the_data_that_it_began_with(change, message, tmp_path, monkeypatch):
    photos, home = make_photos(tmp_path / "photos"), tmp_path / "run"
    monkeypatch.setattr(execute, "fit", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train_run(configure(photos), home, cost=False)
    monkeypatch.undo()
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    kept = shutil.copytree(photos, tmp_path / "kept")
    change(photos)
    with pytest.raises(RunError, match=rf"the data in .*photos are not those that the run in .*began with \({message}"):
        train_run(configure(photos), home, resume=True, cost=False)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    shutil.rmtree(photos)
    shutil.copytree(kept, photos)
    train_run(configure(photos), home, resume=True, cost=False)
    assert json.loads((home / "run.json").read_text())["status"] == "finished"


def test_a_copy_of_streamed_shards_is_the_same_data_and_more_images_are_not(tmp_path):
    write_shards(tmp_path / "shards", {"train": [6, 6], "val": [4], "test": [4]})
    data = load_dataset(f"wds:{tmp_path / 'shards'}", channels="R,G,B")
    copied = load_dataset(f"wds:{shutil.copytree(tmp_path / 'shards', tmp_path / 'copy')}", channels="R,G,B")
    assert copied.fingerprint != data.fingerprint
    assert find_changes(describe_data(data), copied) == []
    write_shards(tmp_path / "more", {"train": [6, 8], "val": [4], "test": [4]})
    more = load_dataset(f"wds:{tmp_path / 'more'}", channels="R,G,B")
    assert find_changes(describe_data(data), more) == ["12 -> 14 train images"]
