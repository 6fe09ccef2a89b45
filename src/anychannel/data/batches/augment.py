"""Random changes of images of any number of channels, a whole batch at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anychannel.utils.processes import Share

CROP_RATIO, ERASE_RATIO = 4 / 3, 1 / 0.3
"""Largest ratio of a random box's sides, as torchvision's ``RandomResizedCrop`` and ``RandomErasing`` draw them."""
ERASE_AREA = (0.02, 0.33)
"""Smallest and largest area of an erased box, as a share of the image's."""


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
    share: Share | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Change a batch (B, C, H, W) of any number type at random, each image in its own way; return float32.

    In this order, each image

    - is cropped to a box of an area between ``crop_scale`` and 1, with sides of a ratio up to 4:3, which is resized to
      the image's size (bilinear);
    - is padded by ``crop_padding`` pixels of its channels' ``fill`` value (C,) and cut back to its size at a random
      place; turned by 0, 90, 180 or 270 degrees (``rotate90``; an image that is not square by 0 or 180); mirrored left
      to right (``flip``) and top to bottom (``vertical_flip``), each with probability 1/2;
    - has each channel x with mean m over the image changed to b (c (x - m) + m), with contrast c and brightness b drawn
      uniformly from [1 - jitter, 1 + jitter];
    - has each channel x changed to f + g (x - f) + o s, where f is ``fill`` and s is ``std`` (C,), with g drawn from
      [1 - gain, 1 + gain] and o from [-offset, offset];
    - has a box of 2 % to 33 % of its area set to ``fill`` in all channels, with probability ``erase``.

    Values stay in the images' units and are not clipped. All numbers are drawn for the whole batch at once, in the same
    order and count whatever is switched on, so that the result is a function of the generator's state, and switching
    one change off leaves the others as they were. With ``share``, the images are this process's share of a batch of
    ``batch_size``; they are changed as they would be if one process had the whole batch.
    """
    channels, size = images.shape[1], (images.shape[2], images.shape[3])
    batch = len(images) if batch_size is None else batch_size
    if crop_padding < 0:
        raise ValueError(f"crop_padding is a number of pixels, 0 or more, got {crop_padding}")
    for name, value in (("jitter", jitter), ("gain", gain)):
        if not 0 <= value < 1:
            raise ValueError(f"{name} is a fraction in [0, 1), got {value}")
    for name, values in (("fill", fill), ("std", fill if std is None else std)):
        if values.shape != (channels,):
            raise ValueError(
                f"{name} needs one value for each of the {channels} channels, got shape {tuple(values.shape)}"
            )
    if offset and std is None:
        raise ValueError(f"offset={offset:g} counts standard deviations of the channels; give std")
    device, source = images.device, generator.device
    mine = torch.from_numpy((share or Share()).rows(batch)).to(source)
    if len(mine) != len(images):
        raise ValueError(f"a share of {len(mine)} of {batch} images was announced, got {len(images)} images")
    shift = torch.randint(0, 2 * crop_padding + 1, (2, batch), generator=generator, device=source)[:, mine]
    mirrored = (torch.rand(batch, generator=generator, device=source) < 0.5)[mine]
    factors = torch.rand(2, batch, channels, 1, 1, generator=generator, device=source)[:, mine]
    places = torch.rand(11, batch, generator=generator, device=source)[:, mine]
    tuned = torch.rand(2, batch, channels, 1, 1, generator=generator, device=source)[:, mine]
    shift, mirrored, factors, places, tuned, fill = (
        values.to(device, non_blocking=True) for values in (shift, mirrored, factors, places, tuned, fill)
    )
    upturned, turns = places[0] < 0.5, (4 * places[1]).long()

    result = images.to(torch.float32)
    if crop_scale < 1:
        result = resized_crop(result, *draw_boxes(places[2:6], size, (crop_scale, 1.0), CROP_RATIO))
    if crop_padding or flip or vertical_flip or rotate90:
        still = torch.zeros_like(mirrored)
        result = move(
            result,
            shift,
            mirrored if flip else still,
            crop_padding,
            fill,
            upturned if vertical_flip else still,
            turns if rotate90 else still.long(),
        )
    if jitter:
        brightness, contrast = 1 + jitter * (2 * factors - 1)
        mean = result.mean(dim=(2, 3), keepdim=True)
        result = torch.addcmul(brightness * (1 - contrast) * mean, result, brightness * contrast)
    if gain or offset:
        slope, level = 1 + gain * (2 * tuned[0] - 1), offset * (2 * tuned[1] - 1)
        spread = torch.zeros_like(fill) if std is None else std.to(device, non_blocking=True)
        centre = fill[:, None, None]
        result = torch.addcmul(centre * (1 - slope) + level * spread[:, None, None], result, slope)
    if erase:
        top, left, height, width = draw_boxes(places[7:], size, ERASE_AREA, ERASE_RATIO)
        inside = within(top, height, size[0])[:, :, None] & within(left, width, size[1])[:, None, :]
        inside = inside & (places[6] < erase)[:, None, None]
        result = torch.where(inside[:, None], fill[:, None, None], result)
    return result


def draw_boxes(
    draws: Tensor, size: tuple[int, int], area: tuple[float, float], ratio: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes in images of ``size`` (H, W) from ``draws`` (4, B) in [0, 1): top, left, height and width, (B,) int64 each.

    Their area is drawn uniformly from ``area``, a share of the image's, and the logarithm of width by height uniformly
    between those of 1/ratio and ratio. A side that would not fit is the image's.
    """
    pixels = size[0] * size[1] * (area[0] + (area[1] - area[0]) * draws[0])
    aspect = torch.exp(math.log(ratio) * (2 * draws[1] - 1))
    height = (pixels / aspect).sqrt().round().clamp(1, size[0])
    width = (pixels * aspect).sqrt().round().clamp(1, size[1])
    top, left = draws[2] * (size[0] - height + 1), draws[3] * (size[1] - width + 1)
    return top.long(), left.long(), height.long(), width.long()


