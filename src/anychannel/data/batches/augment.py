"""Random crops, flips and per-channel jitter, for images of any number of channels, a whole batch at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from anychannel.utils.processes import Share


def augment(
    images: Tensor,
    *,
    crop_padding: int,
    flip: bool,
    jitter: float,
    fill: Tensor,
    generator: torch.Generator,
    share: Share | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Change a batch (B, C, H, W) of any number type at random, each image in its own way; return float32.

    Each image is padded by ``crop_padding`` pixels of its channels' ``fill`` value (C,) and cut back to its size at a
    random place, mirrored left to right with probability 1/2, and each of its channels x with mean m over the image
    becomes b (c (x - m) + m) with contrast c and brightness b drawn uniformly from [1 - jitter, 1 + jitter]. Values
    stay in the images' units and are not clipped.

    All numbers are drawn for the whole batch at once, in the same order and count whatever is switched on, so that the
    result is a function of the generator's state, and switching one change off leaves the others as they were. With
    ``share``, the images are this process's share of a batch of ``batch_size``; they are changed as they would be if
    one process had the whole batch.
    """
    channels = images.shape[1]
    batch = len(images) if batch_size is None else batch_size
    if crop_padding < 0:
        raise ValueError(f"crop_padding is a number of pixels, 0 or more, got {crop_padding}")
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter is a fraction in [0, 1), got {jitter}")
    if fill.shape != (channels,):
        raise ValueError(f"fill needs one value for each of the {channels} channels, got shape {tuple(fill.shape)}")
    device, source = images.device, generator.device
    mine = torch.from_numpy((share or Share()).rows(batch)).to(source)
    if len(mine) != len(images):
        raise ValueError(f"a share of {len(mine)} of {batch} images was announced, got {len(images)} images")
    shift = torch.randint(0, 2 * crop_padding + 1, (2, batch), generator=generator, device=source)[:, mine]
    mirrored = (torch.rand(batch, generator=generator, device=source) < 0.5)[mine]
    factors = torch.rand(2, batch, channels, 1, 1, generator=generator, device=source)[:, mine]
    shift, mirrored, factors, fill = (
        values.to(device, non_blocking=True) for values in (shift, mirrored, factors, fill)
    )

    result = images.to(torch.float32)
    if crop_padding or flip:
        result = move(result, shift, mirrored if flip else torch.zeros_like(mirrored), crop_padding, fill)
    if jitter:
        brightness, contrast = 1 + jitter * (2 * factors - 1)
        mean = result.mean(dim=(2, 3), keepdim=True)
        result = torch.addcmul(brightness * (1 - contrast) * mean, result, brightness * contrast)
    return result


def move(images: Tensor, shift: Tensor, mirrored: Tensor, padding: int, fill: Tensor) -> Tensor:
    """Crop and mirror by one gather: for each output pixel, the row and column of the padded image it shows."""
    batch, channels, height, width = images.shape
    padded = images
    if padding:
        shape = (batch, channels, height + 2 * padding, width + 2 * padding)
        padded = fill.to(images.dtype)[:, None, None].expand(shape).clone()
        padded[:, :, padding:-padding, padding:-padding] = images
    rows = torch.arange(height, device=images.device) + shift[0, :, None]
    columns = torch.arange(width, device=images.device).expand(batch, width)
    columns = torch.where(mirrored[:, None], width - 1 - columns, columns) + shift[1, :, None]
    places = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
    index = places.reshape(batch, 1, height * width).expand(batch, channels, height * width)
    return padded.flatten(2).gather(2, index).reshape(batch, channels, height, width)
