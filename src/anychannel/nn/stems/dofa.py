"""Kernels from wavelengths through a small transformer, after DOFA.

Xiong et al., "Neural Plasticity-Inspired Multimodal Foundation Model for Earth Observation", 2024,
https://arxiv.org/abs/2403.15356: sine and cosine features of the wavelengths pass a residual layer; beside learned
tokens they attend to each other in one post-norm transformer layer; a linear map of the result plus its input, times
0.01, is the channels' slices. So a slice depends on which other channels are present. Ours differs in three points: the
bias is an ordinary one instead of a generated one, keys and queries have no bias, and the last map starts at a given
convolution's slices.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anychannel.channels import Subset
from anychannel.nn.stems.base import ConvGeometry
from anychannel.nn.stems.descriptor import DescribedStem, fit_output

SCALE = 0.01
"""Of the generated slices, as in the paper's code."""


class DofaStem(DescribedStem):
    """slices = 0.01 * A (transformer([tokens, w])_w + w), with w_c = r(B d_c), r(x) = x + relu(V relu(U x)).

    Args:
        in_chans, out_chans, geometry, bias, wavelengths_nm, embedding, frequencies: see ``DescribedStem``.
        width: of the transformer; a multiple of ``heads``.
        heads: attention heads.
        tokens: learned tokens beside the channels.
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
        heads: int = 4,
        tokens: int = 32,
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
        if heads < 1 or width < 1 or width % heads or tokens < 1:
            raise ValueError(f"width must be a multiple of heads, and tokens positive; got {width}, {heads}, {tokens}")
        self.heads = heads
        self.project = nn.Linear(self.features_of_channels.shape[1], width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.tokens = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.query, self.key = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.value, self.merge = nn.Linear(width, width), nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.output = nn.Linear(width, out_chans * geometry.kernel_size[0] * geometry.kernel_size[1])
        self.initialise_from(self.random_kernel(), None)

    def hidden(self, subset: Subset, seen: Tensor | None = None) -> Tensor:
        """What the last map sees of each channel of a subset: (k, width).

        Args:
            subset: the k channels.
            seen: (tokens + k,) bool, which tokens and channels the others attend to; None means all.
        """
        waves = self.project(self.described(subset))
        waves = waves + F.relu(self.second(F.relu(self.first(waves))))
        x = torch.cat([self.tokens, waves])

        def split(layer: nn.Module) -> Tensor:
            heads: Tensor = layer(x).unflatten(1, (self.heads, -1)).transpose(0, 1)
            return heads[None]  # graph formats know attention in four dimensions only

        mask = None if seen is None else seen.expand(len(x), -1)
        attended = F.scaled_dot_product_attention(split(self.query), split(self.key), split(self.value), mask)
        x = self.norm1(x + self.merge(attended[0].transpose(0, 1).flatten(1)))
        x = self.norm2(x + self.narrow(F.gelu(self.widen(x))))
        result: Tensor = x[len(self.tokens) :] + waves
        return result

    def slices(self, subset: Subset) -> Tensor:
        """Generate the present channels' slices, which know of each other."""
        return self.slices_of(self.hidden(subset))

    def slices_of(self, hidden: Tensor) -> Tensor:
        """The last map: (k, width) -> (k, out, kh, kw)."""
        generated: Tensor = SCALE * self.output(hidden)
        return generated.view(-1, self.out_chans, *self.geometry.kernel_size)

    def kernel_where(self, present: Tensor) -> Tensor:
        """The present channels' slices; none of them attends to a missing channel."""
        seen = torch.cat([present.new_ones(len(self.tokens)), present]) > 0
        slices = self.slices_of(self.hidden(tuple(range(self.in_chans)), seen))
        return slices.transpose(0, 1) * present[:, None, None]

    @torch.no_grad()
    def initialise_from(self, weight: Tensor, bias: Tensor | None) -> None:
        """Solve the last map so that the full set has the convolution's slices."""
        fit_output(self.output, self.hidden(tuple(range(self.in_chans))), weight.transpose(0, 1).flatten(1) / SCALE)
        self.copy_bias(bias)
