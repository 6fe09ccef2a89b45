"""Every stem on every subset."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anychannel.channels import ChannelError, ChannelSet
from anychannel.nn.stems import STEMS, create_stem
from tests.reference.stems import TWINS

SUBSETS = ChannelSet(("a", "b", "c")).subsets()
CORRELATION = ((1.0, 0.8, 0.3), (0.8, 1.0, -0.5), (0.3, -0.5, 1.0))
CONVOLUTIONS = {
    "3x3": {"kernel_size": 3, "padding": 1, "bias": False},
    "7x7, stride 2, bias": {"kernel_size": 7, "stride": 2, "padding": 3, "bias": True},
    "patches": {"kernel_size": 4, "stride": 4, "bias": True},
    "dilated, uneven": {"kernel_size": (3, 5), "padding": (2, 1), "dilation": (2, 1), "bias": False},
}


def make(name: str, convolution: str = "3x3", **options):
    return create_stem(name, nn.Conv2d(3, 8, **CONVOLUTIONS[convolution]), correlation=CORRELATION, **options)


VARIANTS = {
    **{name: (name, {}) for name in STEMS},
    "completion, presence": ("completion", {"presence": True}),
    "completion, residual": ("completion", {"residual": "missing"}),
    "completion, residual of a subset": ("completion", {"residual": "subset"}),
    "completion, learned": ("completion", {"learn_covariance": True}),
    "completion, means": ("completion", {"offset": (0.3, -0.7, 1.1)}),
    "completion, grey": ("completion", {"grey_single": True, "levels": ((-1.0, -0.9, -1.2), (0.02, 0.02, 0.03))}),
    "sliced, root": ("sliced", {"power": 0.5}),
}


def sharpen(stem: nn.Module) -> nn.Module:
    """Move every parameter away from its start, so that nothing is zero by accident."""
    with torch.no_grad():
        for parameter in stem.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    if hasattr(stem, "temperature"):
        stem.temperature.fill_(0.3)
    return stem


def test_every_stem_has_a_literal_twin():
    assert set(TWINS) == set(STEMS)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("subset", SUBSETS, ids=str)
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_a_stem_equals_its_literal_twin_in_outputs_and_gradients(variant, subset, convolution):
    name, options = VARIANTS[variant]
    stem = sharpen(make(name, convolution, **options)).double()
    images = torch.randn(3, len(subset), 12, 11, dtype=torch.float64)
    mine, twins = images.clone().requires_grad_(), images.clone().requires_grad_()
    fast, slow = stem(mine, subset), TWINS[name](stem, twins, subset)
    assert fast.shape == slow.shape
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)
    target = torch.randn_like(slow)
    learned = [parameter for parameter in stem.parameters() if parameter.requires_grad]
    for a, b in zip(
        torch.autograd.grad((fast * target).sum(), [mine, *learned], allow_unused=True),
        torch.autograd.grad((slow * target).sum(), [twins, *learned], allow_unused=True),
        strict=True,
    ):
        # a gradient that never arises and one that is all zeros say the same
        if a is None or b is None:
            assert all(gradient is None or not gradient.any() for gradient in (a, b))
            continue
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", STEMS)
@pytest.mark.parametrize("subset", SUBSETS, ids=str)
@pytest.mark.parametrize("batch", [1, 5])
def test_features_have_the_convolutions_shape_and_are_finite(name, subset, batch):
    features = make(name, "7x7, stride 2, bias")(torch.randn(batch, len(subset), 20, 22), subset)
    assert features.shape == (batch, 8, 10, 11)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("name", STEMS)
def test_gradients_reach_every_parameter_over_all_subsets(name):
    stem = make(name, "7x7, stride 2, bias", **({"allow_untrained": True} if name == "masked" else {}))
    stem.eval() if name == "masked" else stem.train()
    for subset in SUBSETS:
        (stem(torch.randn(4, len(subset), 9, 9), subset) ** 2).sum().backward()
    for label, parameter in stem.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.abs().sum() > 0, label


@pytest.mark.parametrize("name", STEMS)
def test_an_image_does_not_depend_on_the_others_in_its_batch(name):
    stem = make(name).eval()
    images = torch.randn(4, 2, 9, 9)
    torch.testing.assert_close(stem(images, (0, 2))[1:2], stem(images[1:2], (0, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", STEMS)
@pytest.mark.parametrize(
    ("subset", "message"),
    [
        ((), "a subset is ascending positions in 0..2"),
        ((1, 0), "ascending positions"),
        ((0, 3), r"in 0..2, got \(0, 3\)"),
        ((0, 0), "ascending positions"),
        ((0,), r"has 1 channels, but the images' shape is \(2, 2, 9, 9\)"),
    ],
)
def test_a_subset_that_does_not_fit_is_refused(name, subset, message):
    with pytest.raises(ChannelError, match=message):
        make(name)(torch.randn(2, 2, 9, 9), subset)


@pytest.mark.parametrize("name", STEMS)
def test_a_stem_starts_from_the_convolution_that_it_replaces(name):
    conv = nn.Conv2d(3, 8, 3, padding=1, bias=True)
    images = torch.randn(16, 3, 9, 9)
    with torch.no_grad():
        expected, got = conv(images), create_stem(name, conv)(images, (0, 1, 2))
    cosine = torch.nn.functional.cosine_similarity(expected.flatten(), got.flatten(), dim=0)
    assert cosine > (0.75 if create_stem(name, conv).per_image else 0.999999)


@pytest.mark.parametrize("name", STEMS)
def test_same_padding_gives_tensorflows_size(name):
    from timm.layers import Conv2dSame

    conv = Conv2dSame(3, 4, 3, stride=2, bias=False)
    stem = create_stem(name, conv)
    images = torch.randn(2, 3, 11, 14)
    assert stem(images, (0, 1, 2)).shape == conv(images).shape
    if name == "static":
        torch.testing.assert_close(stem(images, (0, 1, 2)), conv(images))


@pytest.mark.parametrize("name", STEMS)
def test_bfloat16_autocast_stays_close_to_float32(name):
    stem = make(name).eval()
    images = torch.randn(2, 3, 9, 9)
    full = stem(images, (0, 1, 2))
    with torch.autocast("cpu", torch.bfloat16):
        low = stem(images, (0, 1, 2)).float()
    assert (full - low).abs().max() < 0.05 * full.abs().max() + 0.02
