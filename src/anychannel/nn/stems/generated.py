"""Kernels generated channel by channel, from an embedding or from shared templates: CHAMMI's two adaptive stems.

Chen et al., "CHAMMI: A benchmark for channel-adaptive models in microscopy imaging", NeurIPS 2023,
https://arxiv.org/abs/2310.19224: HyperNet (two linear maps of a learned channel embedding, after Ha et al.,
"HyperNetworks", ICLR 2017) and TargetParam (template mixing, after Savarese and Maire, ICLR 2019). A channel's slice is
the same in every subset.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anychannel.channels import Subset
from anychannel.nn.stems.base import ConvGeometry, Stem


class ChannelwiseStem(Stem):
    """Base: one slice (out, kh, kw) for each channel, put together for a subset."""

    def slices(self, subset: Subset) -> Tensor:
        """(k, out, kh, kw)."""
        raise NotImplementedError

    def kernel(self, subset: Subset) -> Tensor:
        """(out, k, kh, kw)."""
        return self.slices(subset).transpose(0, 1)

    def kernel_where(self, present: Tensor) -> Tensor:
        """The present channels' slices."""
        return self.kernel(tuple(range(self.in_chans))) * present[:, None, None]


class HypernetworkStem(ChannelwiseStem):
    """A learned embedding a channel; two linear maps make its slice of the kernel.

    Args:
        in_chans, out_chans, geometry, bias: see ``Stem``.
        embedding: width of the embedding and of the hidden map.
    """

    def __init__(
        self, in_chans: int, out_chans: int, geometry: ConvGeometry, bias: bool = False, *, embedding: int = 64
    ) -> None:
        super().__init__(in_chans, out_chans, geometry, bias)
        if embedding < 1:
            raise ValueError(f"embedding must be at least 1, got {embedding}")
        self.embedding = nn.Parameter(torch.randn(in_chans, embedding))
        self.hidden = nn.Linear(embedding, embedding)
        self.output = nn.Linear(embedding, out_chans * geometry.kernel_size[0] * geometry.kernel_size[1])
        self.initialise_from(self.random_kernel(), None)

    def slices(self, subset: Subset) -> Tensor:
        """Generate the present channels' slices."""
        generated: Tensor = self.output(self.hidden(self.embedding[list(subset)]))
        return generated.view(-1, self.out_chans, *self.geometry.kernel_size)

    @torch.no_grad()
    def initialise_from(self, weight: Tensor, bias: Tensor | None) -> None:
        """Solve the last map for the convolution's slices (exact where the embedding is at least C wide)."""
        hidden = self.hidden(self.embedding)
        wanted = weight.transpose(0, 1).flatten(1)
        self.output.bias.copy_(wanted.mean(0))
        solution = torch.linalg.lstsq(hidden.double(), (wanted - wanted.mean(0)).double(), driver="gelsd").solution
        self.output.weight.copy_(solution.T)
        self.copy_bias(bias)


class TemplateStem(ChannelwiseStem):
    """A channel's slice is its own mixture of shared templates.

    Args:
        in_chans, out_chans, geometry, bias: see ``Stem``.
        templates: number of templates.
    """

    def __init__(
        self, in_chans: int, out_chans: int, geometry: ConvGeometry, bias: bool = False, *, templates: int = 16
    ) -> None:
        super().__init__(in_chans, out_chans, geometry, bias)
        if templates < 1:
            raise ValueError(f"templates must be at least 1, got {templates}")
        self.coefficients = nn.Parameter(nn.init.orthogonal_(torch.empty(in_chans, templates)))
        self.templates = nn.Parameter(torch.empty(templates, out_chans, *geometry.kernel_size))
        nn.init.kaiming_normal_(self.templates, mode="fan_out", nonlinearity="relu")

    def slices(self, subset: Subset) -> Tensor:
        """Mix the templates for the present channels."""
        return torch.einsum("kt,toyx->koyx", self.coefficients[list(subset)], self.templates)

    @torch.no_grad()
    def initialise_from(self, weight: Tensor, bias: Tensor | None) -> None:
        """Templates whose mixtures come closest to the convolution's slices (exact with at least C templates)."""
        wanted = weight.transpose(0, 1).flatten(1)
        change = wanted - self.coefficients @ self.templates.flatten(1)
        solution = torch.linalg.lstsq(self.coefficients.double(), change.double(), driver="gelsd").solution
        self.templates.add_(solution.to(self.templates.dtype).view_as(self.templates))
        self.copy_bias(bias)