def within(start: Tensor, length: Tensor, size: int) -> Tensor:
    """(B, size) booleans, the positions from ``start`` (B,) on, ``length`` (B,) of them."""
    place = torch.arange(size, device=start.device)
    return (place >= start[:, None]) & (place < (start + length)[:, None])


def resized_crop(images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Resize a box of each image to the images' size, bilinearly, as torchvision's ``resized_crop`` does."""
    rows = interpolation(top, height, images.shape[2])[:, None]
    columns = interpolation(left, width, images.shape[3])[:, None]
    return rows @ images @ columns.transpose(2, 3)


def interpolation(start: Tensor, length: Tensor, size: int) -> Tensor:
    """(B, size, size): the weight of each old position in each new one, if ``length`` positions are stretched."""
    place = torch.arange(size, device=start.device)
    wanted = (place + 0.5) * (length / size)[:, None] - 0.5
    wanted = start[:, None] + torch.minimum(wanted.clamp(min=0), length[:, None] - 1)
    return (1 - (wanted[:, :, None] - place).abs()).clamp(min=0)


def move(
    images: Tensor, shift: Tensor, mirrored: Tensor, padding: int, fill: Tensor, upturned: Tensor, turns: Tensor
) -> Tensor:
    """Crop, turn and mirror by one gather: for each output pixel, the row and column of the padded image it shows."""
    batch, channels, height, width = images.shape
    padded = images
    if padding:
        shape = (batch, channels, height + 2 * padding, width + 2 * padding)
        padded = fill.to(images.dtype)[:, None, None].expand(shape).clone()
        padded[:, :, padding:-padding, padding:-padding] = images
    if height != width:
        turns = turns // 2 * 2
    half = turns == 2

    def along(size: int, reversed_: Tensor) -> Tensor:
        places = torch.arange(size, device=images.device).expand(batch, size)
        return torch.where(reversed_[:, None], size - 1 - places, places)

    rows = along(height, upturned ^ half) + shift[0, :, None]
    columns = along(width, mirrored ^ half) + shift[1, :, None]
    places = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
    if height == width:  # a quarter turn swaps rows and columns
        across = along(width, mirrored ^ (turns == 3)) + shift[0, :, None]
        down = along(height, upturned ^ (turns == 1)) + shift[1, :, None]
        turned = across[:, None, :] * padded.shape[3] + down[:, :, None]
        places = torch.where((turns % 2 == 1)[:, None, None], turned, places)
    index = places.reshape(batch, 1, height * width).expand(batch, channels, height * width)
    return padded.flatten(2).gather(2, index).reshape(batch, channels, height, width)
