"""The compact network's blocks, position by position."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from anychannel.models.attention import ResidualBlock, SelfAttention, SqueezeExcitation


def self_attention(block: SelfAttention, x: Tensor) -> Tensor:
    """gamma * softmax(Q K^T) V + x, one query position at a time."""
    result = torch.empty_like(x)
    for i, image in enumerate(x):
        flat = image.flatten(1)
        query, key, value = (
            layer.weight[:, :, 0, 0] @ flat + layer.bias[:, None] for layer in (block.query, block.key, block.value)
        )
        columns = []
        for position in range(flat.shape[1]):
            scores = torch.stack([query[:, position] @ key[:, other] for other in range(flat.shape[1])])
            shares = torch.exp(scores - scores.max())
            columns.append(value @ (shares / shares.sum()))
        result[i] = (block.gamma * torch.stack(columns, dim=1)).view_as(image) + image
    return result


def squeeze_excitation(block: SqueezeExcitation, x: Tensor) -> Tensor:
    """Means, two matrices, a gate a channel."""
    result = torch.empty_like(x)
    for i, image in enumerate(x):
        means = torch.stack([plane.mean() for plane in image])
        gates = 1 / (1 + torch.exp(-(block.expand.weight @ (block.reduce.weight @ means).clamp(min=0))))
        result[i] = torch.stack([gate * plane for gate, plane in zip(gates, image, strict=True)])
    return result


def residual_block(block: ResidualBlock, x: Tensor) -> Tensor:
    """Three convolutions, attention, two excitations, scaled, added."""
    first, _, second, _, third = block.convs
    hidden = F.conv2d(x, first.weight, first.bias, padding=1).clamp(min=0)
    hidden = F.conv2d(hidden, second.weight, second.bias, padding=1).clamp(min=0)
    hidden = F.conv2d(hidden, third.weight, third.bias, padding=1)
    hidden = self_attention(block.attention, hidden)
    for excitation in block.excitations:
        hidden = squeeze_excitation(excitation, hidden)
    return x + 0.2 * hidden
