"""A network's first convolution: where it is, and the kernel that it applies."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from anychannel.models.head import TRIAL_SIZES, try_out
from anychannel.nn.stems import ConvGeometry, as_plain_conv
from anychannel.utils.plurals import few, plural


@dataclass(frozen=True)
class FirstConv:
    """A network's first convolution: its path, its kernel (out, C, kh, kw), its bias (out,), and how it moves."""

    path: str
    weight: Tensor
    bias: Tensor | None
    geometry: ConvGeometry


def as_first_conv(path: str, conv: nn.Conv2d) -> FirstConv:
    """A convolution with the kernel that it applies; see ``as_plain_conv``, also for the errors."""
    return FirstConv(path, *as_plain_conv(conv, f"the first convolution, {path},"))


def read_first_conv(network: nn.Module, in_chans: int, first_conv: str | None = None) -> FirstConv:
    """The convolution that takes the images, which have ``in_chans`` channels.

    This is the one at the path ``first_conv``. Without a path it is the one that timm notes in ``pretrained_cfg``, else
    the only convolution of that width, else ``conv1`` if it alone meets the images when the network is tried. If the
    first block consists of parallel convolutions (RepVGG, MobileOne, FastViT), they are merged in place with timm's
    ``reparameterize``. The network's output in evaluation mode stays the same.

    Raises:
        ValueError: there is none, or there are several; the message says what to pass.
    """
    kind = type(network).__name__
    fitting = convolutions(network, in_chans)
    if first_conv is not None:
        if first_conv in fitting:
            return as_first_conv(first_conv, fitting[first_conv])
        found = dict(network.named_modules()).get(first_conv)
        width = f" of {found.in_channels} channels" if isinstance(found, nn.Conv2d) else ""
        what = "is not there" if found is None else f"is a {type(found).__name__}{width}"
        raise ValueError(
            f"first_conv={first_conv!r} of {kind} {what}; it must be a convolution that takes {in_chans} channels"
            f"{advise(list(fitting))}"
        )
    paths = as_tuple((getattr(network, "pretrained_cfg", None) or {}).get("first_conv"))
    noted = [path for path in paths if path in fitting]
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
    if len(candidates) > 1 and "conv1" in candidates and meets_images(network, "conv1", candidates, in_chans):
        candidates = ["conv1"]
    if len(candidates) == 1:
        return as_first_conv(candidates[0], fitting[candidates[0]])
    if not candidates:
        first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
        if first is not None and first.groups == 1 and first.in_channels != in_chans:
            raise ValueError(
                f"{kind} has no convolution with {in_chans} input channels, and its first one has {first.in_channels}; "
                f"pass source_channels with the names of the {plural(first.in_channels, 'channel')} that it was "
                "trained on, or, if its images are rearranged first, choose another network"
            )
        raise ValueError(
            f"{kind} has no convolution with {in_chans} input channels for a stem to replace (its images are "
            "rearranged first, or its first layer is a linear map); choose another network"
        )
    raise ValueError(
        f"{kind} has {len(candidates)} convolutions that take {in_chans} channels; say which one meets the images"
        f"{advise(candidates)}"
    )


def convolutions(network: nn.Module, in_chans: int) -> dict[str, nn.Conv2d]:
    """All convolutions with ``in_chans`` input channels, by path, in the network's order."""
    return {
        path: module
        for path, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.in_channels == in_chans
    }


def meets_images(network: nn.Module, path: str, others: Sequence[str], in_chans: int) -> bool:
    """Whether, of some convolutions, the one at ``path`` is the first in a trial and no other takes what it takes.

    False if the network takes no trial image.
    """
    tried = copy.deepcopy(network)
    met: list[tuple[str, Tensor]] = []
    for name in others:

        def note(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
            met.extend((name, images) for images in inputs[:1])

        tried.get_submodule(name).register_forward_pre_hook(note)
    answered = next(try_out(tried, in_chans, sorted(TRIAL_SIZES), span=1.0), None)
    if answered is None or not met:
        return False
    (first, shown), *later = met
    return first == path and not any(name != path and torch.equal(images, shown) for name, images in later)


def as_tuple(names: Any) -> tuple[str, ...]:
    """The paths in one entry of timm's ``pretrained_cfg``, which holds one path, several, or None."""
    return (names,) if isinstance(names, str) else tuple(names or ())


def merge_branches(network: nn.Module, path: str, in_chans: int) -> str | None:
    """Merge the parallel convolutions of the block around ``path``. Returns the block's path, or None without one."""
    names = path.split(".")
    for depth in range(len(names) - 1, 0, -1):
        block = ".".join(names[:depth])
        module = network.get_submodule(block)
        merge = getattr(module, "reparameterize", None)
        if callable(merge) and len(convolutions(module, in_chans)) > 1:
            merge()
            return block
    return None


def advise(paths: list[str]) -> str:
    """The end of a message: which values of ``first_conv`` are possible."""
    return f": first_conv={paths[0]!r}, or another of {few(paths, 5)}" if paths else "; there is none"
