"""Stems by name, and a stem in the image of any convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from anychannel.names import unknown_name
from anychannel.stems.base import ConvGeometry, Stem
from anychannel.stems.completion import CompletionStem
from anychannel.stems.generated import HypernetworkStem, TemplateStem
from anychannel.stems.grey import GreyStem
from anychannel.stems.kernel_attention import KernelAttentionStem
from anychannel.stems.masked import MaskedStem
from anychannel.stems.per_size import PerSizeStem
from anychannel.stems.sliced import SlicedStem
from anychannel.stems.static import StaticStem
from anychannel.stems.table import TableStem

STEMS: dict[str, type[Stem]] = {
    "static": StaticStem,
    "completion": CompletionStem,
    "sliced": SlicedStem,
    "grey": GreyStem,
    "table": TableStem,
    "hypernetwork": HypernetworkStem,
    "template": TemplateStem,
    "masked": MaskedStem,
    "per_size": PerSizeStem,
    "kernel_attention": KernelAttentionStem,
}


def list_stems() -> list[str]:
    """Names that ``create_model(..., stem=name)`` takes."""
    return list(STEMS)


def geometry_of(conv: nn.Conv2d) -> ConvGeometry:
    """How a convolution moves over its input.

    Raises:
        ValueError: it is grouped, pads with something other than zeros, or transforms its kernel
            (weight standardisation), so that no stem would compute the same.
    """
    kind = type(conv).__name__
    if conv.groups != 1 or conv.padding_mode != "zeros" or "Std" in kind:
        raise ValueError(
            f"the first convolution is a {kind} with groups={conv.groups}, padding_mode={conv.padding_mode!r}; "
            "a stem replaces only plain convolutions with groups=1 and zero padding"
        )
    same = conv.padding == "same" or "Same" in kind
    padding = conv.padding if isinstance(conv.padding, tuple) else (0, 0)
    pairs = (conv.kernel_size, conv.stride, padding, conv.dilation)
    kernel_size, stride, padding, dilation = ((int(a), int(b)) for a, b in pairs)
    return ConvGeometry(kernel_size, stride, padding, dilation, same)


def create_stem(
    name: str, conv: nn.Conv2d, *, correlation: Sequence[Sequence[float]] | None = None, **options: Any
) -> Stem:
    """A stem in the image of ``conv``, starting from its kernel.

    Args:
        name: one of ``list_stems()``.
        conv: the convolution to replace; its input channels are the full set.
        correlation: (C, C) correlation of the channels, for the stems that use it.
        options: the stem's own keyword options.

    Raises:
        ValueError: the name or an option is unknown (the message lists the valid names), or ``conv`` is not plain.
    """
    if name not in STEMS:
        raise ValueError(unknown_name("stem", name, STEMS))
    geometry, bias = geometry_of(conv), conv.bias is not None
    if STEMS[name].uses_correlation:
        options["correlation"] = correlation
    try:
        stem = STEMS[name](conv.in_channels, conv.out_channels, geometry, bias, **options)
    except TypeError as error:
        raise ValueError(f"stem {name!r} does not take these options: {error}") from error
    stem.initialise_from(conv.weight.detach(), None if conv.bias is None else conv.bias.detach())
    return stem
