"""Blocks of the compact network: self-attention, squeeze-and-excitation, residual block.

Sources: Zhang et al., "Self-Attention Generative Adversarial Networks", ICML 2019 (the attention with a learned gate
that starts closed); Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018; Wang et al., "ESRGAN", ECCV 2018 workshops
(the scaled residual).
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anychannel.models.cpu_attention import CPUAttention, applies_to


class SelfAttention(nn.Module):
    """gamma * softmax(Q K^T) V + x over all positions of a feature map, without 1/sqrt(d); gamma starts at 0.

    Runs on PyTorch's fused attention, whose memory is linear in the number of positions. The fused CPU kernels need
    queries, keys and values of one width, so queries and keys are padded with zeros, which changes no product. Small
    maps in training on a CPU are an exception, see ``cpu_attention.py``.
    """

    literal = False
    """Compute softmax(Q K^T) V step by step, with memory quadratic in positions. FLOP counters need this, because they
    do not see inside the fused kernel."""

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, key_channels, 1)
        self.key = nn.Conv2d(channels, key_channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        query, key, value = (layer(x).flatten(2).transpose(1, 2) for layer in (self.query, self.key, self.value))
        if self.literal:
            attended = torch.bmm(F.softmax(torch.bmm(query, key.transpose(1, 2)), dim=-1), value)
        else:
            attended = self.attend(query, key, value)
        gated: Tensor = self.gamma * attended.transpose(1, 2).reshape(x.shape)
        return gated + x

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """softmax(Q K^T) V: (B, N, D), (B, N, D) and (B, N, C) -> (B, N, C)."""
        if applies_to(value):
            return cast("Tensor", CPUAttention.apply(query.bfloat16(), key.bfloat16(), value.bfloat16()))
        missing = value.shape[-1] - query.shape[-1]
        query, key = F.pad(query, (0, missing)), F.pad(key, (0, missing))
        # one head each; without contiguous rows the CPU falls back to the quadratic form
        query, key, value = (tensor.contiguous().unsqueeze(1) for tensor in (query, key, value))
        return F.scaled_dot_product_attention(query, key, value, scale=1.0).squeeze(1)


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate computed from all channels' means."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        if channels < reduction:
            raise ValueError(
                f"squeeze-and-excitation of {channels} channels would leave none of them with a reduction of "
                f"{reduction}; make the network wider"
            )
        self.reduce = nn.Linear(channels, channels // reduction, bias=False)
        self.expand = nn.Linear(channels // reduction, channels, bias=False)
        self.relu = nn.ReLU()
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        means = F.adaptive_avg_pool2d(x, 1).flatten(1)
        gates: Tensor = self.gate(self.expand(self.relu(self.reduce(means))))
        return x * gates[:, :, None, None]


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions, attention and two squeeze-and-excitations, scaled by 0.2 and added to the input.

    The report calls it RRDB. Its parameter count shows that the convolutions are a plain chain, without dense links.
    """

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.attention = SelfAttention(channels, key_channels)
        self.excitations = nn.Sequential(SqueezeExcitation(channels), SqueezeExcitation(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        refined: Tensor = self.excitations(self.attention(self.convs(x)))
        return x + 0.2 * refined
