"""Stems by name, and a stem in place of any convolution."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

from torch import Tensor, nn

from anychannel.nn.stems.base import ConvGeometry, Stem, StemShape
from anychannel.nn.stems.completion import CompletionStem
from anychannel.nn.stems.descriptor import DescriptorStem
from anychannel.nn.stems.dofa import DofaStem
from anychannel.nn.stems.generated import HypernetworkStem, TemplateStem
from anychannel.nn.stems.kernel_attention import KernelAttentionStem
from anychannel.nn.stems.masked import MaskedStem
from anychannel.nn.stems.per_size import PerSizeStem
from anychannel.nn.stems.plain_conv import as_plain_conv
from anychannel.nn.stems.static import GreyStem, SlicedStem, StaticStem, TableStem
from anychannel.utils.names import unknown_name
from anychannel.utils.options import registry_options

STEMS: dict[str, type[Stem]] = {
    "static": StaticStem,
    "completion": CompletionStem,
    "sliced": SlicedStem,
    "grey": GreyStem,
    "table": TableStem,
    "hypernetwork": HypernetworkStem,
    "template": TemplateStem,
    "descriptor": DescriptorStem,
    "dofa": DofaStem,
    "masked": MaskedStem,
    "per_size": PerSizeStem,
    "kernel_attention": KernelAttentionStem,
}


def list_stems() -> list[str]:
    """Names that ``create_model(..., stem=name)`` takes."""
    return list(STEMS)


def create_stem(name: str, conv: nn.Conv2d, **options: Any) -> Stem:
    """A stem that replaces ``conv`` and starts from its weights; the options are keyword options of ``build_stem``."""
    return build_stem(name, *as_plain_conv(conv), **options)


def build_stem(
    name: str,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    *,
    correlation: Sequence[Sequence[float]] | None = None,
    offset: Sequence[float] | None = None,
    levels: Sequence[Sequence[float]] | None = None,
    wavelengths_nm: Sequence[float | None] | None = None,
    **options: Any,
) -> Stem:
    """A stem that starts from a kernel, on the kernel's device and in its precision.

    Args:
        name: one of ``list_stems()``.
        weight: (out, C, kh, kw), where C is the number of channels of the full set.
        bias: (out,) or None.
        geometry: stride, padding and dilation.
        correlation: (C, C) covariance of the normalised channels, for stems that use it.
        offset: (C,) means of the normalised channels; None means zeros.
        levels: (2, C) normalised value of 0 and normalised size of 1 in the files' units; None means unknown.
        wavelengths_nm: (C,) wavelengths of the channels, for stems that use them.
        options: the stem's own keyword options; ValueError if one is unknown or of another type.
    """
    if name not in STEMS:
        raise ValueError(unknown_name("stem", name, STEMS))
    kind = STEMS[name]
    moments = {"correlation": correlation, "offset": offset, "levels": levels}
    measured: dict[str, Any] = moments if kind.uses_correlation else {}
    measured |= {"wavelengths_nm": wavelengths_nm} if kind.uses_wavelengths else {}
    shape = StemShape(weight.shape[1], len(weight), geometry, bias is not None)
    checked = registry_options("stem", name, kind, options, reserved=("shape", *measured))
    bound = signature(kind).bind(shape, **checked, **measured)
    bound.apply_defaults()
    stem = kind(*bound.args, **bound.kwargs)
    stem.options = {option: value for option, value in bound.kwargs.items() if option not in measured}
    stem.initialise_from(weight.cpu(), None if bias is None else bias.cpu())
    return stem.to(device=weight.device, dtype=weight.dtype)
