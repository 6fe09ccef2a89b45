"""Kernels from wavelengths through a small transformer, after DOFA.

Xiong et al., "Neural Plasticity-Inspired Multimodal Foundation Model for Earth Observation", 2024,
https://arxiv.org/abs/2403.15356: sine and cosine features of the wavelengths pass a residual layer and attend to each
other and to learned tokens in one post-norm transformer layer. A linear map of the result plus its input, times 0.01,
is the channels' slices, so a slice depends on which other channels are present. Ours differs in three points: the bias
is an ordinary one instead of a generated one, keys and queries have no bias, and the last map starts at a given
convolution's slices.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anychannel.channels import Subset
from anychannel.nn.stems.base import StemShape
from anychannel.nn.stems.descriptor import DescribedStem, Vectors, Wavelengths


class DofaStem(DescribedStem):
    """slices = 0.01 * A (transformer([tokens, w])_w + w), with w_c = r(B d_c), r(x) = x + relu(V relu(U x)).

    Args:
        shape, wavelengths_nm, embedding, frequencies: see ``DescribedStem``.
        width: width of the transformer, a multiple of ``heads``.
        heads: number of attention heads.
        tokens: number of learned tokens.
    """

    scale: ClassVar[float] = 0.01
    """As in the paper's code."""

    def __init__(
        self,
        shape: StemShape,
        *,
        wavelengths_nm: Wavelengths = None,
        embedding: Vectors = None,
        frequencies: int = 4,
        width: int = 64,
        heads: int = 4,
        tokens: int = 32,
    ) -> None:
        super().__init__(shape, wavelengths_nm, embedding, frequencies)
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
        self.output = nn.Linear(width, self.slice_size)
        self.initialise_from(self.random_kernel(), None)

    def codes(self, subset: Subset, attended_to: Tensor | None = None) -> Tensor:
        """(k, width); ``attended_to`` marks the tokens and channels that take part in attention: (tokens + k,) bool."""
        waves = self.project(self.described(subset))
        waves = waves + F.relu(self.second(F.relu(self.first(waves))))
        x = torch.cat([self.tokens, waves])

        def split(layer: nn.Module) -> Tensor:
            heads: Tensor = layer(x).unflatten(1, (self.heads, -1)).transpose(0, 1)
            return heads[None]  # graph formats have attention in four dimensions only

        mask = None if attended_to is None else attended_to.expand(len(x), -1)
        attended = F.scaled_dot_product_attention(split(self.query), split(self.key), split(self.value), mask)
        x = self.norm1(x + self.merge(attended[0].transpose(0, 1).flatten(1)))
        x = self.norm2(x + self.narrow(F.gelu(self.widen(x))))
        result: Tensor = x[len(self.tokens) :] + waves
        return result

    def kernel_where(self, present: Tensor) -> Tensor:
        """The present channels' slices; none of them attends to a missing channel."""
        attended_to = torch.cat([present.new_ones(len(self.tokens)), present]) > 0
        slices = self.decode(self.codes(tuple(range(self.in_chans)), attended_to))
        return slices.transpose(0, 1) * present[:, None, None]
