"""Augmentation image by image, channel by channel, pixel by pixel, from the same draws."""

from __future__ import annotations

import torch
from torch import Tensor


def augment(
    images: Tensor, *, crop_padding: int, flip: bool, jitter: float, fill: Tensor, generator: torch.Generator
) -> Tensor:
    """Pad, crop, mirror, then change contrast about the mean and brightness."""
    batch, channels, height, width = images.shape
    tops, lefts = torch.randint(0, 2 * crop_padding + 1, (2, batch), generator=generator).tolist()
    coins = torch.rand(batch, generator=generator).tolist()
    brightness, contrast = torch.rand(2, batch, channels, 1, 1, generator=generator)[..., 0, 0].tolist()
    result = torch.empty(batch, channels, height, width)
    for i in range(batch):
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    column = width - 1 - x if flip and coins[i] < 0.5 else x
                    from_y = y + tops[i] - crop_padding
                    from_x = column + lefts[i] - crop_padding
                    inside = 0 <= from_y < height and 0 <= from_x < width
                    result[i, c, y, x] = float(images[i, c, from_y, from_x]) if inside else fill[c]
            if jitter:
                mean = result[i, c].mean()
                changed = (1 + jitter * (2 * contrast[i][c] - 1)) * (result[i, c] - mean) + mean
                result[i, c] = (1 + jitter * (2 * brightness[i][c] - 1)) * changed
    return result
