"""The module that replaces a network's first convolution; the network's ``forward`` stays as it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from anychannel.channels import Subset
from anychannel.nn.batch_rows import cut_rows, is_channels_last, join_rows
from anychannel.nn.channel_sampling import Part
from anychannel.nn.stems import Stem
from anychannel.nn.subset_context import Shown, current_shown


class ConvAttributes:
    """The attributes of a convolution that networks read, such as ``weight.dtype``, of a module that holds a stem."""

    stem: Stem

    @property
    def weight(self) -> Tensor:
        """A parameter of the stem, for its type and device; a plain kernel if the stem has one."""
        return self.stem.weight_like

    @property
    def bias(self) -> Tensor | None:
        """The stem's bias."""
        return self.stem.bias

    @property
    def in_channels(self) -> int:
        """The number of channels of the full set."""
        return self.stem.in_chans

    @property
    def out_channels(self) -> int:
        """The number of features."""
        return self.stem.out_chans

    @property
    def kernel_size(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        return self.stem.geometry.kernel_size

    @property
    def stride(self) -> tuple[int, int]:
        """Vertical and horizontal stride."""
        return self.stem.geometry.stride

    @property
    def padding(self) -> tuple[int, int]:
        """Vertical and horizontal padding."""
        return self.stem.geometry.padding

    @property
    def dilation(self) -> tuple[int, int]:
        """Vertical and horizontal dilation."""
        return self.stem.geometry.dilation

    @property
    def groups(self) -> int:
        """Always 1."""
        return 1


class AdaptiveConv2d(ConvAttributes, nn.Module):
    """Runs the stem on each row's subset; it also holds the model's ``ChannelInput``, which belongs to the stem."""

    channel_input: Any

    def __init__(self, stem: Stem) -> None:
        super().__init__()
        self.stem = stem

    def forward(self, images: Tensor) -> Tensor:
        """(B, k, H, W) of one subset, or (B, C, H, W) with a subset for each row -> (B, out, H', W')."""
        shown = current_shown()
        if shown.present is not None:
            return self.mix_by_presence(images, shown.present)
        parts = [part for part in shown.parts if len(part)]
        if len(parts) > 1 and self.stem.estimates:
            return self.mix(images, parts, shown)
        channels_last = is_channels_last(images) or is_channels_last(self.weight)

        def convolve(rows: Tensor, part: Part) -> Tensor:
            planes = pick(rows, part.subset)
            if channels_last and len(part.subset) == 1:  # strides tell a convolution its format, of one channel too
                planes = planes.squeeze(1).unsqueeze(-1).permute(0, 3, 1, 2)
            features: Tensor = self.stem(planes, part.subset)
            return features

        if shown.order is not None:
            rows = [some for some in shown.places(len(images)) if len(some)]
            return join_rows(list(map(convolve, cut_rows(images, rows), parts)), rows)
        if len(parts) == 1:
            return convolve(images, parts[0])
        return torch.cat([convolve(images[part.start : part.stop], part) for part in parts])

    def mix(self, images: Tensor, parts: list[Part], shown: Shown) -> Tensor:
        """Estimate each row's missing channels, and convolve the whole batch at once."""
        matrices = torch.stack([spread(self.stem.estimate(part.subset), part.subset) for part in parts])
        biases = [self.stem.bias_for(part.subset) for part in parts]
        lengths = [len(part) for part in parts]
        number = torch.arange(len(parts)).repeat_interleave(torch.tensor(lengths))
        number = number.to(images.device, non_blocking=True)
        number = number if shown.inverse is None else number[shown.inverse]
        if all(bias is biases[0] for bias in biases):
            return self.convolve(images, matrices[number], biases[0])
        return self.convolve(images, matrices[number], None) + self.table(biases)[number][:, :, None, None]

    def mix_by_presence(self, images: Tensor, present: Tensor) -> Tensor:
        """``mix`` in operations that are the same for all subsets; ``present`` is (B, C)."""
        known = present.to(self.stem.weight_like.dtype)
        matrices = torch.stack([self.stem.estimate_where(row) for row in known.unbind()])
        biases = [self.stem.bias_where(row) for row in known.unbind()]
        if biases[0] is None or biases[0] is self.stem.bias:
            return self.convolve(images, matrices, biases[0])
        return self.convolve(images, matrices, None) + self.table(biases)[:, :, None, None]

    def table(self, biases: list[Tensor | None]) -> Tensor:
        """Biases as rows; no bias is zeros."""
        nothing = self.weight.new_zeros(self.out_channels)
        return torch.stack([nothing if bias is None else bias for bias in biases])

    def convolve(self, images: Tensor, matrices: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve images (B, C, H, W) after each one's matrix (C, C) was applied to its channels."""
        held = (matrices != 0).any(1)  # a missing channel's plane may hold NaN
        images = torch.where(held[:, :, None, None], images, 0)
        pixels = images.permute(0, 2, 3, 1)
        with torch.autocast(images.device.type, enabled=False):
            mixed = torch.bmm(pixels.flatten(1, 2), matrices.to(images.dtype).transpose(1, 2))
        mixed = mixed.view(pixels.shape).permute(0, 3, 1, 2)
        if not is_channels_last(images):
            mixed = mixed.contiguous()
        everything = tuple(range(self.stem.in_chans))
        return self.stem.geometry.convolve(mixed, self.stem.kernel(everything), bias)


def pick(images: Tensor, subset: Subset) -> Tensor:
    """The planes of a subset, of images that hold just these or all channels."""
    return images if images.shape[1] == len(subset) else images[:, list(subset)]


def spread(matrix: Tensor, subset: Subset) -> Tensor:
    """A matrix (C, k) of a subset's channels as (C, C), with zeros for the missing ones."""
    return matrix.new_zeros(len(matrix), len(matrix)).index_copy(1, torch.tensor(subset, device=matrix.device), matrix)
