"""One warning for images of another range than the statistics expect, none for dark, black, bright or sparse ones."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import anychannel as ac
from anychannel.channels import ChannelSet
from anychannel.data import Split
from anychannel.nn.channel_sampling import Part
from tests.helpers.training import SETTINGS, make_split

PHOTOS = ChannelSet(("R", "G", "B"), (124.0, 116.0, 104.0), (58.0, 57.0, 57.0))
SATELLITE = ChannelSet(("R", "G", "B"), (3000.0, 2800.0, 2500.0), (300.0, 280.0, 400.0))
STAINS = ChannelSet(("R", "G", "B"), (2.0, 5.0, 9.0), (9.0, 20.0, 30.0))
UNIT = ChannelSet(("R", "G", "B"), (0.48, 0.45, 0.4), (0.23, 0.22, 0.22))
FRACTIONS, NORMALISED, FAR = "values between 0 and 1, but", "as if they were normalised", "has values of .* on average"


def make(channels: ChannelSet = PHOTOS, **options) -> ac.Classifier:
    torch.manual_seed(0)
    return ac.create_model(
        "compact_k7", channels=channels, num_classes=4, model_options={"width": 16}, **options
    ).eval()


def noise(channels: ChannelSet, count: int = 4, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    """Images with these statistics, scaled and shifted; rounded as files of integers are, unless scaled."""
    torch.manual_seed(1)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (channels.mean, channels.std))
    images = (mean + std * torch.randn(count, 3, 24, 24)).clamp(0, 255 if channels is PHOTOS else 65535)
    return (images if scale != 1 else images.round()) * scale + shift


WRONG = {
    "0-1 for 0-255": (PHOTOS, torch.rand(2, 3, 24, 24), FRACTIONS),
    "0-1 for 0-255, half precision": (PHOTOS, torch.rand(2, 3, 24, 24).half(), FRACTIONS),
    "a photograph over 255": (PHOTOS, noise(PHOTOS, scale=1 / 255), FRACTIONS),
    "reflectances for digital numbers": (SATELLITE, noise(SATELLITE, scale=1e-4), FRACTIONS),
    "a batch of stains over 255": (STAINS, noise(STAINS, 16, scale=1 / 255), FRACTIONS),
    "normalised photographs": (PHOTOS, torch.randn(2, 3, 24, 24), NORMALISED),
    "0-255 for 0-1": (UNIT, noise(PHOTOS), FAR),
    "16 bits for 8": (PHOTOS, noise(PHOTOS, scale=257.0), FAR),
    "8 bits for satellite": (replace(SATELLITE, std=(90.0,) * 3), noise(PHOTOS), FAR),
    "one channel in other units": (PHOTOS, noise(PHOTOS) * torch.tensor([1.0, 1.0, 50.0]).view(1, 3, 1, 1), "'B' of"),
    "infinity": (PHOTOS, torch.full((2, 3, 24, 24), 1e30), FAR),
}
RIGHT = {
    "the statistics' own": (PHOTOS, noise(PHOTOS)),
    "bytes": (PHOTOS, noise(PHOTOS).clamp(0, 255).to(torch.uint8)),
    "zeros": (PHOTOS, torch.zeros(2, 3, 24, 24)),
    "zeros of a satellite": (SATELLITE, torch.zeros(2, 3, 24, 24, dtype=torch.int32)),
    "night": (PHOTOS, noise(PHOTOS, scale=0.03).round()),
    "night, resized": (PHOTOS, noise(PHOTOS, scale=0.03)),
    "ones and zeros": (PHOTOS, torch.randint(0, 2, (2, 3, 24, 24))),
    "white": (PHOTOS, torch.full((2, 3, 24, 24), 255)),
    "half without data": (SATELLITE, noise(SATELLITE) * (torch.arange(24) < 12)),
    "nearly all without data": (SATELLITE, noise(SATELLITE) * (torch.arange(24) < 1)),
    "NaN for no data": (SATELLITE, noise(SATELLITE).where(torch.arange(24) < 12, torch.nan)),
    "NaN throughout": (SATELLITE, torch.full((2, 3, 24, 24), torch.nan)),
    "an empty field of stains": (STAINS, 0.4 * torch.rand(1, 3, 24, 24)),
    "a bright cell": (STAINS, torch.nn.functional.pad(torch.full((1, 3, 6, 6), 255.0), (9, 9, 9, 9))),
    "0-1 where it is expected": (UNIT, torch.rand(2, 3, 24, 24)),
    "0-1, black": (UNIT, torch.zeros(2, 3, 24, 24)),
    "0-1, white": (UNIT, torch.ones(2, 3, 24, 24)),
    "no statistics": (ChannelSet(("R", "G", "B")), noise(PHOTOS)),
    "one black channel": (PHOTOS, noise(PHOTOS) * torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1)),
    "one pixel": (PHOTOS, torch.full((1, 3, 1, 1), 9)),
}


@pytest.mark.parametrize("name", WRONG)
def test_images_of_another_range_are_warned_of_once(name):
    channels, images, message = WRONG[name]
    model = make(channels)
    model(noise(channels, 1))
    with pytest.warns(UserWarning, match=message) as said:  # noqa: PT031 - only the first call warns
        model(images)
        copy.deepcopy(model)(images)
        model(images[:, :1], channels="R")
    assert len(said) == 1
    assert said[0].filename == __file__
    assert "give images in the units of the files" in str(said[0].message)


@pytest.mark.parametrize("name", RIGHT)
def test_unusual_but_right_images_are_not(name):
    channels, images = RIGHT[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = make(channels)
        model(images)
        for position, channel in enumerate(channels.names):
            model(images[:, [position]], channels=channel)
    assert not model.input_range.warned


def test_planes_that_no_part_shows_are_not_looked_at():
    model, images = make(), noise(PHOTOS, 8)
    images[:4, 0], images[4:, 2] = 1e9, torch.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            model(images, parts=[Part((1, 2), 0, 4), Part((0, 1), 4, 8), Part((0,), 8, 8)])


def test_evaluation_prediction_and_training_warn_alike():
    split = make_split(32, 0)
    small = Split(split.images.astype(np.float32) / 255, split.labels, split.paths)
    with pytest.warns(UserWarning, match=FRACTIONS) as said:
        ac.evaluate(make(), small, batch_size=8)
    assert len(said) == 1
    with pytest.warns(UserWarning, match=FRACTIONS) as said:
        ac.fit(make(), small, small, replace(SETTINGS, epochs=1, sampler="split", ema=0.9))
    assert len(said) == 1


def test_compiled_exported_traced_and_specialised_networks_are_left_alone():
    model, images = make(), torch.rand(2, 3, 24, 24)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)  # vmap of attention
        compiled = torch.compile(model, backend="eager")(images)
        exported = torch.export.export(model, (images,)).module()(images)
        special = model.specialize("R,G,B")(images)
        vmapped = torch.func.vmap(lambda one: model(one[None])[0])(images)
        hollow = model.to("meta")(images.to("meta"))
    assert not model.input_range.warned
    for logits in (exported, special, vmapped):
        torch.testing.assert_close(logits, compiled, rtol=1e-4, atol=1e-5)
    assert hollow.shape == compiled.shape


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([Part((0, 1, 2), 0, 5)], r"Part\(subset=\(0, 1, 2\), start=0, stop=5\) lies outside the batch.*0 to 3"),
        ([Part((0,), 0, 4), Part((1,), 4, 6)], "lies outside the batch"),
        ([Part((0,), -2, 2)], "lies outside the batch"),
        ([Part((0,), 3, 1)], "lies outside the batch"),
        ([Part((0,), 2, 2)], "hold no image"),
        ([], "hold no image"),
    ],
)
def test_a_part_beyond_the_batch_is_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        make()(noise(PHOTOS), parts=parts)
