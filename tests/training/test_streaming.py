"""Training on shards, against training on the same images from a folder of files."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

import anychannel as ac
from anychannel.models import load_model
from anychannel.nn.channel_sampling import create_sampler
from anychannel.training import bn_statistics, fit
from anychannel.training.bn_statistics import choose_passes, recomputed_statistics
from anychannel.utils.processes import Share
from tests.helpers.image_files import write_image, write_lists
from tests.helpers.shard_files import write_shards
from tests.helpers.training import SETTINGS, Killed, states_equal

SIZES = {"train": [30, 20, 46], "val": [16], "test": [16]}
LEARN = replace(SETTINGS, epochs=3, crop_padding=2, flip=True, sampler="split")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same images as shards and as a folder of files."""
    root = tmp_path_factory.mktemp("data")
    made = write_shards(root / "shards", SIZES)
    entries = {split: [(f"{split}{i:04d}.png", int(x)) for i, x in enumerate(made[split][1])] for split in SIZES}
    for split, lines in entries.items():
        for (path, _), image in zip(lines, made[split][0], strict=True):
            write_image(root / "files" / path, image)
    write_lists(root / "files", entries)
    cache = root / "cache"
    return (
        ac.load_dataset(f"wds:{root / 'shards'}", cache_dir=cache, buffer=20),
        ac.load_dataset(root / "files", cache_dir=cache),
    )


def make(data, seed=0, norm="auto"):
    torch.manual_seed(seed)
    options = {"stem": "completion", "model_options": {"width": 16}, "classes": data.classes, "norm": norm}
    return ac.create_model("compact_k7", channels=data.channels, num_classes=4, **options)


def test_shards_give_bitwise_the_weights_that_files_in_their_order_give(both, monkeypatch):
    shards, files = both
    assert shards.channels == files.channels
    streamed = make(shards, norm="shared")
    rows = fit(streamed, shards.train, shards.val, LEARN).rows

    def shard_order(seed, epoch, size):
        found = shards.train.batches(seed=seed, epoch=epoch, batch_size=LEARN.batch_size, share=Share())
        names = [place.rpartition(": ")[2] for batch in found for place in batch.places]
        return np.array([files.train.paths.index(f"{name}.png") for name in names])

    def shard_rows(labels, batches, size, seed):
        return shard_order(seed, 0, len(labels))[: batches * size].reshape(batches, size)

    monkeypatch.setattr("anychannel.data.batches.split.epoch_order", shard_order)
    monkeypatch.setattr(bn_statistics, "stratify", shard_rows)
    filed = make(files, norm="shared")
    expected = fit(filed, files.train, files.val, LEARN).rows
    assert states_equal(streamed.state_dict(), filed.state_dict())
    assert [row["train_loss"] for row in rows] == [row["train_loss"] for row in expected]
    assert [row["val_accuracy"] for row in rows] == [row["val_accuracy"] for row in expected]


def test_statistics_are_recomputed_from_the_streams_own_images(both):
    sampler = create_sampler("split", 3)
    model = make(both[0], norm="statistics")
    states = []
    for data in both:
        count = len(data.train)
        passes = choose_passes(model, data.train, sampler, count, seed=0, batch_size=count, share=Share())
        with recomputed_statistics(model, passes, nullcontext()):
            states.append({name: value.clone() for name, value in model.state_dict().items()})
    streamed, filed = states
    assert any(not torch.equal(filed[name], value) for name, value in model.state_dict().items() if ".entries" in name)
    for name, expected in filed.items():
        torch.testing.assert_close(streamed[name], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps_before", [0, 6, 10])
def test_a_killed_run_on_shards_resumes_to_bitwise_the_same_weights(steps_before, both, tmp_path, monkeypatch):
    data, settings = both[0], replace(LEARN, checkpoint_seconds=0)
    whole, resumed = make(data), make(data)
    fit(whole, data.train, data.val, settings, folder=tmp_path / "whole")
    from anychannel.training import loop

    calls, original = 0, loop.augment

    def augment_until_killed(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls > steps_before:
            raise Killed
        return original(*arguments, **options)

    monkeypatch.setattr(loop, "augment", augment_until_killed)
    with pytest.raises(Killed):
        fit(make(data), data.train, data.val, settings, folder=tmp_path / "killed")
    monkeypatch.undo()
    fit(resumed, data.train, data.val, settings, folder=tmp_path / "killed", resume=True)
    assert states_equal(resumed.state_dict(), whole.state_dict())


def test_it_stops_early_on_what_validation_says(both):
    data = both[0]
    settings = replace(LEARN, epochs=30, patience=1, lr=1e-6)
    result = fit(make(data), data.train, data.val, settings)
    assert result.stopped_early
    assert len(result.rows) < 30


@pytest.mark.parametrize("counted", [True, False])
def test_a_run_on_shards_goes_from_the_command_line_to_the_report(counted, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from anychannel.cli import app

    monkeypatch.setenv("ANYCHANNEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_shards(tmp_path / "shards", SIZES)
    (tmp_path / "shards" / "classes.txt").write_text("a\nb\nc\nd\n")
    command = ["train", "--data", "wds:shards/train-{000..002}.tar", "--model", "compact_k7", "--stem", "completion"]
    for setting in (
        "model_options.width=16",
        "data_options.val=shards/val-*.tar",
        "data_options.test=shards/test-*.tar",
    ):
        command += ["--set", setting]
    command += ["--set", "data_options.class_names=['a', 'b', 'c', 'd']", "--set", "data_options.lanes=2"]
    command += ["--batch-size", "16", "--epochs", "1", "--device", "cpu", "--no-cost", "--out", "run", "--quiet"]
    done = CliRunner().invoke(app, command + ([] if counted else ["--epoch-images", "40"]))
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["num_train"] == (96 if counted else 40)
    assert record["num_val"] == 16
    assert (tmp_path / "run" / "report.html").is_file()
    assert load_model(tmp_path / "run").classes == ("a", "b", "c", "d")
    monkeypatch.chdir("/")
    again = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--channels", "R,G"])
    assert again.exit_code == 0, again.output
    refused = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--split", "train"])
    assert refused.exit_code == 2
    assert "the training images are read from shards as training goes on; evaluate val or test" in refused.output
