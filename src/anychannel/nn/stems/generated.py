"""Kernels generated channel by channel, from an embedding or from shared templates: CHAMMI's two adaptive stems.

Chen et al., "CHAMMI: A benchmark for channel-adaptive models in microscopy imaging", NeurIPS 2023,
https://arxiv.org/abs/2310.19224: HyperNet (two linear maps of a learned channel embedding, after Ha et al.,
"HyperNetworks", ICLR 2017) and TargetParam (template mixing, after Savarese and Maire, ICLR 2019). A channel's slice is
the same in every subset.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from anychannel.channels import Subset
from anychannel.nn.stems.base import Stem, StemShape


class ChannelwiseStem(Stem):
    """Base of stems that compute one slice (out, kh, kw) for each channel."""

    def slices(self, subset: Subset) -> Tensor:
        """(k, out, kh, kw)."""
        raise NotImplementedError

    def kernel(self, subset: Subset) -> Tensor:
        """(out, k, kh, kw)."""
        return self.slices(subset).transpose(0, 1)

    def kernel_where(self, present: Tensor) -> Tensor:
        return self.kernel(tuple(range(self.in_chans))) * present[:, None, None]


class GeneratedStem(ChannelwiseStem):
    """Base of stems whose slices are a linear map, ``output``, of a code (D,) for each channel."""

    scale: ClassVar[float] = 1.0
    """Factor of the slices."""

    cutoff: ClassVar[float | None] = 1e-4
    """``initialise`` ignores directions with relatively smaller singular values, in which the channels hardly differ.

    So kernels between two channels stay moderate.
    """

    output: nn.Linear

    def codes(self, subset: Subset) -> Tensor:
        """(k, D)."""
        raise NotImplementedError

    def slices(self, subset: Subset) -> Tensor:
        return self.decode(self.codes(subset))

    def decode(self, codes: Tensor) -> Tensor:
        """(k, D) -> (k, out, kh, kw)."""
        generated: Tensor = self.output(codes)
        generated = generated if self.scale == 1 else self.scale * generated
        return generated.view(-1, self.out_chans, *self.geometry.kernel_size)

    def initialise(self, weight: Tensor) -> None:
        """Solve ``output`` for the convolution's slices; the smallest solution."""
        codes = self.codes(tuple(range(self.in_chans))).cpu().double()
        wanted = weight.transpose(0, 1).flatten(1) / self.scale
        mean = wanted.mean(0)
        found = torch.linalg.lstsq(codes, (wanted - mean).cpu().double(), rcond=self.cutoff, driver="gelsd")
        self.output.bias.copy_(mean)
        self.output.weight.copy_(found.solution.T)


class HypernetworkStem(GeneratedStem):
    """slice_c = A (B e_c + b) + a, with a learned embedding e_c, of width ``embedding``, for each channel."""

    cutoff: ClassVar[float | None] = None

    def __init__(self, shape: StemShape, *, embedding: int = 64) -> None:
        super().__init__(shape)
        if embedding < 1:
            raise ValueError(f"embedding must be at least 1, got {embedding}")
        self.embedding = nn.Parameter(torch.randn(self.in_chans, embedding))
        self.hidden = nn.Linear(embedding, embedding)
        self.output = nn.Linear(embedding, self.slice_size)
        self.initialise_from(self.random_kernel(), None)

    def codes(self, subset: Subset) -> Tensor:
        hidden: Tensor = self.hidden(self.embedding[list(subset)])
        return hidden


class TemplateStem(ChannelwiseStem):
    """A channel's slice is its own mixture of ``templates`` shared templates."""

    def __init__(self, shape: StemShape, *, templates: int = 16) -> None:
        super().__init__(shape)
        if templates < 1:
            raise ValueError(f"templates must be at least 1, got {templates}")
        self.coefficients = nn.Parameter(nn.init.orthogonal_(torch.empty(self.in_chans, templates)))
        self.templates = nn.Parameter(torch.empty(templates, self.out_chans, *self.geometry.kernel_size))
        nn.init.kaiming_normal_(self.templates, mode="fan_out", nonlinearity="relu")

    def slices(self, subset: Subset) -> Tensor:
        return torch.einsum("kt,toyx->koyx", self.coefficients[list(subset)], self.templates)

    def initialise(self, weight: Tensor) -> None:
        """Change the templates as little as possible to fit the convolution's slices (exact with C templates)."""
        change = weight.transpose(0, 1).flatten(1) - self.coefficients @ self.templates.flatten(1)
        solution = torch.linalg.lstsq(self.coefficients.double(), change.double(), driver="gelsd").solution
        self.templates.add_(solution.to(self.templates.dtype).view_as(self.templates))
