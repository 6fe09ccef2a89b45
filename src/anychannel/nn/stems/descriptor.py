"""Kernels generated from a channel's wavelength or from a given vector, so that new channels have one too.

One small network g generates every slice: slice_c = g(d_c), where the descriptor d_c holds Fourier features of the
channel's wavelength (Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional
Domains", NeurIPS 2020) or a vector that the user gives. No parameter belongs to a single channel, unlike in
``hypernetwork``, so a channel that training never had gets a kernel from its descriptor alone. In ``dofa`` (Xiong et
al. 2024) the slices also depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from anychannel.channels import Subset
from anychannel.nn.stems.base import StemShape
from anychannel.nn.stems.generated import GeneratedStem

SHORTEST_NM, LONGEST_NM = 400.0, 2500.0
"""The wavelengths at positions 0 and 1."""

Wavelengths = Sequence[float | None] | None
Vectors = Sequence[Sequence[float]] | None


def positions_of(wavelengths_nm: Wavelengths, count: int) -> Tensor:
    """Positions (count,) on a logarithmic scale from 400 nm (0) to 2500 nm (1); evenly spaced if none is known."""
    known = [value for value in wavelengths_nm or () if value is not None]
    if not known:
        return torch.linspace(0, 1, count + 2)[1:-1]
    if len(known) != count:
        raise ValueError(
            f"wavelengths are known for {len(known)} of {count} channels; give one for every channel "
            "('NIR @ 842 nm'), or an embedding"
        )
    return torch.tensor([math.log(value / SHORTEST_NM) / math.log(LONGEST_NM / SHORTEST_NM) for value in known])


def fourier_features(positions: Tensor, frequencies: int) -> Tensor:
    """sin(2^k pi t) and cos(2^k pi t) for k < frequencies: (C,) -> (C, 2 * frequencies)."""
    angles = positions[:, None] * math.pi * 2.0 ** torch.arange(frequencies, device=positions.device)
    return torch.cat([angles.sin(), angles.cos()], 1)


class DescribedStem(GeneratedStem):
    """Base of stems that know their channels by descriptors alone, and so take new channels.

    Args:
        wavelengths_nm: centre wavelength of each channel. If none is known, channels count as evenly spaced, and no
            new one can be added.
        embedding: (C, D) a vector for each channel, used instead of wavelengths.
        frequencies: number of frequencies of the Fourier features.
    """

    uses_wavelengths: ClassVar[bool] = True
    features_of_channels: Tensor

    def __init__(self, shape: StemShape, wavelengths_nm: Wavelengths, embedding: Vectors, frequencies: int) -> None:
        super().__init__(shape)
        if frequencies < 1:
            raise ValueError(f"frequencies must be at least 1, got {frequencies}")
        if embedding is not None and frequencies != 4:
            raise ValueError(f"frequencies={frequencies} has no effect: the embedding describes the channels")
        self.frequencies = frequencies
        self.embedding = None if embedding is None else [list(map(float, row)) for row in embedding]
        self.register_buffer("features_of_channels", self.encode(wavelengths_nm, self.embedding))

    def encode(self, wavelengths_nm: Wavelengths, embedding: Vectors) -> Tensor:
        """Descriptors (C, F) of ``in_chans`` channels."""
        if embedding is None:
            return fourier_features(positions_of(wavelengths_nm, self.in_chans), self.frequencies)
        rows = torch.tensor(embedding, dtype=torch.float32)
        if rows.ndim != 2 or len(rows) != self.in_chans:
            raise ValueError(f"embedding needs one vector for each of the {self.in_chans} channels")
        return rows

    def described(self, subset: Subset) -> Tensor:
        """Descriptors (k, F) of a subset's channels, in the weights' number format."""
        return self.features_of_channels[list(subset)].to(next(self.parameters()).dtype)

    @torch.no_grad()
    def redescribe(self, count: int, wavelengths_nm: Wavelengths, embedding: Vectors = None) -> None:
        """Take ``count`` other channels from now on, in place; the parameters stay.

        Raises ValueError unless each of them is described as the old ones were.
        """
        if (embedding is None) != (self.embedding is None):
            raise ValueError(
                "the stem knows its channels by embedding or by wavelength; describe new ones the same way"
            )
        if embedding is None and (wavelengths_nm is None or None in wavelengths_nm):
            raise ValueError("new channels are described by their wavelength; give every channel one ('NIR @ 842 nm')")
        self.in_chans = count
        self.embedding = None if embedding is None else [list(map(float, row)) for row in embedding]
        self.options = {**self.options, "embedding": self.embedding}
        rows = self.encode(wavelengths_nm, embedding).to(self.features_of_channels)
        if rows.shape[1] != self.features_of_channels.shape[1]:
            raise ValueError(f"embedding vectors must have {self.features_of_channels.shape[1]} values, as before")
        self.features_of_channels = rows


class DescriptorStem(DescribedStem):
    """slice_c = A gelu(B d_c) + a, the same A and B for all channels.

    Args:
        shape, wavelengths_nm, embedding, frequencies: see ``DescribedStem``.
        width: width of the hidden layer.
    """

    def __init__(
        self,
        shape: StemShape,
        *,
        wavelengths_nm: Wavelengths = None,
        embedding: Vectors = None,
        frequencies: int = 4,
        width: int = 64,
    ) -> None:
        super().__init__(shape, wavelengths_nm, embedding, frequencies)
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.hidden = nn.Linear(self.features_of_channels.shape[1], width)
        self.output = nn.Linear(width, self.slice_size)
        self.initialise_from(self.random_kernel(), None)

    def codes(self, subset: Subset) -> Tensor:
        """The hidden layer's values, each channel's from its descriptor."""
        return nn.functional.gelu(self.hidden(self.described(subset)))
