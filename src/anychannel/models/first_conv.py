"""A network's first convolution: which one it is, and the kernel that it applies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import Tensor, nn

from anychannel.nn.stems import ConvGeometry, geometry_of


@dataclass(frozen=True)
class FirstConv:
    """A network's first convolution.

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


def read_first_conv(network: nn.Module, in_chans: int, first_conv: str | None = None) -> FirstConv:
    """The first convolution of an ordinary network; see ``find_first_conv``."""
    path, conv = find_first_conv(network, in_chans, first_conv)
    bias = None if conv.bias is None else conv.bias.detach()
    return FirstConv(path, kernel_of(conv), bias, geometry_of(conv))


@torch.no_grad()
def kernel_of(conv: nn.Conv2d) -> Tensor:
    """The kernel (out, C, kh, kw) that a convolution applies.

    For a weight-standardised convolution (NFNet, BiT) that is not its weight. A stem that starts from this kernel is no
    longer standardised when it is trained.
    """
    weight = conv.weight.detach()
    if isinstance(conv, StdConv2d | StdConv2dSame | ScaledStdConv2d | ScaledStdConv2dSame):
        gain = (conv.gain * conv.scale).flatten() if hasattr(conv, "gain") else None
        rows = weight.reshape(1, len(weight), -1)
        standard = F.batch_norm(rows, None, None, weight=gain, training=True, momentum=0.0, eps=conv.eps)
        return standard.reshape_as(weight)
    return weight


def find_first_conv(network: nn.Module, in_chans: int, first_conv: str | None = None) -> tuple[str, nn.Conv2d]:
    """Path and module of the convolution that meets the images.

    It is the one named, else timm's own note of it, else ``conv1``, else the only one of that width. A first block
    that is several convolutions side by side (RepVGG, MobileOne, FastViT) is merged into one, in place, as timm's
    ``reparameterize`` does it, which keeps what the network computes in evaluation.

    Args:
        network: any network.
        in_chans: number of channels of its images.
        first_conv: path of the convolution, as ``"patch_embed.proj"``; None looks for it.

    Raises:
        ValueError: there is none, or several; the message says which to name.
    """
    kind = type(network).__name__
    fitting = convolutions(network, in_chans)
    if first_conv is not None:
        if first_conv in fitting:
            return first_conv, fitting[first_conv]
        found = dict(network.named_modules()).get(first_conv)
        what = "is not there" if found is None else f"is {describe(found)}"
        raise ValueError(
            f"first_conv={first_conv!r} of {kind} {what}; it must be a convolution that takes {in_chans} channels"
            f"{advise(list(fitting))}"
        )
    noted = [path for path in noted_paths(network) if path in fitting]
    block = merge_branches(network, noted[0], in_chans) if noted else None
    if block is not None:
        fitting = convolutions(network, in_chans)
        noted = [path for path in fitting if path.startswith(f"{block}.")]
    if len(noted) > 1:
        raise ValueError(
            f"{kind} looks at the images through {len(noted)} convolutions ({', '.join(noted)}), and one stem cannot "
            "stand for all; choose another network"
        )
    candidates = noted or list(fitting)
    if len(candidates) == 1:
        return candidates[0], fitting[candidates[0]]
    if not candidates:
        raise ValueError(
            f"{kind} has no convolution with {in_chans} input channels for a stem to replace (its images are "
            "rearranged first, or its first layer is a linear map); choose another network"
        )
    raise ValueError(
        f"{kind} has {len(candidates)} convolutions that take {in_chans} channels; say which one meets the images"
        f"{advise(candidates)}"
    )


def convolutions(network: nn.Module, in_chans: int) -> dict[str, nn.Conv2d]:
    """All convolutions of a width, by path, in the network's order."""
    return {
        path: module
        for path, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.in_channels == in_chans
    }


def noted_paths(network: nn.Module) -> Sequence[str]:
    """What the network says is its first convolution, timm's ``pretrained_cfg['first_conv']``; else ``conv1``."""
    noted = (getattr(network, "pretrained_cfg", None) or {}).get("first_conv") or "conv1"
    return (noted,) if isinstance(noted, str) else tuple(noted)


def merge_branches(network: nn.Module, path: str, in_chans: int) -> str | None:
    """Merge the parallel convolutions of the block around ``path``; returns the block's path, None if it has none."""
    names = path.split(".")
    for depth in range(len(names) - 1, 0, -1):
        block = ".".join(names[:depth])
        module = network.get_submodule(block)
        merge = getattr(module, "reparameterize", None)
        if callable(merge) and len(convolutions(module, in_chans)) > 1:
            merge()
            return block
    return None


def advise(paths: Sequence[str]) -> str:
    """Which value of ``first_conv`` to pass."""
    listed = ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
    return f": first_conv={paths[0]!r}, or another of {listed}" if paths else "; there is none"


def describe(module: nn.Module) -> str:
    """A module in two words."""
    width = f" of {module.in_channels} channels" if isinstance(module, nn.Conv2d) else ""
    return f"a {type(module).__name__}{width}"
