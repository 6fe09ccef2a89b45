"""Report, Task I, v1: kernels generated from a masked descriptor, for the one channel set it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from anychannel.channels import ChannelError, Subset
from anychannel.nn.stems.base import Stem, StemShape
from anychannel.nn.stems.per_image import describe, generated_basis, of_channels, per_image_conv2d, scatter, with_one


class MaskedStem(Stem):
    """Linear(C -> out * C * kh * kw) maps an image's masked descriptor to its kernel.

    It learns one channel set, the first that it gets in training. On other sets the generator is out of its range, as
    the report shows, so the stem refuses them. It always has a bias, as in the report.

    Args:
        trained: positions of the channel set that it was trained on, None before training.
        allow_untrained: evaluate other channel sets too.
    """

    per_image: ClassVar[bool] = True

    def __init__(
        self, shape: StemShape, *, trained: Sequence[int] | None = None, allow_untrained: bool = False
    ) -> None:
        super().__init__(replace(shape, bias=True))
        self.trained_channels: Tensor
        self.register_buffer("trained_channels", torch.zeros(self.in_chans, dtype=torch.uint8))
        self.trained = None if trained is None else tuple(trained)
        self.allow_untrained = allow_untrained
        self.generator = nn.Linear(self.in_chans, self.in_chans * self.slice_size)
        self.initialise_from(self.random_kernel(), None)

    @property
    def trained(self) -> Subset | None:
        """The channel set that it was trained on, None before training."""
        if self._trained is None:  # averaged weights have only the buffer
            self.read_trained()
        return self._trained

    @trained.setter
    def trained(self, subset: Subset | None) -> None:
        self.trained_channels.zero_()
        self.trained_channels[list(subset or ())] = 1
        self.read_trained()

    def read_trained(self) -> None:
        """Read the channel set from the buffer, which waits for the device; so ``features`` does not."""
        self._trained: Subset | None = tuple(self.trained_channels.nonzero().flatten().tolist()) or None
        self.options = {**self.options, "trained": self._trained and list(self._trained)}

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.read_trained()

    def features(self, images: Tensor, subset: Subset) -> Tensor:
        if self.training and self._trained is None:
            self.trained = subset
        self.refuse_untrained(subset)
        masked = scatter(describe(images), subset, self.in_chans)
        kernels = self.generator(masked).view(-1, self.out_chans, self.in_chans, *self.geometry.kernel_size)
        return per_image_conv2d(images, of_channels(kernels, subset), self.bias, self.geometry)

    def refuse_untrained(self, subset: Subset) -> None:
        """Raise ChannelError if the subset is not the one that the stem was trained on."""
        trained = self._trained
        if trained is not None and subset != trained and (self.training or not self.allow_untrained):
            raise ChannelError(
                f"the masked stem was trained on the channel positions {trained} and cannot take {subset}; "
                "train it on that set (sampler 'full'), choose a stem that takes subsets, or set allow_untrained to "
                "see it fail"
            )

    def basis_kernels(self, subset: Subset) -> Tensor:
        self.refuse_untrained(subset)
        kernels = generated_basis(self.generator, self.out_chans, self.geometry.kernel_size)
        return of_channels(kernels, subset)

    def mixing_weights(self, images: Tensor, subset: Subset) -> Tensor:
        return with_one(scatter(describe(images), subset, self.in_chans))

    def initialise(self, weight: Tensor) -> None:
        """Make the kernel the generator's bias; draw the generator's weights at the kernel's scale over sqrt(C)."""
        self.generator.bias.copy_(weight.flatten())
        nn.init.normal_(self.generator.weight, std=float(weight.std()) / self.in_chans**0.5)
