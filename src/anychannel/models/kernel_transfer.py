"""A trained first kernel for other channels: what each new slice is made of.

A channel that the source knows keeps its slice. Any other starts from the slices of its neighbours in wavelength, or
from the mean of all if it has none. The slices are then scaled so that their sum stays: a picture that is the same in
every channel gives the same first features as before, and features keep their magnitude for any number of channels.

timm's ``adapt_input_conv`` keeps the sum too, but ignores which channel is which: it sums the slices for one channel,
and repeats R, G, B times 3/C for more. Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, inflate
kernels along time under the same invariant.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from anychannel.channels import ChannelSet
from anychannel.utils.names import unknown_name

FILLS = ("neighbours", "mean", "zero")

REACH_NM = 100.0
"""How far beyond the source's first and last wavelength a channel still copies that channel's slice."""

COLOURS = {"red": "r", "green": "g", "blue": "b"}
COLOUR_WAVELENGTHS_NM = {"r": 665.0, "g": 560.0, "b": 490.0}
"""For channels called R, G, B (or red ...) without a wavelength: Sentinel-2's B4, B3 and B2."""


def canonical(name: str) -> str:
    """A name for comparison: ``Red`` and ``R`` are one."""
    folded = name.casefold()
    return COLOURS.get(folded, folded)


def match_names(source: ChannelSet, target: ChannelSet) -> list[int | None]:
    """For each target channel, the position of the source channel with its name, or None.

    An exact match comes first, else one without regard to case, in which ``red`` is ``R``. A loose match of several
    channels counts as none.
    """
    loose: dict[str, list[int]] = {}
    for position, name in enumerate(source.names):
        loose.setdefault(canonical(name), []).append(position)
    exact = {name: position for position, name in enumerate(source.names)}
    wanted = [canonical(name) for name in target.names if name not in exact]

    def find(name: str) -> int | None:
        if name in exact:
            return exact[name]
        near = [position for position in loose.get(canonical(name), []) if source.names[position] not in target.names]
        return near[0] if len(near) == 1 and wanted.count(canonical(name)) == 1 else None

    return [find(name) for name in target.names]


def wavelengths(channels: ChannelSet) -> list[float | None]:
    """Centre wavelength of each channel in nanometres, by its name for colours, or None."""
    pairs = zip(channels.names, channels.wavelengths_nm, strict=True)
    return [COLOUR_WAVELENGTHS_NM.get(canonical(name)) if known is None else known for name, known in pairs]


def adopt_wavelengths(source: ChannelSet, target: ChannelSet) -> ChannelSet:
    """The target with the source's wavelengths for channels that both name and whose wavelengths it lacks."""
    pairs = zip(target.wavelengths_nm, match_names(source, target), strict=True)
    known = (source.wavelengths_nm[match] if own is None and match is not None else own for own, match in pairs)
    return replace(target, wavelengths_nm=tuple(known))


def resemblance(source: ChannelSet, target: ChannelSet, fill: str = "neighbours") -> Tensor:
    """Weights (C, C_source) of the source channels in each target channel.

    A row is 1 at the channel of the same name. Else, with ``neighbours`` and known wavelengths, it interpolates
    linearly between the source channels on either side, and is 1 at the last one up to ``REACH_NM`` beyond it. Else it
    is the mean of all (``neighbours``, ``mean``), or 0 (``zero``).
    """
    if fill not in FILLS:
        raise ValueError(unknown_name("fill", fill, FILLS))
    rows = torch.zeros(len(target), len(source), dtype=torch.float64)
    known = sorted((wave, i) for i, wave in enumerate(wavelengths(source)) if wave is not None)
    for row, wave, named in zip(rows, wavelengths(target), match_names(source, target), strict=True):
        if named is not None:
            row[named] = 1
            continue
        if fill == "zero":
            continue
        own = wave if fill == "neighbours" else None
        if own is None or not known or not known[0][0] - REACH_NM <= own <= known[-1][0] + REACH_NM:
            row[:] = 1 / len(source)
            continue
        below = max((entry for entry in known if entry[0] <= own), default=known[0])
        above = min((entry for entry in known if entry[0] >= own), default=known[-1])
        gap = above[0] - below[0]
        towards = 0.0 if gap <= 0 else (own - below[0]) / gap
        row[below[1]] += 1 - towards
        row[above[1]] += towards
    return rows


def transfer_kernel(weight: Tensor, source: ChannelSet, target: ChannelSet, fill: str = "neighbours") -> Tensor:
    """A kernel (out, C, kh, kw) for the target's channels from one (out, C_source, kh, kw) for the source's.

    Each source slice is shared among the target channels that resemble it, in proportion. A slice that none resembles
    is shared evenly among all, so that the sum of the slices stays. With ``fill="zero"`` slices of known names are
    copied unchanged and all others are zero.
    """
    rows = resemblance(source, target, fill)
    if fill != "zero":
        claims = rows.sum(0)
        rows = torch.where(claims > 0, rows / claims.clamp(min=1e-12), 1 / len(target))
    return torch.einsum("okyx,ck->ocyx", weight, rows.to(weight))
