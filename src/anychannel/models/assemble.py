"""Put a stem where a network's first convolution was, and make a classifier of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from anychannel.channels import ChannelSet
from anychannel.models.first_conv import find_first_conv
from anychannel.models.kernel_transfer import wavelength
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.classifier import Classifier, ModelSpec
from anychannel.nn.normalisation import moments
from anychannel.nn.replacing import replace_module
from anychannel.nn.stems import STEMS, CompletionStem, ConvGeometry, build_stem, geometry_of, kernel_of
from anychannel.nn.subset_batchnorm import MOST_CHANNELS, choose_norm, install_norms


@dataclass(frozen=True)
class Front:
    """What a network looks at its images with.

    Args:
        path: where it sits in the network.
        weight: kernel (out, C, kh, kw).
        bias: (out,) or None.
        geometry: how the kernel moves.
    """

    path: str
    weight: Tensor
    bias: Tensor | None
    geometry: ConvGeometry


def read_front(network: nn.Module, in_chans: int, first_conv: str | None = None) -> Front:
    """The front of an ordinary network; see ``find_first_conv`` for what may be changed and what is refused."""
    path, conv = find_first_conv(network, in_chans, first_conv)
    bias = None if conv.bias is None else conv.bias.detach()
    return Front(path, kernel_of(conv), bias, geometry_of(conv))


def assemble(
    network: nn.Module,
    channels: ChannelSet,
    spec: ModelSpec,
    *,
    transfer: Callable[[Tensor], Tensor] | None = None,
    front: Front | None = None,
) -> Classifier:
    """A classifier from a network, in place.

    Args:
        network: one whose first convolution takes ``spec.in_chans`` channels, or as many as ``channels`` has.
        channels: the full set.
        spec: which stem, norms, normalisation; kept with the model. Where the norm is ``auto`` and comes to one batch
            norm for all, as for many channels, ``completion`` learns which of them are missing (``presence``).
        transfer: makes the kernel (out, C, kh, kw) for ``channels`` from the network's own; None takes it as it is.
        front: what the network looks at images with, where that is known.

    Raises:
        ValueError: the network has no convolution that a stem can replace, or the spec names something unknown.
    """
    before = front or read_front(network, spec.in_chans or len(channels), spec.first_conv)
    weight = before.weight if transfer is None else transfer(before.weight)
    if spec.norm == "auto":
        norm = choose_norm(channels, spec.stem, network)
        telling = norm == "shared" and len(channels) > MOST_CHANNELS and STEMS.get(spec.stem) is CompletionStem
        presence = {"presence": True} if telling else {}
        spec = replace(spec, norm=norm, stem_options=presence | spec.stem_options)
    stem = build_stem(
        spec.stem,
        weight,
        before.bias,
        before.geometry,
        wavelengths_nm=[wavelength(channels, i) for i in range(len(channels))],
        **moments(channels, spec.normalisation) | spec.stem_options,
    )
    replace_module(network, network.get_submodule(before.path), AdaptiveConv2d(stem))
    install_norms(network, spec.norm, channels)
    return Classifier(network, channels, spec)
