"""Augmentation against its literal twin, and what it must leave alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anychannel.data import augment
from tests.reference import augment as twin

KINDS = {
    "nothing": {"crop_padding": 0, "flip": False, "jitter": 0.0},
    "crop": {"crop_padding": 2, "flip": False, "jitter": 0.0},
    "flip": {"crop_padding": 0, "flip": True, "jitter": 0.0},
    "jitter": {"crop_padding": 0, "flip": False, "jitter": 0.3},
    "all": {"crop_padding": 3, "flip": True, "jitter": 0.2},
}


def images(channels: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    return torch.randint(0, 256, (6, channels, 7, 5)).to(dtype)


def fill(channels: int) -> Tensor:
    return torch.arange(channels) * 10.0 + 0.3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_it_equals_the_literal_twin(kind: str, channels: int, dtype: torch.dtype):
    batch = images(channels, dtype)
    mine, theirs = generator(), generator()
    result = augment(batch, **KINDS[kind], fill=fill(channels), generator=mine)
    expected = twin.augment(batch, **KINDS[kind], fill=fill(channels), generator=theirs)
    assert result.dtype == torch.float32
    torch.testing.assert_close(
        result, expected, rtol=1e-6 if KINDS[kind]["jitter"] else 0, atol=1e-4 * (kind in JITTERED)
    )
    assert torch.equal(mine.get_state(), theirs.get_state())


JITTERED = {"jitter", "all"}


def test_crops_hold_only_pixels_of_the_image_and_the_fill_value():
    batch = torch.full((64, 2, 9, 9), 200.0)
    result = augment(batch, crop_padding=3, flip=False, jitter=0, fill=torch.tensor([1.25, 2.5]), generator=generator())
    for channel, value in enumerate((1.25, 2.5)):
        assert set(result[:, channel].unique().tolist()) == {value, 200.0}
    corners = {(bool(image[0, 0, 0] == 200), bool(image[0, -1, -1] == 200)) for image in result}
    assert len(corners) > 2


def test_about_half_of_the_images_are_mirrored_and_the_rest_left():
    batch = torch.rand(400, 1, 4, 4)
    result = augment(batch, crop_padding=0, flip=True, jitter=0, fill=torch.zeros(1), generator=generator())
    mirrored = sum(torch.equal(a, b.flip(-1)) for a, b in zip(result, batch, strict=True))
    left = sum(torch.equal(a, b) for a, b in zip(result, batch, strict=True))
    assert mirrored + left == 400
    assert 150 < mirrored < 250


def test_jitter_changes_each_channel_of_each_image_in_its_own_way_within_its_bounds():
    batch = torch.rand(50, 3, 8, 8) * 100 + 50
    result = augment(batch, crop_padding=0, flip=False, jitter=0.2, fill=torch.zeros(3), generator=generator())
    brightness = result.mean((2, 3)) / batch.mean((2, 3))
    contrast = result.std((2, 3)) / batch.std((2, 3)) / brightness
    for factor in (brightness, contrast):
        assert factor.min() >= 0.8 - 1e-4
        assert factor.max() <= 1.2 + 1e-4
        assert factor.std() > 0.08
        assert len(factor.flatten().round(decimals=5).unique()) > 140


def test_the_result_follows_from_the_generators_state_alone():
    batch, options = images(3), {**KINDS["all"], "fill": fill(3)}
    first = augment(batch, **options, generator=generator(5))
    torch.rand(7)
    assert torch.equal(first, augment(batch, **options, generator=generator(5)))
    assert not torch.equal(first, augment(batch, **options, generator=generator(6)))


def test_switching_jitter_off_leaves_the_crops_as_they_were():
    batch = images(3)
    options = {"crop_padding": 3, "flip": True, "fill": fill(3)}
    plain = augment(batch, **options, jitter=0, generator=generator())
    jittered = augment(batch, **options, jitter=1e-6, generator=generator())
    torch.testing.assert_close(plain, jittered, rtol=1e-4, atol=1e-2)


def test_the_input_is_left_as_it_was():
    batch = torch.rand(4, 2, 6, 6)
    before = batch.clone()
    augment(batch, **KINDS["all"], fill=fill(2), generator=generator())
    assert torch.equal(batch, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_padding": -1}, "crop_padding is a number of pixels, 0 or more, got -1"),
        ({"jitter": 1.0}, r"jitter is a fraction in \[0, 1\), got 1.0"),
        ({"fill": torch.zeros(2)}, r"fill needs one value for each of the 3 channels, got shape \(2,\)"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict, message: str):
    options = {**KINDS["all"], "fill": fill(3), "generator": generator(), **change}
    with pytest.raises(ValueError, match=message):
        augment(images(3), **options)
