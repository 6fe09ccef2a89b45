"""The base of all stems. A stem replaces a first convolution and takes any subset of its channels.

It maps images (B, k, H, W) to features of a fixed width (B, out, H', W'), with the kernel size, stride, padding and
width of the convolution that it replaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        """Pad for ``same``; return the images and the padding that the convolution still has to do."""
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
        """Convolve images (B, k, H, W) with a kernel (out, k, kh, kw) and a bias (out,)."""
        images, padding = self.pad(images)
        return F.conv2d(images, weight, bias, self.stride, padding, self.dilation)


@dataclass(frozen=True)
class StemShape:
    """The convolution that a stem replaces; ``in_chans`` is the number of channels C of the full set."""

    in_chans: int
    out_chans: int
    geometry: ConvGeometry
    bias: bool = False


class Stem(Float32Buffers):
    """Base of all stems: checks its input and convolves with the subset's kernel.

    Subclasses implement ``initialise(weight)`` and ``kernel(subset)``, or ``features(images, subset)`` if the kernel
    depends on the image (``per_image``). Other values that change their output (a measured covariance, a temperature)
    are buffers, so that a state dict has them.
    """

    per_image: ClassVar[bool] = False
    """Whether the kernel depends on the image, so that no static convolution equals it."""

    zero_is_missing: ClassVar[bool] = False
    """Whether a missing channel and a plane of zeros give the same features (``per_image`` stems)."""

    uses_correlation: ClassVar[bool] = False
    """Whether the constructor takes the channels' ``correlation``, ``offset`` and ``levels``."""

    uses_wavelengths: ClassVar[bool] = False
    """Whether the constructor takes the channels' ``wavelengths_nm``."""

    options: Mapping[str, Any] = MappingProxyType({})
    """The keyword options that rebuild this stem, set by ``build_stem``; shape and measured statistics excepted."""

    def __init__(self, shape: StemShape) -> None:
        super().__init__()
        self.in_chans, self.out_chans, self.geometry = shape.in_chans, shape.out_chans, shape.geometry
        self.bias = nn.Parameter(torch.zeros(shape.out_chans)) if shape.bias else None

    def forward(self, images: Tensor, subset: Subset) -> Tensor:
        """Features (B, out, H', W') of normalised images (B, k, H, W) of the k channels of ``subset``, in its order.

        Raises ChannelError if the subset is empty, out of order or out of range, or does not fit the images.
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
        """``forward`` without the checks: one convolution with the subset's kernel."""
        return self.geometry.convolve(images, self.kernel(subset), self.bias_for(subset))

    def kernel(self, subset: Subset) -> Tensor:
        """Kernel (out, k, kh, kw) for the k channels of a subset."""
        raise NotImplementedError

    def bias_for(self, subset: Subset) -> Tensor | None:  # noqa: ARG002 - stems whose bias depends on it override
        """Bias (out,) that goes with a subset's kernel, or None."""
        return self.bias

    def kernel_where(self, present: Tensor) -> Tensor | None:  # noqa: ARG002
        """``kernel`` as a function of a tensor, so that one exported graph serves all subsets.

        ``present`` is (C,) floats, 1 for present channels (at least one) and 0 for missing ones. The kernel is
        (out, C, kh, kw), zero for the missing channels; None if the stem cannot compute it this way.
        """
        return None

    def bias_where(self, present: Tensor) -> Tensor | None:  # noqa: ARG002 - as bias_for
        """``bias_for`` as a function of a tensor, to go with ``kernel_where``."""
        return self.bias

    @property
    def estimates(self) -> bool:
        """Whether ``estimate`` gives this stem's kernels; an inherited one may not fit a subclass's ``kernel``."""
        return False

    def estimate(self, subset: Subset) -> Tensor:
        """E (C, k): the kernel of a subset is the full set's times E, so that E completes images (``estimates``)."""
        raise NotImplementedError

    def estimate_where(self, present: Tensor) -> Tensor:
        """``estimate`` as a function of a tensor, as ``kernel_where``: (C, C), zero for the missing channels."""
        raise NotImplementedError

    def basis_kernels(self, subset: Subset) -> Tensor | None:  # noqa: ARG002
        """The kernels (K, out, k, kh, kw) that each image's kernel is a linear combination of, if it is one."""
        return None

    def mixing_weights(self, images: Tensor, subset: Subset) -> Tensor:
        """Each image's coefficients of the ``basis_kernels``: (B, k, H, W) -> (B, K)."""
        raise NotImplementedError

    @torch.no_grad()
    def initialise_from(self, weight: Tensor, bias: Tensor | None) -> None:
        """Start from a plain convolution, trained or freshly initialised."""
        self.initialise(weight)
        if self.bias is not None and bias is not None:
            self.bias.copy_(bias)

    def initialise(self, weight: Tensor) -> None:
        """Start from a plain convolution's kernel (out, C, kh, kw), in place."""
        raise NotImplementedError

    def no_weight_decay(self) -> set[str]:
        """Names of parameters of 2 or more dimensions that are biases."""
        return set()

    def measure(
        self,
        correlation: Sequence[Sequence[float]] | None,
        offset: Sequence[float] | None,
        levels: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """Take measured moments of the normalised channels, in place; see ``build_stem``."""

    def anneal(self, epoch: float) -> None:
        """Set values that depend on the training epoch, a float from 0."""

    @property
    def weight_like(self) -> Tensor:
        """The plain kernel if the stem has one, else some parameter: what a network reads type and device from."""
        weight = self._parameters.get("weight")
        return next(self.parameters()) if weight is None else weight

    @property
    def slice_size(self) -> int:
        """Numbers in a channel's slice of the kernel, out * kh * kw."""
        return self.out_chans * self.geometry.kernel_size[0] * self.geometry.kernel_size[1]

    def random_kernel(self) -> Tensor:
        """A kernel (out, C, kh, kw), initialised as a ResNet's convolutions are (He et al. 2015)."""
        kernel = torch.empty(self.out_chans, self.in_chans, *self.geometry.kernel_size)
        return nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")

    def extra_repr(self) -> str:
        """Sizes for ``print(model)``."""
        return f"{self.in_chans}, {self.out_chans}, kernel_size={self.geometry.kernel_size}"
