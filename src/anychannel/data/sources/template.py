"""What all images of a data set have to be like: the first one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anychannel.data.errors import ImageError
from anychannel.data.files.decoded import Decoded, Scaling

Scalings = dict[int, tuple[str, Scaling | None, tuple[float, float] | None]]
"""By a channel's position: an image that has it, this image's scaling, and the channel's own scale and offset."""


@dataclass(frozen=True)
class Template:
    """What all images have to be like.

    Args:
        size: height and width of the first readable one.
        dtype: its type.
        path: where it lies.
        scalings: for each channel the first readable image that has it: its path, its whole scaling, and the channel's
            own scale and offset; None where it declares none.
    """

    size: tuple[int, ...]
    dtype: np.dtype[np.generic]
    path: str
    scalings: Scalings

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"size": self.size, "dtype": self.dtype.name, "path": self.path, "scalings": self.scalings}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Template:
        """Inverse of ``to_dict``, also from JSON."""
        scalings = {
            int(position): (path, whole and tuple(map(tuple, whole)), own and tuple(own))
            for position, (path, whole, own) in values["scalings"].items()
        }
        return cls(tuple(values["size"]), np.dtype(values["dtype"]), values["path"], scalings)

    def check(self, image: Decoded, positions: Sequence[int], place: str, *, scaled: bool) -> None:
        """Raise ImageError for an image of another number type or size, or, unless it was applied, of another scale.

        The scales of channels that no image before it had are noted.
        """
        own: Sequence[tuple[float, float] | None] = image.scaling or (None,) * len(positions)
        for position, pair in zip(positions, own, strict=True):
            self.scalings.setdefault(position, (place, image.scaling, pair))
        pixels = image.pixels
        if pixels.dtype != self.dtype:
            raise ImageError(
                f"it holds {pixels.dtype.name} values, but {self.path} holds {self.dtype.name}",
                "bring all files to one number type",
            )
        if pixels.shape[1:] != self.size:
            (height, width), (other_height, other_width) = pixels.shape[1:], self.size
            raise ImageError(
                f"it is {height} x {width} pixels, but {self.path} is {other_height} x {other_width}",
                "give a size, to which all are brought",
            )
        for position, pair in zip(positions, own, strict=True):
            path, scaling, expected = self.scalings[position]
            if not scaled and pair != expected:
                raise ImageError(
                    f"it declares {describe_scaling(image.scaling)}, but {path} {describe_scaling(scaling)}, so that "
                    "equal values mean different things",
                    "give scaled=True to use physical values",
                )


def describe_scaling(scaling: Scaling | None) -> str:
    """``scale 0.0001 and offset -0.1`` of the first channel, and how many differ from it."""
    if scaling is None:
        return "no scale and offset"
    (scale, offset), *others = scaling
    more = ", ..." * any(pair != (scale, offset) for pair in others)
    return f"scale {scale:g} and offset {offset:g}{more}"
