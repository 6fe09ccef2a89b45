"""Completion against statistics: what the kernel stands for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from torch import nn

from anychannel.channels import ChannelSet
from anychannel.models import adapt
from anychannel.models.view import as_view
from anychannel.nn.stems import create_stem
from anychannel.nn.stems.completion import completion_matrix


def correlated_pixels(channels: int = 4, pixels: int = 5000) -> np.ndarray:
    random = np.random.default_rng(0)
    mixed = random.normal(size=(pixels, channels)) @ random.normal(size=(channels, channels))
    return (mixed - mixed.mean(0)) / mixed.std(0)


@pytest.mark.parametrize("subset", [(0,), (1, 3), (0, 1, 2), (0, 1, 2, 3)], ids=str)
def test_the_matrix_is_the_linear_regression_on_the_present_channels(subset):
    pixels = correlated_pixels()
    covariance = torch.tensor(np.cov(pixels.T, bias=True))
    matrix = completion_matrix(covariance, subset, ridge=0.0).numpy()
    fitted = LinearRegression(fit_intercept=False).fit(pixels[:, subset], pixels)
    np.testing.assert_allclose(matrix, fitted.coef_, atol=1e-8)


def test_independent_channels_make_it_the_static_stem():
    conv, images = nn.Conv2d(3, 4, 3), torch.randn(2, 2, 8, 8)
    completion, static = (create_stem(name, conv) for name in ("completion", "static"))
    torch.testing.assert_close(completion(images, (0, 2)), static(images, (0, 2)))


def test_channels_that_repeat_each_other_stay_solvable():
    same = torch.ones(3, 3)
    matrix = completion_matrix(same, (0, 1), ridge=1e-4)
    assert torch.isfinite(matrix).all()
    assert float(matrix[2].sum()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 64])
def test_it_works_from_1_to_64_channels_without_growing_with_the_subsets(channels):
    correlation = ChannelSet(
        tuple(f"band_{i}" for i in range(channels)),
        correlation=np.corrcoef(correlated_pixels(channels).T).reshape(channels, channels),
    ).correlation
    conv = nn.Conv2d(channels, 4, 3)
    stem = create_stem("completion", conv, correlation=correlation)
    assert sum(p.numel() for p in stem.parameters()) == sum(p.numel() for p in conv.parameters())
    subset = tuple(range(0, channels, 2))
    assert torch.isfinite(stem(torch.randn(2, len(subset), 8, 8), subset)).all()


def test_a_learned_residual_starts_at_zero_and_learns():
    conv, images = nn.Conv2d(3, 4, 3), torch.randn(2, 2, 8, 8)
    correlation = ((1.0, 0.5, 0.2), (0.5, 1.0, 0.1), (0.2, 0.1, 1.0))
    plain = create_stem("completion", conv, correlation=correlation)
    learning = create_stem("completion", conv, correlation=correlation, residual="missing")
    torch.testing.assert_close(plain(images, (0, 2)), learning(images, (0, 2)))
    learning(images, (0, 2)).square().sum().backward()
    gradient = learning.residual.grad
    assert gradient[1][:, [0, 2]].abs().sum() > 0
    assert not gradient[[0, 2]].any()


def test_a_subset_may_have_a_learned_residual_of_its_own():
    conv, images = nn.Conv2d(3, 4, 3), torch.randn(2, 2, 8, 8)
    plain, learning = create_stem("completion", conv), create_stem("completion", conv, residual="subset")
    torch.testing.assert_close(plain(images, (0, 2)), learning(images, (0, 2)))
    learning(images, (0, 2)).square().sum().backward()
    assert {name for name, kernel in learning.residuals.items() if kernel.grad is not None} == {"0_2"}
    assert learning.options["residual"] == "subset"
    with pytest.raises(ValueError, match="takes at most 8 channels, got 9; use residual 'missing'"):
        create_stem("completion", nn.Conv2d(9, 4, 3), residual="subset")


def test_presence_starts_at_zero_and_learns_from_the_missing_channels_alone():
    conv = nn.Conv2d(3, 4, 3)
    images = torch.randn(2, 2, 8, 8)
    plain, telling = create_stem("completion", conv), create_stem("completion", conv, presence=True)
    assert torch.equal(plain(images, (0, 2)), telling(images, (0, 2)))
    telling(images, (0, 2)).square().sum().backward()
    assert telling.presence.grad[1].abs().sum() > 0
    assert not telling.presence.grad[[0, 2]].any()
    assert telling.options["presence"] is True
    assert plain.options["presence"] is False


def test_a_learned_covariance_starts_at_the_measured_one_and_learns():
    conv, images = nn.Conv2d(3, 4, 3), torch.randn(2, 1, 8, 8)
    correlation = ((1.0, 0.5, 0.2), (0.5, 1.0, 0.1), (0.2, 0.1, 1.0))
    fixed = create_stem("completion", conv, correlation=correlation)
    learned = create_stem("completion", conv, correlation=correlation, learn_covariance=True)
    torch.testing.assert_close(fixed(images, (1,)), learned(images, (1,)), rtol=1e-4, atol=1e-5)
    learned(images, (1,)).square().sum().backward()
    assert learned.root.grad.abs().sum() > 0


def test_the_covariance_is_saved_with_the_weights():
    correlation = ((1.0, 0.5), (0.5, 1.0))
    stem = create_stem("completion", nn.Conv2d(2, 4, 3), correlation=correlation)
    other = create_stem("completion", nn.Conv2d(2, 4, 3))
    other.load_state_dict(stem.state_dict())
    torch.testing.assert_close(other.covariance, torch.tensor(correlation))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residual": "all"}, "unknown residual 'all'; use one of none, missing, subset"),
        ({"ridge": -1}, "ridge must not be negative, got -1"),
        ({"correlation": ((1.0, 0.5), (0.4, 1.0))}, r"correlation must be a symmetric 2 x 2 matrix"),
        ({"correlation": ((1.0,),)}, r"symmetric 2 x 2 matrix, got shape \(1, 1\)"),
    ],
)
def test_a_wrong_option_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create_stem("completion", nn.Conv2d(2, 4, 3), **options)


def test_channels_that_repeat_each_other_need_a_ridge():
    stem = create_stem("completion", nn.Conv2d(3, 4, 3), correlation=((1.0,) * 3,) * 3, ridge=0)
    with pytest.raises(ValueError, match=r"covariance of channels 0, 1 is singular.* give a ridge above 0"):
        stem(torch.randn(1, 2, 8, 8), (0, 1))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sliced", {"power": 2}, "power must be between 0 and 1, got 2"),
        ("hypernetwork", {"embedding": 0}, "embedding must be at least 1, got 0"),
        ("template", {"templates": 0}, "templates must be at least 1, got 0"),
    ],
)
def test_the_peers_refuse_wrong_options_too(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_stem(name, nn.Conv2d(2, 4, 3), **options)


def test_the_table_refuses_more_channels_than_it_can_list():
    with pytest.raises(ValueError, match="takes at most 8 channels, got 9; use completion"):
        create_stem("table", nn.Conv2d(9, 4, 3))


def test_with_an_offset_a_missing_channel_is_estimated_about_its_mean():
    """Literally: regress on what is above the mean, complete the picture, convolve it."""
    matrix = torch.tensor([[2.0, 0.9, 0.3], [0.9, 1.0, -0.4], [0.3, -0.4, 0.7]])
    mean = torch.tensor([1.5, -0.7, 0.4])
    conv = nn.Conv2d(3, 8, 3, bias=True)
    stem = create_stem("completion", conv, correlation=matrix.tolist(), offset=mean.tolist(), ridge=0.0)
    images = torch.randn(2, 2, 9, 9)
    coefficients = torch.linalg.solve(matrix[[0, 2]][:, [0, 2]], matrix[[0, 2], 1])
    above = images - mean[[0, 2]].view(1, 2, 1, 1)
    guess = mean[1] + torch.einsum("k,bkyx->byx", coefficients, above)
    completed = torch.stack([images[:, 0], guess, images[:, 1]], 1)
    torch.testing.assert_close(stem(images, (0, 2)), conv(completed), rtol=1e-4, atol=1e-5)
    again = create_stem("completion", conv, correlation=matrix.tolist(), offset=mean.tolist(), **stem.options)
    assert torch.equal(again(images, (0, 2)), stem(images, (0, 2)))
    with pytest.raises(ValueError, match="offset needs one value for each of the 3 channels, got 1"):
        create_stem("completion", conv, offset=[1.0])


@pytest.mark.parametrize("learned", [False, True], ids=["measured", "learned"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_in_half_precision_the_covariance_keeps_its_digits(dtype, learned):
    matrix = torch.full((8, 8), 0.997) + 0.003 * torch.eye(8)
    conv = nn.Conv2d(8, 4, 3, bias=False)
    stem = create_stem("completion", conv, correlation=matrix, learn_covariance=learned)
    subset = tuple(range(1, 8))
    exact = stem.kernel(subset).detach()
    half = stem.to(dtype)
    assert half.weight.dtype == half.kernel(subset).dtype == dtype
    torch.testing.assert_close(half.kernel(subset).float(), exact, rtol=0.05, atol=0.02)
    assert half.double().matrix(subset).dtype == torch.float64


def test_the_matrix_is_solved_for_once_and_again_when_the_covariance_changes(monkeypatch):
    solved = []
    monkeypatch.setattr(
        "anychannel.nn.stems.completion.completion_matrix",
        lambda *args: solved.append(args[1]) or completion_matrix(*args),
    )
    stem = create_stem("completion", nn.Conv2d(2, 4, 3), correlation=((1.0, 0.5), (0.5, 1.0)))
    images = torch.randn(1, 1, 8, 8)
    with torch.inference_mode():
        stem(images, (0,))
    stem(images, (0,)).sum().backward()  # the matrix is no inference tensor
    assert solved == [(0,)]
    stem(images, (1,))
    stem.covariance.mul_(2)
    other = create_stem("completion", nn.Conv2d(2, 4, 3), correlation=((1.0, -0.5), (-0.5, 1.0)))
    for change in (lambda: None, lambda: stem.load_state_dict(other.state_dict()), stem.double, stem.float):
        change()
        assert torch.equal(stem.matrix((0,)), completion_matrix(stem.covariance, (0,), stem.ridge))


ALIKE = ((1.0, 0.9, 0.2), (0.9, 1.0, 0.2), (0.2, 0.2, 1.0))


@pytest.mark.parametrize(
    ("mean", "std", "copied"),
    [
        ((120, 110, 100), (60, 62, 70), [False, True, False]),  # the third explains too little of the first
        ((120, 110, 100), (60, 20, 70), [False, False, False]),  # another contrast
        ((120, 20, 100), (60, 62, 70), [False, False, False]),  # another level
    ],
)
def test_one_channel_is_copied_in_the_files_units_to_those_that_resemble_it(mean, std, copied):
    """The network trained on z-scores of other statistics, so neither zero nor one is the same in two channels."""
    channels = ChannelSet(("a", "b", "c"), mean=mean, std=std, correlation=ALIKE)
    used = ChannelSet(channels.names, mean=(100, 130, 90), std=(50, 64, 55))
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))
    options = {"channels": channels, "source_channels": used, "norm": "shared"}
    grey, linear = (as_view(adapt(network, stem_options={"grey_single": on}, **options)).eval() for on in (True, False))
    images = torch.randint(0, 256, (2, 1, 8, 8)).float()
    slope = torch.tensor(std) / std[0] * torch.tensor(ALIKE[0])
    filled = torch.tensor(mean).view(3, 1, 1) + slope.view(3, 1, 1) * (images - mean[0])
    filled = torch.where(torch.tensor(copied).view(3, 1, 1), images, filled)
    filled[:, :1] = images
    torch.testing.assert_close(grey(images, channels="a"), grey(filled), rtol=1e-3, atol=1e-3)
    assert torch.equal(grey(filled[:, :2], channels="a,b"), linear(filled[:, :2], channels="a,b"))
    assert torch.equal(grey(images, channels="a"), linear(images, channels="a")) == (not any(copied))
    for subset in ((0,), (1,), (0, 1)):
        present = torch.tensor([float(i in subset) for i in range(3)])
        kernel, bias = grey.stem.kernel_where(present), grey.stem.bias_where(present)
        torch.testing.assert_close(kernel[:, list(subset)], grey.stem.kernel(subset))
        torch.testing.assert_close(bias, grey.stem.bias_for(subset))


def test_red_green_and_blue_by_name_have_the_correlations_of_photographs():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))
    known = adapt(network, channels="B,G,R", source_channels="imagenet").channels
    assert known.correlation is not None
    assert known.correlation[0] == (1.0, 0.902, 0.771)
    other = adapt(network, channels="R,G,NIR", source_channels="imagenet").channels
    assert other.correlation is None
