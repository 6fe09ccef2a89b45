"""Shards shared by real processes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import anychannel as ac
from anychannel.training import fit
from anychannel.utils.processes import share
from tests.helpers.shard_files import encode, quadrants, write_shard, write_shards
from tests.helpers.training import UNEVEN, assert_close

SIZES = {"train": [13, 8, 27], "val": [9], "test": [4]}
SETTINGS = replace(UNEVEN, batch_size=12, sampler="split")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_shards(root / "shards", SIZES)
    return root


def load(root, **options):
    return ac.load_dataset(f"wds:{root / 'shards'}", cache_dir=root / "cache", **options)


def keys_of_an_epoch(root):
    stream = load(root, lanes=6).train
    found = stream.batches(seed=0, epoch=0, batch_size=12, share=share())
    return [[place.rpartition(": ")[2] for place in batch.places] for batch in found]


def trained_on_shards(root, held=None):
    data = load(root, lanes=6, channels="R,G,B", held=held)
    torch.manual_seed(0)
    model = {"stem": "completion", "model_options": {"width": 16}}
    network = ac.create_model("compact_k7", channels=data.channels, num_classes=4, **model)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    rows = fit(network.double(), data.train, data.val, SETTINGS).rows
    figures = [{key: value for key, value in row.items() if "second" not in key} for row in rows]
    after = network.state_dict()
    return after, figures, [key for key, value in before.items() if torch.equal(after[key].to(value.dtype), value)]


@pytest.mark.parametrize("team", ["pair", "trio"])
def test_processes_see_every_sample_once_in_as_many_batches_each(team, shards, request):
    load(shards)
    told = request.getfixturevalue(team).run(keys_of_an_epoch, shards)
    assert {len(batches) for batches in told} == {4}
    seen = [key for batches in told for batch in batches for key in batch]
    assert sorted(seen) == [f"train{i:04d}" for i in range(48)]


@pytest.mark.parametrize("team", ["pair", "trio"])
def test_processes_end_with_the_weights_that_one_ends_with(team, shards, request):
    one = trained_on_shards(shards)
    assert_close(request.getfixturevalue(team).run(trained_on_shards, shards), one)


def test_processes_agree_on_which_channels_a_step_shows_where_samples_lack_some(tmp_path, pair):
    for split, count in (("train", 48), ("val", 9), ("test", 4)):
        images, labels = quadrants(count, len(split))
        samples = {}
        for i in range(count):
            held = ("R,G,B", "G", "B,R")[i % 3]
            order = ["RGB".index(name) for name in held.split(",")]
            samples[f"{i:03d}"] = {"npy": encode(images[i][order], "npy"), "cls": str(labels[i]), "txt": held}
        write_shard(tmp_path / "shards" / f"{split}-0.tar", samples)
    one = trained_on_shards(tmp_path, held="txt")
    assert_close(pair.run(trained_on_shards, tmp_path, "txt"), one)
