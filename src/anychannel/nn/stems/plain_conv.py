"""The plain convolution that a network's convolution computes, also one of a class of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anychannel.nn.stems.base import ConvGeometry

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


class PlainConv(NamedTuple):
    """A convolution by its kernel (out, C, kh, kw), its bias (out,), and how it moves."""

    weight: Tensor
    bias: Tensor | None
    geometry: ConvGeometry


@torch.no_grad()
def as_plain_conv(conv: nn.Conv2d, name: str = "the first convolution") -> PlainConv:
    """The plain convolution that computes the same, with the kernel that is applied.

    A subclass with a ``forward`` of its own is tried on images. Kept are those that pad as TensorFlow does, or
    standardise their weight as timm's (NFNet, BiT) do; a stem that starts from this kernel is no longer standardised
    when it is trained.

    Args:
        conv: the convolution. It is not changed.
        name: what it is called in messages, such as its path.

    Raises:
        ValueError: it is grouped, does not pad with zeros, has hooks, or computes something else.
    """
    kind = type(conv).__name__
    if conv.groups != 1 or conv.padding_mode != "zeros":
        raise ValueError(
            f"{name} is a {kind} with groups={conv.groups}, padding_mode={conv.padding_mode!r}; "
            "a stem replaces only plain convolutions with groups=1 and zero padding"
        )
    for hook in (hook for kept in HOOKS for hook in getattr(conv, kept).values()):
        if not type(hook).__module__.startswith("torch.nn.utils."):
            raise ValueError(
                f"{name} is a {kind} with the hook {getattr(hook, '__qualname__', type(hook).__qualname__)}, which a "
                "stem in its place would lose; remove the hook, and register it on the adapted network if it only looks"
            )
        hook(conv, ())  # of the older weight_norm, spectral_norm and prune: it computes the weight
    bias = None if conv.bias is None else conv.bias.detach()
    if is_plain(conv):
        return PlainConv(conv.weight.detach(), bias, geometry_of(conv))
    found = None if "forward" in vars(conv) else find_equal(conv)
    if found is None:
        raise ValueError(
            f"{name} is a {type(conv).__module__}.{type(conv).__qualname__}, whose forward is more than a convolution "
            "with its weight, which a stem in its place would lose; make it an nn.Conv2d, and put the rest (a norm, an "
            "activation) into a module after it"
        )
    standardised, geometry = found
    return PlainConv(kernel(conv, standardised), bias, geometry)


def find_equal(conv: nn.Conv2d) -> tuple[bool, ConvGeometry] | None:
    """Which of the ``guesses`` computes what a convolution does, on images of all sizes or else of usual ones."""
    tried = copy.deepcopy(conv).to("cpu", torch.float64)
    for every in (True, False):
        images = draw_images(conv, every)
        answers = answer(tried, images)
        for standardised, geometry in guesses(conv):
            expected = [geometry.convolve(image, kernel(tried, standardised), tried.bias) for image in images] * 2
            if all(map(is_close, answers, expected)):
                return standardised, geometry
    return None


def is_close(found: Tensor, expected: Tensor) -> bool:
    """Whether two tensors of doubles are equal up to rounding."""
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-9, atol=1e-9)


def is_plain(conv: nn.Conv2d) -> bool:
    """Whether it has the ``forward`` of ``nn.Conv2d``; parametrizations of its weight do not matter."""
    own = any(getattr(type(conv), name) is not getattr(nn.Conv2d, name) for name in ("forward", "_conv_forward"))
    return not own and "forward" not in vars(conv)


def geometry_of(conv: nn.Conv2d, *, same: bool = False) -> ConvGeometry:
    """How a convolution moves by its attributes, or with ``same`` padding."""
    padding = conv.padding if isinstance(conv.padding, tuple) else (0, 0)
    pairs = (conv.kernel_size, conv.stride, padding, conv.dilation)
    kernel_size, stride, padding, dilation = ((int(a), int(b)) for a, b in pairs)
    return ConvGeometry(kernel_size, stride, padding, dilation, same or conv.padding == "same")


def guesses(conv: nn.Conv2d) -> Iterator[tuple[bool, ConvGeometry]]:
    """What it may compute: whether with its standardised weight, and how it may move."""
    for standardised in (False, True) if hasattr(conv, "eps") else (False,):
        for same in (False, True):
            yield standardised, geometry_of(conv, same=same)


def kernel(conv: nn.Conv2d, standardised: bool) -> Tensor:
    """The weight, or the weight with mean 0 and variance 1 in each filter, times its gain."""
    weight = conv.weight.detach()
    if not standardised:
        return weight
    known: Any = conv
    gain = (known.gain * known.scale).flatten() if hasattr(conv, "gain") else None
    rows = weight.reshape(1, len(weight), -1)
    standard = F.batch_norm(rows, None, None, weight=gain, training=True, momentum=0.0, eps=known.eps)
    return standard.reshape_as(weight)


def draw_images(conv: nn.Conv2d, every: bool) -> list[Tensor]:
    """Images (2, C, H, W) on which to try it: of sides that 32 divides, and with ``every`` of odd ones too."""
    reach = [(size - 1) * step + 1 for size, step in zip(conv.kernel_size, conv.dilation, strict=True)]
    height, width = (32 * (side // 32 + 1) for side in reach)
    sizes = [(height, width + 32), *([(height + 5, width + 13)] if every else [])]
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, conv.in_channels, *size, generator=generator, dtype=torch.float64) for size in sizes]


def answer(conv: nn.Conv2d, images: list[Tensor]) -> list[Tensor]:
    """What it makes of images in evaluation mode, and then in training mode."""
    with torch.random.fork_rng(devices=()):
        return [conv.train(mode)(image) for mode in (False, True) for image in images]
