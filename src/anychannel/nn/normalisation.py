"""How images are normalised, and the moments of the normalised channels.

A network that is trained from scratch gets z-scores: each channel minus its mean, over its standard deviation, both
measured on the training images. A pretrained network needs the statistics that it was trained with. timm has them for
pixels between 0 and 1; they are converted to the files' units.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from anychannel.channels import ChannelSet


@dataclass(frozen=True)
class Normalisation:
    """(x - mean) / std for each channel, x in the files' own units."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # JSON has lists
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        finite = all(map(isfinite, (*self.mean, *self.std)))
        if len(self.mean) != len(self.std) or not finite or any(value <= 0 for value in self.std):
            raise ValueError(f"normalisation needs a finite mean and a positive std for each channel, got {self}")

    @classmethod
    def of(cls, channels: ChannelSet) -> Normalisation:
        """Z-scores by the channels' own statistics."""
        return cls(channels.mean, channels.std)


def input_covariance(channels: ChannelSet, normalisation: Normalisation | None) -> tuple[tuple[float, ...], ...] | None:
    """Covariance (C, C) of the normalised channels, or None if the correlation was never measured."""
    if channels.correlation is None or normalisation is None:
        return channels.correlation
    scale = [own / used for own, used in zip(channels.std, normalisation.std, strict=True)]
    return tuple(
        tuple(value * scale[i] * scale[j] for j, value in enumerate(row)) for i, row in enumerate(channels.correlation)
    )


def moments(channels: ChannelSet, normalisation: Normalisation | None) -> dict[str, Any]:
    """Moments of the normalised channels as a stem's options: ``correlation`` (C, C) and ``offset`` (C,), the means.

    They are None if they were never measured; so is ``offset`` if the means are zero. ``levels`` (2, C) has what 0
    becomes in each channel, and by how much 1 more raises it.
    """
    used, offset = normalisation or Normalisation.of(channels), None
    levels = (tuple(-mean / std for mean, std in zip(used.mean, used.std, strict=True)), tuple(1 / s for s in used.std))
    if normalisation is not None and channels.correlation is not None:
        rows = zip(channels.mean, normalisation.mean, normalisation.std, strict=True)
        offset = tuple((own - used) / std for own, used, std in rows)
    return {"correlation": input_covariance(channels, normalisation), "offset": offset, "levels": levels}
