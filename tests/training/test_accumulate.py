"""Gradients of several batches make one step, as one of a batch that is so many times as large."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from anychannel.nn.channel_sampling import create_sampler
from anychannel.training import TrainingSettings, fit
from anychannel.training.micro_batches import cut_rows
from anychannel.training.step_parts import assign_channels
from anychannel.utils.processes import Share
from tests.helpers.torch_data import Pairs
from tests.helpers.training import SETTINGS, draw_present, lacking, make_model, make_split, plain_model, states_equal

LARGE = replace(SETTINGS, epochs=2, batch_size=24, sampler="split", crop_padding=2, flip=True, jitter=0.1, lr=0.05)
SMALL = replace(LARGE, batch_size=6, accumulate=4)


@pytest.mark.parametrize(
    ("settings", "data"),
    [
        ({}, make_split(60, 1)),
        ({"sampler": "sandwich", "distill": 0.5}, make_split(60, 1)),
        ({"sampler_options": {"paired": True}, "distill": 0.5}, make_split(60, 1)),
        ({"sampler": "dropout", "sampler_options": {"parts": 3, "drop": 0.5}}, lacking(60, 1, np.nan)),
        ({"optimizer": "adamw", "lr": 1e-3, "schedule": "cosine", "ema": 0.9, "warmup_epochs": 1.0}, make_split(60, 1)),
    ],
    ids=["split", "sandwich", "paired", "lacking", "adamw"],
)
def test_four_batches_step_as_one_of_four_times_the_size(settings, data):
    large, small = plain_model(), plain_model()
    rows = [
        fit(model, data, make_split(16, 2), replace(chosen, **settings)).rows
        for model, chosen in ((large, LARGE), (small, SMALL))
    ]
    for one, other in zip(large.parameters(), small.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    assert [row["lr"] for row in rows[0]] == [row["lr"] for row in rows[1]]
    assert rows[0][-1]["train_loss"] == pytest.approx(rows[1][-1]["train_loss"])
    assert not torch.equal(next(small.parameters()), next(plain_model().parameters()))


def test_batches_of_a_loader_make_a_step_and_the_last_may_be_smaller():
    small, large = plain_model(), plain_model()
    options = replace(LARGE, crop_padding=0, flip=False, jitter=0.0, batch_size=128)
    fit(small, DataLoader(Pairs(50), 6), make_split(16, 2), replace(options, accumulate=4))
    fit(large, DataLoader(Pairs(50), 24), make_split(16, 2), options)
    for one, other in zip(large.parameters(), small.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_a_step_that_is_not_finite_is_skipped_whole():
    data = make_split(48, 1)
    images = data.images.astype(np.float32)
    images[5, :, 0, 0] = np.inf
    model = plain_model().float()
    settings = replace(SMALL, epochs=1, crop_padding=0, flip=False, jitter=0.0)
    with pytest.warns(UserWarning, match="1 step skipped"):
        result = fit(model, replace(data, images=images), make_split(16, 2), settings)
    assert result.skipped_steps == 1
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_network_with_batch_norms_trains_in_pieces_and_repeats():
    states = []
    for _ in range(2):
        model = make_model("per_size", norm="statistics")
        result = fit(model, make_split(96, 1), make_split(32, 2), replace(SMALL, epochs=1))
        states.append(model.state_dict())
    assert states_equal(*states)
    assert result.rows[0]["train_loss"] < 2


@pytest.mark.parametrize("sampler", ["full", "split", "sandwich", "dropout", "uniform_size"])
@pytest.mark.parametrize("partial", [False, True])
def test_pieces_hold_every_row_once_and_all_rows_of_an_image_together(sampler, partial):
    present = draw_present(24, 3) if partial else None
    for count in (1, 2):
        parts = create_sampler(sampler, 3)(24, torch.Generator().manual_seed(0))
        for index in range(count):
            own = Share(index, count)
            whole = assign_channels(parts, present, own)
            pieces = cut_rows(whole, parts, 24, 5, own)
            assert len(pieces) == 5
            held = [set(piece.images.tolist()) for piece in pieces]
            assert sum(map(len, held)) == len(set.union(*held))
            rows = sorted(row for piece in pieces for row in rows_of(piece))
            assert rows == sorted(rows_of(whole))


def rows_of(rows):
    return [
        (image, part.subset, complete)
        for part in rows.parts
        for image, complete in zip(
            rows.images[part.start : part.stop].tolist(), rows.complete[part.start : part.stop].tolist(), strict=True
        )
    ]


def test_a_checkpoint_of_a_version_without_the_setting_resumes(tmp_path):
    from anychannel.training.state import check_checkpoint, describe_settings

    now = describe_settings(TrainingSettings(), 48)
    before = {name: value for name, value in now.items() if name != "accumulate"}
    check_checkpoint(tmp_path, {"format": 2, "settings": before}, now)
    other = describe_settings(TrainingSettings(accumulate=2), 48)
    with pytest.raises(ValueError, match="accumulate: 1 -> 2"):
        check_checkpoint(tmp_path, {"format": 2, "settings": before}, other)


def test_a_number_of_batches_is_at_least_one():
    with pytest.raises(ValueError, match="accumulate must be between 1 and"):
        TrainingSettings(accumulate=0)
