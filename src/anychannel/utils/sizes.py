"""Image sizes: one number if height and width are equal, else ``(height, width)``."""

from __future__ import annotations

from collections.abc import Sequence

ImageSize = int | Sequence[int]


def height_width(size: ImageSize) -> tuple[int, int]:
    """Height and width in pixels."""
    sides = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) for side in sides):
        raise ValueError(f"image_size is one whole number or (height, width), got {size!r}")
    if min(sides) < 1:
        raise ValueError(f"image_size must be at least 1 pixel, got {' x '.join(map(str, sides))}")
    return sides[0], sides[1]


def describe_size(size: ImageSize, times: str = "x") -> str:
    """``48 x 64``."""
    return f" {times} ".join(map(str, height_width(size)))


def plain_size(size: ImageSize) -> int | list[int]:
    """A size for JSON: one number for squares, else ``[height, width]``."""
    height, width = height_width(size)
    return height if height == width else [height, width]


def parse_size(text: str) -> ImageSize:
    """Parse ``84``, or ``48x64`` for a height of 48 and a width of 64."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() and int(side) for side in sides):
        raise ValueError(f"a size is written 84, or 48x64 for a height of 48 and a width of 64, got {text!r}")
    numbers = [int(side) for side in sides]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
