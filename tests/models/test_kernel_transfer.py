"""What a first kernel for other channels is made of."""

from __future__ import annotations

import pytest
import torch

from anychannel.channels import ChannelSet
from anychannel.models.kernel_transfer import match_names, resemblance, transfer_kernel

RGB = ChannelSet(("R", "G", "B"))


def rows(*names: str, wavelengths=(), fill: str = "neighbours"):
    return resemblance(RGB, ChannelSet(names, wavelengths_nm=wavelengths), fill).tolist()


def test_a_name_finds_its_channel_in_any_order_and_spelling():
    assert match_names(RGB, ChannelSet(("B", "NIR", "R"))) == [2, None, 0]
    assert match_names(RGB, ChannelSet(("green", "Red", "b"))) == [1, 0, 2]
    assert match_names(ChannelSet(("r", "R")), ChannelSet(("red", "R"))) == [0, 1]
    assert match_names(RGB, ChannelSet(("red", "r"))) == [None, None], "a loose name may not be taken twice"


def test_a_channel_between_two_wavelengths_interpolates_and_beyond_the_reach_is_the_mean():
    third = pytest.approx([1 / 3] * 3)
    assert rows("x", wavelengths=(525.0,)) == [pytest.approx([0, 0.5, 0.5])]
    assert rows("x", wavelengths=(638.75,)) == [pytest.approx([0.75, 0.25, 0])]
    assert rows("x", "y", wavelengths=(443.0, 740.0)) == [[0, 0, 1], [1, 0, 0]]
    assert rows("x", "y", wavelengths=(842.0, None)) == [third, third]
    assert rows("x", wavelengths=(525.0,), fill="mean") == [third]
    assert rows("x", "G", wavelengths=(525.0, None), fill="zero") == [[0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("fill", ["neighbours", "mean"])
@pytest.mark.parametrize(
    "names", [("R", "G", "B", "NIR"), ("a", "b", "G", "c", "d", "R", "e"), ("thermal",), ("G", "R")]
)
def test_a_picture_that_is_the_same_in_all_channels_gives_the_features_it_gave(names, fill):
    wavelengths = tuple(400.0 + 70 * i for i in range(len(names)))
    weight, plane = torch.randn(8, 3, 5, 5), torch.randn(2, 1, 16, 16)
    moved = transfer_kernel(weight, RGB, ChannelSet(names, wavelengths_nm=wavelengths), fill)
    before = torch.conv2d(plane.expand(-1, 3, -1, -1), weight)
    torch.testing.assert_close(torch.conv2d(plane.expand(-1, len(names), -1, -1), moved), before, rtol=1e-4, atol=1e-4)


def test_known_channels_keep_their_slices_up_to_one_scale():
    weight = torch.randn(8, 3, 3, 3)
    moved = transfer_kernel(weight, RGB, ChannelSet(("NIR", "B", "G", "R")))
    torch.testing.assert_close(moved[:, [3, 2, 1]], 0.75 * weight)
    torch.testing.assert_close(moved[:, 0], 0.75 * weight.mean(1))
    assert torch.equal(transfer_kernel(weight, RGB, ChannelSet(("B", "R", "G"))), weight[:, [2, 0, 1]])


def test_one_channel_gets_the_sum_as_timm_gives_it():
    from timm.models import adapt_input_conv

    weight = torch.randn(8, 3, 3, 3)
    torch.testing.assert_close(transfer_kernel(weight, RGB, ChannelSet(("PI",))), adapt_input_conv(1, weight))
