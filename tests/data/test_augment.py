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
    "resized crop": {"crop_padding": 0, "flip": False, "jitter": 0.0, "crop_scale": 0.1},
    "turned": {"crop_padding": 2, "flip": False, "jitter": 0.0, "rotate90": True},
    "every way up": {"crop_padding": 1, "flip": True, "jitter": 0.0, "rotate90": True, "vertical_flip": True},
    "gain": {"crop_padding": 0, "flip": False, "jitter": 0.0, "gain": 0.4},
    "offset": {"crop_padding": 0, "flip": False, "jitter": 0.0, "gain": 0.2, "offset": 0.5},
    "erase": {"crop_padding": 0, "flip": False, "jitter": 0.0, "erase": 0.7},
    "everything": {
        "crop_padding": 2, "flip": True, "jitter": 0.2, "vertical_flip": True, "rotate90": True, "crop_scale": 0.3,
        "gain": 0.3, "offset": 0.3, "erase": 0.8,
    },
}  # fmt: skip


def images(channels: int, dtype: torch.dtype = torch.uint8, width: int = 5) -> Tensor:
    return torch.randint(0, 256, (6, channels, 7, width)).to(dtype)


def fill(channels: int) -> Tensor:
    return torch.arange(channels) * 10.0 + 0.3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize(("dtype", "width"), [(torch.uint8, 5), (torch.float32, 5), (torch.float32, 7)])
def test_it_equals_the_literal_twin(kind: str, channels: int, dtype: torch.dtype, width: int):
    batch, options = images(channels, dtype, width), {**KINDS[kind], "fill": fill(channels)}
    options |= {"std": fill(channels) + 1} if "offset" in KINDS[kind] else {}
    mine, theirs = generator(), generator()
    result = augment(batch, **options, generator=mine)
    expected = twin.augment(batch, **options, generator=theirs)
    assert result.dtype == torch.float32
    exact = kind in {"nothing", "crop", "flip", "turned", "every way up", "erase"}
    torch.testing.assert_close(result, expected, rtol=0 if exact else 1e-5, atol=0 if exact else 2e-3)
    assert torch.equal(mine.get_state(), theirs.get_state())


def test_a_square_image_is_turned_and_mirrored_to_all_eight_positions():
    batch = torch.arange(16.0).reshape(1, 1, 4, 4).expand(300, 1, 4, 4)
    options = {**KINDS["nothing"], "flip": True, "vertical_flip": True, "rotate90": True}
    result = augment(batch, **options, fill=torch.zeros(1), generator=generator())
    assert len({tuple(image.flatten().tolist()) for image in result}) == 8
    turned = augment(batch, **KINDS["nothing"], rotate90=True, fill=torch.zeros(1), generator=generator())
    assert len({tuple(image.flatten().tolist()) for image in turned}) == 4


def test_a_resized_crop_of_scale_one_keeps_the_image_and_a_small_one_magnifies_a_part():
    ramp = torch.arange(32.0).expand(200, 1, 32, 32)
    options = {**KINDS["nothing"], "fill": torch.zeros(1)}
    assert torch.equal(augment(ramp, **options, crop_scale=1.0, generator=generator()), ramp)
    crops = augment(ramp, **options, crop_scale=0.25, generator=generator())
    spans = crops.amax((1, 2, 3)) - crops.amin((1, 2, 3))
    assert spans.min() >= 0.25**0.5 * 32 / (4 / 3) ** 0.5 - 2
    assert spans.max() == 31
    assert spans.std() > 2


def test_erasing_sets_one_box_to_the_fill_values_of_about_so_many_images():
    batch = torch.full((300, 2, 16, 16), 7.0)
    result = augment(batch, **KINDS["nothing"], erase=0.5, fill=torch.tensor([1.0, 2.0]), generator=generator())
    erased = result[:, 0] == 1
    assert torch.equal(erased, result[:, 1] == 2)
    assert 110 < erased.any((1, 2)).sum() < 190
    for mask in erased[erased.any((1, 2))]:
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns[None])  # one box
        assert 0.01 <= mask.float().mean() <= 0.36


def test_gain_and_offset_are_drawn_for_each_channel_of_each_image_about_the_channels_mean():
    centre, std = torch.tensor([300.0, 5.0]), torch.tensor([10.0, 1.0])
    batch = centre[:, None, None] + std[:, None, None] * torch.randn(200, 2, 6, 6)
    options = {**KINDS["nothing"], "fill": centre, "generator": generator()}
    scaled = augment(batch, **options, gain=0.2)
    slopes = scaled.std((2, 3)) / batch.std((2, 3))
    assert (slopes - 1).abs().max() <= 0.2 + 1e-3
    assert slopes.std() > 0.08
    moved = (augment(batch, **options, offset=0.5, std=std) - batch).mean((2, 3)) / std
    assert moved.abs().max() <= 0.5 + 1e-3
    assert moved.std() > 0.2
    assert abs(float(torch.corrcoef(moved.T)[0, 1])) < 0.2


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
        ({"gain": 1.5}, r"gain is a fraction in \[0, 1\), got 1.5"),
        ({"offset": 0.5}, "offset=0.5 counts standard deviations of the channels; give std"),
        ({"std": torch.ones(2)}, r"std needs one value for each of the 3 channels, got shape \(2,\)"),
        ({"fill": torch.zeros(2)}, r"fill needs one value for each of the 3 channels, got shape \(2,\)"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict, message: str):
    options = {**KINDS["all"], "fill": fill(3), "generator": generator(), **change}
    with pytest.raises(ValueError, match=message):
        augment(images(3), **options)
