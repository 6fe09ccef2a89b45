"""What the report and the papers say of each stem in particular."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anychannel.channels import ChannelError
from anychannel.nn.stems import create_stem
from anychannel.nn.stems.plain_conv import as_plain_conv


def conv() -> nn.Conv2d:
    return nn.Conv2d(3, 8, 3, padding=1, bias=False)


def test_the_masked_stem_refuses_a_set_that_it_was_not_trained_on():
    stem = create_stem("masked", conv()).train()
    stem(torch.randn(2, 3, 8, 8), (0, 1, 2))
    stem.eval()
    with pytest.raises(ChannelError, match=r"trained on the channel positions \(0, 1, 2\) and cannot take \(0, 1\)"):
        stem(torch.randn(2, 2, 8, 8), (0, 1))
    stem.allow_untrained = True
    assert stem(torch.randn(2, 2, 8, 8), (0, 1)).shape == (2, 8, 8, 8)


def test_the_masked_stem_cannot_be_trained_on_two_sets():
    stem = create_stem("masked", conv(), allow_untrained=True).train()
    stem(torch.randn(2, 1, 8, 8), (1,))
    with pytest.raises(ChannelError, match="masked stem was trained on"):
        stem(torch.randn(2, 2, 8, 8), (0, 1))


def test_the_masked_stem_remembers_its_set_in_its_options():
    stem = create_stem("masked", conv()).train()
    assert stem.options["trained"] is None
    stem(torch.randn(2, 1, 8, 8), (1,))
    assert create_stem("masked", conv(), **stem.options).trained == (1,)


def test_the_temperature_falls_linearly_from_thirty_to_one_over_ten_epochs():
    stem = create_stem("kernel_attention", conv())
    course = []
    for epoch in (0, 2.5, 5, 10, 30):
        stem.anneal(epoch)
        course.append(float(stem.temperature))
    assert course == pytest.approx([30, 22.75, 15.5, 1, 1])


def test_a_high_temperature_makes_the_attention_even():
    stem = create_stem("kernel_attention", conv())
    images = 5 * torch.randn(4, 3, 8, 8) + torch.randn(4, 3, 1, 1)
    stem.temperature.fill_(1e4)
    even = stem.attention(images, (0, 1, 2))
    torch.testing.assert_close(even, torch.full_like(even, 0.25), atol=1e-3, rtol=0)
    torch.testing.assert_close(even.sum(1), torch.ones(4))


def test_a_kernel_attention_stem_saves_its_temperature():
    stem, other = (create_stem("kernel_attention", conv(), anneal_epochs=4) for _ in range(2))
    stem.anneal(3)
    other.load_state_dict(stem.state_dict())
    assert float(other.temperature) == float(stem.temperature) == pytest.approx(8.25)


def test_two_pairs_share_the_per_size_generator():
    stem = create_stem("per_size", conv())
    images = torch.randn(2, 2, 8, 8)
    torch.testing.assert_close(stem(images, (0, 1)), stem(images, (1, 2)))


@pytest.mark.parametrize("options", [{"kernels": 0}, {"temperature": 0.5}, {"anneal_epochs": -1}, {"k": 3}])
def test_a_wrong_option_is_refused(options):
    with pytest.raises(ValueError, match=r"must be at least 1|does not take these options"):
        create_stem("kernel_attention", conv(), **options)


def test_text_for_a_switch_is_refused():
    with pytest.raises(ValueError, match="learn_covariance must be true or false, got 'False'"):
        create_stem("completion", conv(), learn_covariance="False")


def test_an_unknown_stem_lists_the_valid_ones():
    with pytest.raises(ValueError, match=r"unknown stem 'per-size' .did you mean 'per_size'.*static, completion"):
        create_stem("per-size", conv())


@pytest.mark.parametrize(
    "odd",
    [nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect")],
    ids=["groups", "reflect"],
)
def test_a_convolution_that_no_stem_can_stand_for_is_refused(odd):
    with pytest.raises(ValueError, match="a stem replaces only plain convolutions"):
        as_plain_conv(odd)
