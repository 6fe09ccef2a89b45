"""Training on images that lack channels: what is shown, and that nothing else is read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from anychannel.data import Split
from anychannel.nn.channel_sampling import SAMPLERS, create_sampler
from anychannel.nn.stems import STEMS
from anychannel.nn.subset_batchnorm import NORMS
from anychannel.training import fit
from anychannel.training.step_parts import assign_channels
from anychannel.training.validation import assign_reduced, validate
from anychannel.utils.processes import Share
from tests.helpers.training import (
    CHANNELS,
    SETTINGS,
    Killed,
    draw_present,
    lacking,
    make_model,
    make_split,
    states_equal,
)
from tests.reference.patterns import shown_by_image

CHANGING = replace(SETTINGS, epochs=1, batch_size=15, crop_padding=2, flip=True, jitter=0.1)
PARTS = {"dropout": {"parts": 3}, "uniform_size": {"parts": 4}, "split": {"ranges": 2}}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_a_step_shows_what_the_sampler_says_and_the_images_have(sampler, count, seed):
    parts = create_sampler(sampler, 4, **PARTS.get(sampler, {}))(13, torch.Generator().manual_seed(seed))
    present = draw_present(13, seed, 4)
    batch = torch.arange(13)
    found = []
    for share in (Share(index, count) for index in range(count)):
        plan = assign_channels(parts, present, share)
        images = batch[share.rows(13)][plan.images]
        assert [part.start for part in plan.parts] == [0, *(part.stop for part in plan.parts)][:-1]
        assert [part.subset for part in plan.parts] == [
            p.subset for p in assign_channels(parts, present, Share()).parts
        ]
        assert len({part.subset for part in plan.parts}) == len(plan.parts)
        assert plan.complete.tolist() == present[images].all(axis=1).tolist()
        found += [(image, part.subset) for part in plan.parts for image in images[part.start : part.stop].tolist()]
    assert sorted(found) == sorted(shown_by_image(parts, present.tolist()))


def test_images_that_have_everything_are_shown_as_if_nothing_were_said():
    parts = create_sampler("split", 3)(16, torch.Generator().manual_seed(0))
    plan = assign_channels(parts, np.ones((16, 3), dtype=bool), Share())
    assert plan.parts == assign_channels(parts, None, Share()).parts == parts
    assert plan.images.tolist() == list(range(16))


def trained(split: Split, val: Split, settings, model=None, **options):
    model = model or make_model("completion")
    rows = fit(model, split, val, settings, **options).rows
    return model, [{key: value for key, value in row.items() if "second" not in key} for row in rows]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_stands_in_absent_planes_changes_no_bit_under_any_sampler(sampler):
    taught = 0.5 if sampler == "sandwich" else 0.0
    settings = replace(CHANGING, sampler=sampler, sampler_options=PARTS.get(sampler, {}), distill=taught)
    clean, figures = trained(lacking(48, 1), lacking(20, 2), settings)
    poisoned, same = trained(lacking(48, 1, np.nan), lacking(20, 2, np.nan), settings)
    assert states_equal(clean.state_dict(), poisoned.state_dict())
    assert same == figures


@pytest.mark.parametrize("stem", [name for name in STEMS if name != "masked"])
def test_what_stands_in_absent_planes_changes_no_bit_under_any_stem(stem):
    settings = replace(CHANGING, sampler="split")
    results = [trained(lacking(30, 1, f), lacking(9, 2, f), settings, make_model(stem)) for f in (0, np.nan)]
    assert states_equal(results[0][0].state_dict(), results[1][0].state_dict())
    assert results[0][1] == results[1][1]


@pytest.mark.parametrize("norm", NORMS)
def test_what_stands_in_absent_planes_changes_no_bit_under_any_norm(norm):
    settings = replace(CHANGING, sampler="full")
    results = [
        trained(lacking(30, 1, fill), lacking(9, 2, fill), settings, make_model(norm=norm)) for fill in (0, np.nan)
    ]
    assert states_equal(results[0][0].state_dict(), results[1][0].state_dict())


def test_a_teacher_is_asked_only_of_images_that_have_everything():
    teacher = make_model("completion", seed=3)
    asked = []
    teacher.register_forward_pre_hook(lambda module, inputs: asked.append(inputs[0].clone()))
    settings = replace(CHANGING, sampler="sandwich", distill=1.0)
    results = [trained(lacking(48, 1, fill), lacking(9, 2, fill), settings, teacher=teacher) for fill in (0, np.nan)]
    assert states_equal(results[0][0].state_dict(), results[1][0].state_dict())
    assert asked
    assert all(images.isfinite().all() for images in asked)
    other = trained(lacking(48, 1), lacking(9, 2), settings, teacher=make_model("completion", seed=4))
    assert not states_equal(other[0].state_dict(), results[0][0].state_dict())
    alone = trained(lacking(48, 1), lacking(9, 2), replace(settings, distill=0.0))
    assert not states_equal(alone[0].state_dict(), results[0][0].state_dict())


def test_a_network_learns_from_images_that_lack_channels():
    _, rows = trained(lacking(160, 1), lacking(40, 2), replace(SETTINGS, epochs=4, sampler="split"))
    assert max(row["val_accuracy"] for row in rows) > 0.9
    assert max(row["val_reduced_accuracy"] for row in rows) > 0.8


@pytest.mark.parametrize("kill_at", [2, 4])
def test_a_killed_run_resumes_to_bitwise_the_same_weights(kill_at, tmp_path, monkeypatch):
    from anychannel.training import loop

    settings = replace(CHANGING, epochs=2, sampler="sandwich", distill=0.5, checkpoint_seconds=0)
    data = lacking(48, 1), lacking(20, 2)
    whole, figures = trained(*data, settings, folder=tmp_path / "whole")
    original, calls = loop.augment, 0

    def augment_until_killed(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls > kill_at:
            raise Killed
        return original(*arguments, **options)

    monkeypatch.setattr(loop, "augment", augment_until_killed)
    with pytest.raises(Killed):
        trained(*data, settings, folder=tmp_path / "killed")
    monkeypatch.undo()
    resumed, same = trained(*data, settings, folder=tmp_path / "killed", resume=True)
    assert states_equal(whole.state_dict(), resumed.state_dict())
    assert same == figures


def test_a_stem_that_knows_one_channel_set_refuses_before_training():
    with pytest.raises(
        ValueError, match=r"24 of 48 images lack channels \(the first is image_\d+.png\), but the stem "
    ):
        fit(make_model("masked"), _half(48), lacking(9, 2), SETTINGS)
    with pytest.raises(
        ValueError, match="MaskedStem knows one channel set; choose a stem that takes subsets, or train"
    ):
        fit(make_model("masked"), make_split(48, 1), lacking(9, 2), SETTINGS)


def _half(count: int) -> Split:
    split = make_split(count, 1)
    present = np.ones((count, 3), dtype=bool)
    present[1::2, 0] = False
    return replace(split, present=present)


def test_validation_shows_each_image_what_it_has_and_once_less_of_it():
    model, val = make_model("completion").eval(), lacking(40, 2, np.nan)
    figures = validate(model, val, batch_size=7, reduced=True)
    subsets, chosen = assign_reduced(CHANNELS, val)
    right = {"val": 0, "val_reduced": 0}
    for image, label, has, place in zip(val.images, val.labels, val.present, chosen, strict=True):
        own, less = tuple(np.flatnonzero(has).tolist()), subsets[place]
        assert set(less) < set(own) or (less == own and len(own) == 1)
        for name, subset in (("val", own), ("val_reduced", less)):
            names = [CHANNELS.names[position] for position in subset]
            shown = torch.from_numpy(image[list(subset)])[None]
            right[name] += int(model(shown, channels=names).argmax()) == label
    assert figures["val_accuracy"] == right["val"] / len(val)
    assert figures["val_reduced_accuracy"] == right["val_reduced"] / len(val)
