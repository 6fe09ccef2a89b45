"""Runs beside data that are not, or no longer, those that they were trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from anychannel.data import load_dataset, read_image
from anychannel.evaluation import compare, load_evaluation
from anychannel.results.run import RunError
from anychannel.runs import RunConfig, evaluate_run, train_run
from anychannel.runs.data import describe_data, find_changes
from tests.helpers.image_files import write_class_folders, write_image
from tests.helpers.shard_files import write_shards

COUNTS = {"train": 6, "val": 2, "test": 4}


def add_class(root: Path, name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    write_class_folders(root, COUNTS, [name], lambda _: random.integers(0, 256, (3, 12, 12)).astype(np.uint8))


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
def test_a_run_goes_on_with_the_data_that_it_began_with(change, message, tmp_path):
    photos, home = make_photos(tmp_path / "photos"), tmp_path / "run"

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(configure(photos), home, cost=False, on_epoch=interrupt)
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


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("own")
    return train_run(configure(make_photos(root / "photos")), root / "run", cost=False)


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (False, r"other classes than the model: a, c \(2\); the model has a, b, c \(3\)"),
        (True, r"other are not the run's own \(classes a, b, c \(3\) -> a, c \(2\); .*evaluate them without --save"),
    ],
)
def test_data_of_other_classes_are_neither_evaluated_nor_saved(save, message, run, tmp_path):
    kept = (run / "evaluation" / "test.json").read_bytes()
    with pytest.raises(ValueError, match=message):
        evaluate_run(run, data=str(make_photos(tmp_path / "other", "ac")), save=save)
    assert (run / "evaluation" / "test.json").read_bytes() == kept


def test_other_data_are_evaluated_by_their_channels_names_and_not_saved_as_the_runs(run, tmp_path):
    kept = (run / "evaluation" / "test.json").read_bytes()
    other = str(make_photos(tmp_path / "other", seed=20))
    assert set(evaluate_run(run, data=other).subsets) == set(load_evaluation(run).subsets)
    with pytest.raises(RunError, match=r"other are not the run's own \(as many images, but other .*without --save"):
        evaluate_run(run, data=other, save=True)
    assert (run / "evaluation" / "test.json").read_bytes() == kept


@pytest.mark.parametrize("told", ["channels.txt", "data_channels"])
def test_other_data_in_another_order_are_told_by_their_own_names(told, run, tmp_path):
    other, turned = make_photos(tmp_path / "other", seed=20), make_photos(tmp_path / "turned", seed=20)
    for path in turned.rglob("*.png"):
        write_image(path, read_image(path, channels="R,G,B")[::-1])
    if told == "channels.txt":
        (turned / "channels.txt").write_text("B\nG\nR\n")
    names = {"data_channels": ["B", "G", "R"]} if told == "data_channels" else {}
    expected, found = evaluate_run(run, data=str(other)), evaluate_run(run, data=str(turned), **names)
    for key, probabilities in expected.probabilities.items():
        np.testing.assert_allclose(found.probabilities[key], probabilities, atol=1e-5)


def test_other_data_may_hold_some_of_the_channels(run, tmp_path):
    whole, red = make_photos(tmp_path / "whole", seed=20), make_photos(tmp_path / "red", seed=20)
    for path in red.rglob("*.png"):
        write_image(path, read_image(path, channels="R,G,B")[:1])
    (red / "channels.txt").write_text("R\n")
    found = evaluate_run(run, data=str(red))
    assert set(found.subsets) == {"R"}
    expected = evaluate_run(run, data=str(whole)).probabilities["R"]
    np.testing.assert_allclose(found.probabilities["R"], expected, atol=1e-5)
    with pytest.raises(RunError, match="data_channels names the channels of other data; give data too"):
        evaluate_run(run, data_channels="R")


def test_a_copy_of_the_runs_data_may_replace_its_evaluation(run, tmp_path):
    copied = shutil.copytree(run.parent / "photos", tmp_path / "copy")
    before = load_evaluation(run)
    evaluate_run(run, data=str(copied), save=True, subsets=["R,G,B"])
    after = load_evaluation(run)
    assert set(after.subsets) == {"R,G,B"}
    assert after.paths == before.paths
    before.save(run)


def test_runs_are_compared_on_the_same_images_and_not_on_others_of_the_same_names(run, tmp_path):
    whole = load_evaluation(run)
    values = configure(run.parent / "photos").to_dict()
    small = {"size": 8, "only_channels": ["G", "R"], "stem": "static", "training": values["training"]}
    alone = train_run(RunConfig.from_dict(values | small), tmp_path / "alone", cost=False)
    assert compare(whole, load_evaluation(alone), subset="G").n == len(whole.labels)
    others = evaluate_run(run, data=str(make_photos(tmp_path / "other", seed=20)))
    assert others.paths == whole.paths
    with pytest.raises(ValueError, match=r"12 of 12 differ in content, the first being test/a/0\.png; evaluate"):
        compare(whole, others)


def test_what_an_image_was_read_from_does_not_depend_on_its_size_or_its_channels():
    data = load_dataset("bands:3", classes=2)
    lacking = load_dataset("bands:3", classes=2, size=12, partial=0.5)
    assert list(data.test.digests) == list(lacking.test.digests)
    assert len(set(data.test.digests)) == len(data.test)
    names = dict(zip(lacking.test.paths, lacking.test.digests, strict=True))
    chosen = lacking.select("band_2,band_1").test
    assert 0 < len(chosen) < len(lacking.test)
    assert list(chosen.digests) == [names[path] for path in chosen.paths]
