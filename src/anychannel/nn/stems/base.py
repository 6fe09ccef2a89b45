"""The base of all stems: a first convolution that takes the channels it is given.

A stem maps images of a subset of the channels, (B, k, H, W), to features of a fixed width, (B, out, H', W'). It is
built in the image of the convolution it replaces: same kernel size, stride, padding and width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anychannel.channels import ChannelError, Subset
from anychannel.nn.module_utils import Float32Buffers


@dataclass(frozen=True)
class ConvGeometry:
    """How a kernel moves over an image; ``same`` pads as TensorFlow does, from the image's size."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    same: bool = False

    def pad(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Images, and the padding that is left for the convolution to do."""
        if not self.same:
            return images, self.padding
        amounts: list[Any] = []
        for axis in (1, 0):
            size, stride = images.shape[2 + axis], self.stride[axis]
            reach = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1
            total = torch.sym_max((-(-size // stride) - 1) * stride + reach - size, 0)  # traceable, unlike max
            amounts += [total // 2, total - total // 2]
        return F.pad(images, amounts), (0, 0)

    def convolve(self, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """One static convolution: images (B, k, H, W) with a kernel (out, k, kh, kw) and a bias (out,)."""
        images, padding = self.pad(images)
        return F.conv2d(images, weight, bias, self.stride, padding, self.dilation)


class Stem(Float32Buffers):
    """Base of all stems: holds the sizes, checks what arrives, knows what it can do.

    Args:
        in_chans: number of channels C of the full set.
        out_chans: width of the features.
        geometry: kernel size, stride, padding and dilation.
        bias: whether the convolution that it replaces had a bias.

    Subclasses implement ``initialise_from(weight, bias)`` and ``kernel(subset)`` or, where the kernel depends on the
    image (``per_image``), ``features(images, subset)``. Whatever else changes their
    output (a measured covariance, a temperature) is a buffer, so that a state dict carries it.
    """

    per_image: ClassVar[bool] = False
    """Whether the kernel depends on the image, so that no static convolution equals it."""

    zero_is_missing: ClassVar[bool] = False
    """For a ``per_image`` stem: whether a missing channel and a plane of zeros give the same features."""

    uses_correlation: ClassVar[bool] = False
    """Whether the constructor takes the channels' ``correlation`` and ``offset``."""

    uses_wavelengths: ClassVar[bool] = False
    """Whether the constructor takes the channels' ``wavelengths_nm``."""

    options: Mapping[str, Any] = MappingProxyType({})
    """The keyword options that rebuild this stem, beside its sizes and what is measured; ``build_stem`` notes them."""

    def __init__(self, in_chans: int, out_chans: int, geometry: ConvGeometry, bias: bool = False) -> None:
        super().__init__()
        if in_chans < 1 or out_chans < 1:
            raise ValueError(f"a stem needs at least one input and one output channel, got {in_chans} and {out_chans}")
        self.in_chans = in_chans
        self.out_chans = out_chans
        self.geometry = geometry
        self.bias = nn.Parameter(torch.zeros(out_chans)) if bias else None

    def forward(self, images: Tensor, subset: Subset) -> Tensor:
        """Features of images that hold just the channels of ``subset``, in ascending order.

        Args:
            images: (B, k, H, W), normalised.
            subset: k ascending positions in 0 .. C-1.

        Returns:
            (B, out, H', W').

        Raises:
            ChannelError: the subset is empty, out of order or out of range, or does not fit the images.
        """
        if not subset or list(subset) != sorted(set(subset)) or subset[0] < 0 or subset[-1] >= self.in_chans:
            raise ChannelError(f"a subset is ascending positions in 0..{self.in_chans - 1}, got {subset}")
        if images.ndim != 4 or images.shape[1] != len(subset):
            raise ChannelError(
                f"the subset {subset} has {len(subset)} channels, but the images' shape is {tuple(images.shape)}; "
                "expected (batch, channels, height, width)"
            )
        return self.features(images, subset)

    def features(self, images: Tensor, subset: Subset) -> Tensor:
        """As ``forward``, without the checks: one static convolution with the subset's kernel."""
        return self.geometry.convolve(images, self.kernel(subset), self.bias_for(subset))

    def kernel(self, subset: Subset) -> Tensor:
        """Kernel (out, k, kh, kw) for the k channels of a subset."""
        raise NotImplementedError

    def bias_for(self, subset: Subset) -> Tensor | None:  # noqa: ARG002 - stems whose bias depends on it override
        """Bias (out,) that goes with a subset's kernel, or None."""
        return self.bias

    def kernel_where(self, present: Tensor) -> Tensor | None:  # noqa: ARG002
        """``kernel`` as a function of a tensor, so that one exported graph serves all subsets.

        Args:
            present: (C,) floats, 1 for each channel that is there and 0 for each missing one; at least one is there.

        Returns:
            (out, C, kh, kw), zero for the missing channels; None if the stem has no such form.
        """
        return None

    def bias_where(self, present: Tensor) -> Tensor | None:  # noqa: ARG002 - as bias_for
        """``bias_for`` as a function of a tensor, to go with ``kernel_where``."""
        return self.bias

    def basis_kernels(self, subset: Subset) -> Tensor | None:  # noqa: ARG002
        """The kernels (K, out, k, kh, kw) that each image's kernel is a linear combination of (``per_image`` stems).

        None if its kernels are no such combination.
        """
        return None

    def mixing_weights(self, images: Tensor, subset: Subset) -> Tensor:
        """Each image's coefficients of the ``basis_kernels``: (B, k, H, W) -> (B, K)."""
        raise NotImplementedError

    def initialise_from(self, weight: Tensor, bias: Tensor | None) -> None:
        """Start from a plain convolution's kernel (out, C, kh, kw), trained or freshly initialised."""
        raise NotImplementedError

    def anneal(self, epoch: float) -> None:
        """Set what depends on how far training has come, in epochs from 0; most stems have nothing that does."""

    def copy_bias(self, bias: Tensor | None) -> None:
        """Copy a convolution's bias if both have one."""
        if self.bias is not None and bias is not None:
            with torch.no_grad():
                self.bias.copy_(bias)

    def random_kernel(self) -> Tensor:
        """A kernel (out, C, kh, kw), initialised as a ResNet's convolutions are (He et al. 2015)."""
        kernel = torch.empty(self.out_chans, self.in_chans, *self.geometry.kernel_size)
        return nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")

    def extra_repr(self) -> str:
        """Sizes, for ``print(model)``."""
        return f"{self.in_chans}, {self.out_chans}, kernel_size={self.geometry.kernel_size}"
