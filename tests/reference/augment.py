"""Augmentation image by image, channel by channel, pixel by pixel, from the same draws."""

from __future__ import annotations

import math

import torch
import torchvision.transforms.v2.functional as tv
from torch import Tensor


def augment(
    images: Tensor,
    *,
    crop_padding: int,
    flip: bool,
    jitter: float,
    fill: Tensor,
    generator: torch.Generator,
    vertical_flip: bool = False,
    rotate90: bool = False,
    crop_scale: float = 1.0,
    gain: float = 0.0,
    offset: float = 0.0,
    erase: float = 0.0,
    std: Tensor | None = None,
) -> Tensor:
    """Resize a box, pad, crop, turn, mirror, change contrast about the mean and brightness, gain and offset, erase."""
    batch, channels, height, width = images.shape
    tops, lefts = torch.randint(0, 2 * crop_padding + 1, (2, batch), generator=generator).tolist()
    coins = torch.rand(batch, generator=generator).tolist()
    brightness, contrast = torch.rand(2, batch, channels, 1, 1, generator=generator)[..., 0, 0].tolist()
    draws = torch.rand(11, batch, generator=generator).tolist()
    gains, offsets = torch.rand(2, batch, channels, 1, 1, generator=generator)[..., 0, 0].tolist()
    result = torch.empty(batch, channels, height, width)
    for i in range(batch):
        image = images[i].float()
        if crop_scale < 1:
            drawn = box([row[i] for row in draws[2:6]], height, width, (crop_scale, 1.0), 4 / 3)
            image = tv.resized_crop(image, *drawn, [height, width], antialias=True)
        padded = fill[:, None, None].expand(channels, height + 2 * crop_padding, width + 2 * crop_padding).clone()
        padded[:, crop_padding : crop_padding + height, crop_padding : crop_padding + width] = image
        image = padded[:, tops[i] : tops[i] + height, lefts[i] : lefts[i] + width]
        if rotate90:
            turns = int(4 * draws[1][i])
            image = torch.rot90(image, turns if height == width else turns // 2 * 2, (1, 2))
        image = image.flip(2) if flip and coins[i] < 0.5 else image
        image = image.flip(1) if vertical_flip and draws[0][i] < 0.5 else image
        for c in range(channels):
            plane = image[c].clone()
            if jitter:
                mean = plane.mean()
                changed = (1 + jitter * (2 * contrast[i][c] - 1)) * (plane - mean) + mean
                plane = (1 + jitter * (2 * brightness[i][c] - 1)) * changed
            if gain or offset:
                spread = 0.0 if std is None else float(std[c])
                plane = fill[c] + (1 + gain * (2 * gains[i][c] - 1)) * (plane - fill[c])
                plane = plane + offset * (2 * offsets[i][c] - 1) * spread
            if draws[6][i] < erase:
                top, left, high, wide = box([row[i] for row in draws[7:]], height, width, (0.02, 0.33), 1 / 0.3)
                plane = tv.erase(plane[None], top, left, high, wide, fill[c])[0]
            result[i, c] = plane
    return result


def box(
    draws: list[float], height: int, width: int, area: tuple[float, float], ratio: float
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a box."""
    pixels = height * width * (area[0] + (area[1] - area[0]) * draws[0])
    aspect = math.exp(math.log(ratio) * (2 * draws[1] - 1))
    high = min(max(round(math.sqrt(pixels / aspect)), 1), height)
    wide = min(max(round(math.sqrt(pixels * aspect)), 1), width)
    return int(draws[2] * (height - high + 1)), int(draws[3] * (width - wide + 1)), high, wide
