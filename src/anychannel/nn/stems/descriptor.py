"""Kernels generated from what a channel is, its wavelength or a given vector, so that new channels have one too.

Every channel's slice comes from one small network g: slice_c = g(d_c), where the descriptor d_c holds Fourier features
of the channel's wavelength (Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions in Low
Dimensional Domains", NeurIPS 2020) or a vector that the user gives. Nothing learned belongs to a single channel, as it
does in ``hypernetwork``; a channel that training never showed gets a kernel from its descriptor alone. Kin: Xiong et
al. 2024 (``dofa``), in which the slices also depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from anychannel.channels import Subset
from anychannel.nn.stems.base import ConvGeometry
from anychannel.nn.stems.generated import ChannelwiseStem

SHORTEST_NM, LONGEST_NM = 400.0, 2500.0
"""Where the position of a wavelength is 0 and 1; others lie outside."""


def positions_of(wavelengths_nm: Sequence[float | None] | None, count: int) -> Tensor:
    """Logarithm of the wavelengths, 400 nm at 0 and 2500 nm at 1; evenly spaced where none is known: (count,).

    Raises:
        ValueError: only some are known.
    """
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


class DescribedStem(ChannelwiseStem):
    """Base of stems that know their channels by descriptors alone, and so take new ones.

    Args:
        in_chans, out_chans, geometry, bias: see ``Stem``.
        wavelengths_nm: centre wavelength of each channel; where none is known, channels count as evenly spaced and no
            new one can be added.
        embedding: (C, D) a vector for each channel, used instead of wavelengths.
        frequencies: of the Fourier features.
    """

    uses_wavelengths: ClassVar[bool] = True
    features_of_channels: Tensor

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        geometry: ConvGeometry,
        bias: bool = False,
        *,
        wavelengths_nm: Sequence[float | None] | None = None,
        embedding: Sequence[Sequence[float]] | None = None,
        frequencies: int = 4,
    ) -> None:
        super().__init__(in_chans, out_chans, geometry, bias)
        if frequencies < 1:
            raise ValueError(f"frequencies must be at least 1, got {frequencies}")
        self.frequencies = frequencies
        self.embedding = None if embedding is None else [list(map(float, row)) for row in embedding]
        self.register_buffer("features_of_channels", self.encode(wavelengths_nm, self.embedding))

    def encode(
        self, wavelengths_nm: Sequence[float | None] | None, embedding: Sequence[Sequence[float]] | None
    ) -> Tensor:
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
    def redescribe(
        self,
        count: int,
        wavelengths_nm: Sequence[float | None] | None,
        embedding: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """Take other channels from now on, in place; everything learned stays.

        Raises:
            ValueError: it is not known what each of them is.
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


def fit_output(layer: nn.Linear, hidden: Tensor, slices: Tensor) -> None:
    """Solve a linear layer for what it shall give: hidden (C, D) -> slices (C, n); the smallest solution, in place.

    Directions in which the channels hardly differ are left out, so that kernels between two channels stay moderate.
    """
    mean = slices.mean(0)
    solution = torch.linalg.lstsq(hidden.cpu().double(), (slices - mean).cpu().double(), rcond=1e-4, driver="gelsd")
    layer.bias.copy_(mean)
    layer.weight.copy_(solution.solution.T)


class DescriptorStem(DescribedStem):
    """slice_c = A gelu(B d_c) + a, the same A and B for all channels.

    Args:
        in_chans, out_chans, geometry, bias, wavelengths_nm, embedding, frequencies: see ``DescribedStem``.
        width: of the hidden layer.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        geometry: ConvGeometry,
        bias: bool = False,
        *,
        wavelengths_nm: Sequence[float | None] | None = None,
        embedding: Sequence[Sequence[float]] | None = None,
        frequencies: int = 4,
        width: int = 64,
    ) -> None:
        super().__init__(
            in_chans,
            out_chans,
            geometry,
            bias,
            wavelengths_nm=wavelengths_nm,
            embedding=embedding,
            frequencies=frequencies,
        )
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.hidden = nn.Linear(self.features_of_channels.shape[1], width)
        self.output = nn.Linear(width, out_chans * geometry.kernel_size[0] * geometry.kernel_size[1])
        self.initialise_from(self.random_kernel(), None)

    def slices(self, subset: Subset) -> Tensor:
        """Generate the present channels' slices, each from its descriptor."""
        hidden = nn.functional.gelu(self.hidden(self.described(subset)))
        generated: Tensor = self.output(hidden)
        return generated.view(-1, self.out_chans, *self.geometry.kernel_size)

    @torch.no_grad()
    def initialise_from(self, weight: Tensor, bias: Tensor | None) -> None:
        """Solve the last layer for the convolution's slices; exact but for channels that hardly differ."""
        hidden = nn.functional.gelu(self.hidden(self.features_of_channels))
        fit_output(self.output, hidden, weight.transpose(0, 1).flatten(1))
        self.copy_bias(bias)
