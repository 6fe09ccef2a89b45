"""Stems by name, and a stem in the image of any convolution."""

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
from anychannel.nn.stems.static import GreyStem, SlicedStem, StaticStem
from anychannel.nn.stems.table import TableStem
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


def geometry_of(conv: nn.Conv2d) -> ConvGeometry:
    """How a convolution moves over its input.

    Raises:
        ValueError: it is grouped or pads with something other than zeros, so that no stem would compute the same.
    """
    kind = type(conv).__name__
    if conv.groups != 1 or conv.padding_mode != "zeros":
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
    name: str,
    conv: nn.Conv2d,
    *,
    correlation: Sequence[Sequence[float]] | None = None,
    offset: Sequence[float] | None = None,
    **options: Any,
) -> Stem:
    """A stem in the image of ``conv``, starting from its weight; see ``build_stem``.

    Raises:
        ValueError: the name or an option is unknown (the message lists the valid names), or ``conv`` is not plain.
    """
    bias = None if conv.bias is None else conv.bias.detach()
    geometry = geometry_of(conv)
    return build_stem(name, conv.weight.detach(), bias, geometry, correlation=correlation, offset=offset, **options)


def build_stem(
    name: str,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    *,
    correlation: Sequence[Sequence[float]] | None = None,
    offset: Sequence[float] | None = None,
    wavelengths_nm: Sequence[float | None] | None = None,
    **options: Any,
) -> Stem:
    """A stem that starts from a kernel, on its device and in its precision.

    Args:
        name: one of ``list_stems()``.
        weight: (out, C, kh, kw), C being the full set.
        bias: (out,), None where the convolution has none.
        geometry: how the kernel moves.
        correlation: (C, C) covariance of the normalised channels, for the stems that use it.
        offset: (C,) their means, None where they are zero.
        wavelengths_nm: (C,) the channels' wavelengths, for the stems that use them.
        options: the stem's own keyword options.

    Raises:
        ValueError: the name or an option is unknown, or an option of another type; the message lists the valid names.
    """
    if name not in STEMS:
        raise ValueError(unknown_name("stem", name, STEMS))
    kind = STEMS[name]
    measured: dict[str, Any] = {"correlation": correlation, "offset": offset} if kind.uses_correlation else {}
    measured |= {"wavelengths_nm": wavelengths_nm} if kind.uses_wavelengths else {}
    shape = StemShape(weight.shape[1], len(weight), geometry, bias is not None)
    checked = registry_options("stem", name, kind, options, reserved=("shape", *measured))
    bound = signature(kind).bind(shape, **checked, **measured)
    bound.apply_defaults()
    stem = kind(*bound.args, **bound.kwargs)
    stem.options = {option: value for option, value in bound.kwargs.items() if option not in measured}
    stem.initialise_from(weight.cpu(), None if bias is None else bias.cpu())
    return stem.to(device=weight.device, dtype=weight.dtype)
