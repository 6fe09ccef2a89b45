"""After training, each subset's batch norm statistics are those of the network that is kept."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from anychannel.channels import ChannelSet
from anychannel.data import Split
from anychannel.models import create_model, load_model
from anychannel.nn.subset_batchnorm import NORMS, SubsetBatchNorm
from anychannel.training import TrainingSettings, fit
from anychannel.training.bn_statistics import recompute_bn_statistics
from tests.reference.models import calibrated_statistics

RGB = ChannelSet(("R", "G", "B"), mean=(120.0,) * 3, std=(60.0,) * 3)
SETTINGS = TrainingSettings(
    epochs=2, batch_size=16, lr=0.05, crop_padding=0, flip=False, device="cpu", precision="fp32"
)


def make(norm):
    torch.manual_seed(0)
    return create_model("compact_k7", channels=RGB, num_classes=4, norm=norm, model_options={"width": 16})


def split(count, present=None):
    random = np.random.default_rng(count)
    images = random.integers(0, 256, (count, 3, 8, 8)).astype(np.uint8)
    if present is not None:
        images = np.where(present[:, :, None, None], images, 255).astype(np.uint8)
    return Split(images, random.integers(0, 4, count), [f"{i}.png" for i in range(count)], present=present)


def statistics(model, entry):
    banks = [module for module in model.modules() if isinstance(module, SubsetBatchNorm)]
    return [(bank.entries[entry].running_mean, bank.entries[entry].running_var) for bank in banks]


@pytest.mark.parametrize("norm", ["statistics", "subset"])
def test_every_subset_ends_with_the_literal_twins_statistics(norm, tmp_path):
    train = split(16)  # one batch, so that its order makes no difference
    model = make(norm)
    fit(model, train, split(12), SETTINGS, folder=tmp_path)
    for entry, channels, positions in (("1", "G", [1]), ("0_2", "R,B", [0, 2])):
        images = torch.from_numpy(train.images[:, positions])
        expected = calibrated_statistics(copy.deepcopy(model), [images], channels)
        for (mean, variance), (twins_mean, twins_variance) in zip(statistics(model, entry), expected, strict=True):
            torch.testing.assert_close(mean, twins_mean, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(variance, twins_variance, rtol=1e-3, atol=1e-4)
    saved = load_model(tmp_path)
    batch = torch.from_numpy(train.images[:4, [1]])
    assert torch.equal(saved(batch, channels="G"), model(batch, channels="G"))


@pytest.mark.parametrize("worse", [True, False])
def test_new_statistics_are_kept_unless_validation_does_worse_with_them(worse, tmp_path, monkeypatch):
    """One class to guess: new statistics that make every answer wrong, or the right ones."""

    running = {}

    def shift(model, train, **options):
        running.update(copy.deepcopy(model.state_dict()))
        recompute_bn_statistics(model, train, **options)
        for module in model.modules():
            if worse and isinstance(module, SubsetBatchNorm):
                for entry in module.entries.values():
                    entry.running_var.fill_(torch.nan)
        return True

    monkeypatch.setattr("anychannel.training.loop.recompute_bn_statistics", shift)
    train, val = split(64), split(12)
    train.labels[:], val.labels[:] = 2, 2
    model = make("statistics")
    result = fit(model, train, val, replace(SETTINGS, epochs=3), folder=tmp_path)
    assert result.rows[-1]["val_reduced_accuracy"] == 1
    assert result.settled is not worse
    assert all(value.isfinite().all() for value in model.state_dict().values())
    saved = load_model(tmp_path)
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, running[name]) for name, value in model.state_dict().items()) is worse


def test_only_norms_with_statistics_for_each_subset_are_settled():
    for norm in NORMS:
        model = make(norm)
        before = copy.deepcopy(model.state_dict())
        settled = recompute_bn_statistics(model, split(20), seed=0, batch_size=16)
        assert settled == (norm in ("statistics", "subset"))
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert bool(changed) == settled
        assert all(".entries." in name for name in changed)


def test_images_that_lack_a_channel_do_not_count_for_it():
    present = np.ones((30, 3), dtype=bool)
    present[:20, 1] = False
    present[1:, 2] = False
    model, whole = make("statistics"), make("statistics")
    before = copy.deepcopy(model.state_dict())
    train = split(30, present)
    recompute_bn_statistics(model, train, seed=0, batch_size=32)
    only = Split(train.images[20:], train.labels[20:], train.paths[20:])
    recompute_bn_statistics(whole, only, seed=0, batch_size=32)
    for mine, theirs in zip(statistics(model, "1"), statistics(whole, "1"), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    # one image alone shows B, so that its running statistics stay
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before if ".entries.2." in name)
