"""Mixup and cutmix against timm's, and what they leave alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import timm.data.mixup
import torch
from timm.data.mixup import Mixup
from torch import Tensor

from anychannel.data.batches import mixing
from anychannel.data.batches.mixing import mix_images
from anychannel.utils.processes import Share

LABELS = torch.tensor([0, 2, 1, 1, 0, 2, 2, 0])
COUNT = len(LABELS)


def images(channels: int = 3) -> Tensor:
    return torch.rand(COUNT, channels, 9, 12) * 100


def mix(batch: Tensor, labels: Tensor = LABELS, seed: int = 0, **options) -> tuple[Tensor, Tensor]:
    chosen = {"mixup": 0.0, "cutmix": 0.0, "num_classes": 3} | options
    return mix_images(batch, labels, **chosen, generator=torch.Generator().manual_seed(seed))


class Drawn:
    """Gives NumPy's functions that both implementations call the same numbers."""

    def __init__(self, seed: int):
        source = np.random.default_rng(seed)
        self.proportion, self.coin, self.place = source.beta(1, 1), source.random(), source.random(2)
        self.asked = 0

    def beta(self, *_: float, size=None) -> float:
        return self.proportion

    def random(self) -> float:
        return self.coin

    rand = random

    def integers(self, *bounds: int, size=None) -> int:
        low, high = bounds if len(bounds) == 2 else (0, *bounds)
        self.asked += 1
        return low + int(self.place[(self.asked - 1) % 2] * (high - low))

    randint = integers


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
@pytest.mark.parametrize("seed", range(6))
def test_a_pair_is_mixed_as_timms_mixup_does(options, seed, monkeypatch):
    batch, labels = images()[:2], LABELS[:2]
    with monkeypatch.context() as patch:
        patch.setattr(
            mixing, "np", SimpleNamespace(random=SimpleNamespace(default_rng=lambda _: Drawn(seed)), roll=np.roll)
        )
        mixed, targets = mix(batch, labels, **options)
    numpy = Drawn(seed)
    numpy.rand = iter([0.0, numpy.coin]).__next__  # timm first asks whether to mix at all
    with monkeypatch.context() as patch:
        patch.setattr(timm.data.mixup, "np", SimpleNamespace(random=numpy, sqrt=np.sqrt, clip=np.clip))
        theirs = Mixup(options.get("mixup", 0.0), options.get("cutmix", 0.0), label_smoothing=0.0, num_classes=3)
        expected, shares = theirs(batch.clone(), labels)
    torch.testing.assert_close(mixed, expected)
    torch.testing.assert_close(targets, shares.float())


def test_switched_off_it_returns_the_very_images_and_labels():
    batch = images()
    mixed, targets = mix(batch)
    assert mixed is batch
    assert targets is LABELS


@pytest.mark.parametrize("options", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_each_image_is_mixed_with_the_one_half_a_batch_further_and_the_input_stays(options):
    batch = torch.eye(COUNT)[:, :, None, None].expand(COUNT, COUNT, 10, 10).contiguous()
    before = batch.clone()
    mixed, targets = mix(batch, torch.arange(COUNT), num_classes=COUNT, **options)
    torch.testing.assert_close(mixed.mean((2, 3)), targets)  # each image is its own channel and class
    torch.testing.assert_close(targets.sum(1), torch.ones(COUNT))
    assert all((targets[i] > 0).nonzero()[:, 0].tolist() == sorted({i, (i + 4) % COUNT}) for i in range(COUNT))
    assert torch.equal(batch, before)


def test_the_generator_decides_and_with_both_about_half_of_the_batches_are_cut():
    batch = images()
    assert torch.equal(mix(batch, mixup=0.5, seed=3)[0], mix(batch, mixup=0.5, seed=3)[0])
    assert not torch.equal(mix(batch, mixup=0.5, seed=3)[0], mix(batch, mixup=0.5, seed=4)[0])
    cut = [bool((mix(batch, mixup=1.0, cutmix=1.0, seed=seed)[0] == batch).any()) for seed in range(60)]
    assert 15 < sum(cut) < 45


def test_an_image_whose_partner_lacks_a_channel_stays_as_it_is():
    present = np.ones((COUNT, 3), dtype=bool)
    present[0, 1] = present[4, 1] = False  # partners, which lack the same channel
    present[5, 2] = False  # the partner of image 1
    batch = images()
    batch[torch.from_numpy(~present)] = torch.nan
    mixed, targets = mix(batch, mixup=1.0, present=present)
    assert torch.equal(mixed[1], batch[1])
    assert targets[1].tolist() == [0, 0, 1]
    assert mixed[torch.from_numpy(present)].isfinite().all()
    for row in (0, 2, 3, 4, 5, 6, 7):
        assert not torch.equal(mixed[row][present[row]], batch[row][present[row]])


def test_processes_mix_as_one_process_does_if_they_share_the_batch_evenly():
    batch, present = images(), np.ones((COUNT, 3), dtype=bool)
    present[2, 0] = False
    whole = mix(batch, mixup=1.0, present=present)
    for index in range(2):
        own = Share(index, 2)
        rows = torch.from_numpy(own.rows(COUNT))
        for mine, one in zip(mix(batch[rows], LABELS[rows], mixup=1.0, present=present, share=own), whole, strict=True):
            torch.testing.assert_close(mine, one[rows])
