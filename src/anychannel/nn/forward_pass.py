"""The start and end of every forward pass of a channel-adaptive network, whichever of its methods is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anychannel.channels import ChannelSet
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.channel_input import ChannelInput
from anychannel.nn.channel_sampling import Part
from anychannel.nn.input_range import has_values
from anychannel.nn.row_sampling import share_subsets
from anychannel.nn.subset_context import last_shown, remember_for_backward, subset_context


def run_pass(
    network: nn.Module,
    conv: AdaptiveConv2d,
    call: Callable[[Tensor], Any],
    images: Tensor,
    channels: ChannelSet | str | Sequence[str] | None = None,
    present: Any = None,
    parts: Sequence[Part] | None = None,
) -> Any:
    """``call`` with normalised images, while stem and batch norms know which subset each row shows.

    For the arguments see ``Classifier.forward``.
    """
    entrance: ChannelInput = conv.channel_input
    inputs, shown = entrance.prepare(images, channels, present, parts, conv.weight.dtype, training=network.training)
    if present is not None and network.training:
        shown = share_subsets(shown, network)
    with subset_context(shown, entrance):
        output = call(inputs)
    if torch.is_grad_enabled() and has_values(images):
        remember_for_backward(output, shown)
    return output


def continue_pass(conv: AdaptiveConv2d, call: Callable[[], Any]) -> Any:
    """``call``, a later part of this thread's last pass, such as a timm network's ``forward_head``."""
    shown = last_shown(conv.channel_input)
    if shown is None:
        return call()
    with subset_context(shown, conv.channel_input):
        return call()


def find_conv(network: nn.Module) -> AdaptiveConv2d:
    """The module where a network's first convolution was; RuntimeError if it has none."""
    for module in network.modules():
        if isinstance(module, AdaptiveConv2d):
            return module
    raise RuntimeError(f"{type(network).__name__} holds no stem")


def stem_paths(network: nn.Module) -> list[str]:
    """All names of that module in the network."""
    named = network.named_modules(remove_duplicate=False)
    return [path for path, module in named if isinstance(module, AdaptiveConv2d)]
