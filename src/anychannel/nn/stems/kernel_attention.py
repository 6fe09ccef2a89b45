"""Report, Task I, v3: attention over convolution kernels.

Chen, Dai, Liu, Chen, Yuan, Liu: "Dynamic Convolution: Attention over Convolution Kernels", CVPR 2020,
https://arxiv.org/abs/1912.03458, section 3 (K = 4 kernels, softmax with temperature, annealed from 30 to 1 over the
first ten epochs).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from anychannel.channels import Subset
from anychannel.nn.stems.base import Stem, StemShape
from anychannel.nn.stems.per_image import describe, of_channels, per_image_conv2d, scatter


class KernelAttentionStem(Stem):
    """K learned kernels, mixed for every image by softmax(head(d(x)) / T).

    d(x) is the spatial mean of each channel, and the head is a C -> hidden layer, ReLU, and a hidden -> K layer.
    Missing channels are zero in d(x) and left out of the kernels.

    Args:
        kernels: number of kernels K.
        temperature: T at the start of training.
        anneal_epochs: epochs over which T falls linearly to 1.
    """

    per_image: ClassVar[bool] = True
    zero_is_missing: ClassVar[bool] = True

    def __init__(
        self, shape: StemShape, *, kernels: int = 4, temperature: float = 30.0, anneal_epochs: float = 10.0
    ) -> None:
        super().__init__(shape)
        if kernels < 1:
            raise ValueError(f"kernels must be at least 1, got {kernels}")
        if temperature < 1 or anneal_epochs < 0:
            raise ValueError(
                f"temperature must be at least 1 and anneal_epochs not negative, got {temperature} and {anneal_epochs}"
            )
        if temperature == 1 and anneal_epochs != 10:
            raise ValueError(
                f"anneal_epochs={anneal_epochs:g} has no effect: the temperature starts at 1, where it ends"
            )
        self.initial_temperature = temperature
        self.anneal_epochs = anneal_epochs
        self.kernels = nn.Parameter(torch.empty(kernels, self.out_chans, self.in_chans, *self.geometry.kernel_size))
        hidden = max(self.in_chans // 4, kernels)
        self.squeeze = nn.Linear(self.in_chans, hidden)
        self.attend = nn.Linear(hidden, kernels)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        for kernel in self.kernels:
            nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")

    def anneal(self, epoch: float) -> None:
        done = 1.0 if self.anneal_epochs == 0 else min(epoch / self.anneal_epochs, 1.0)
        self.temperature.fill_(self.initial_temperature + done * (1.0 - self.initial_temperature))

    def attention(self, images: Tensor, subset: Subset) -> Tensor:
        """Each image's weights (B, K) of the kernels; each row sums to 1."""
        described = scatter(describe(images), subset, self.in_chans)
        scores = self.attend(torch.relu(self.squeeze(described)))
        return torch.softmax(scores / self.temperature.view(1, 1), dim=1)  # a matrix brings bfloat16 to float32

    def features(self, images: Tensor, subset: Subset) -> Tensor:
        attention = self.attention(images, subset)
        kernels = self.basis_kernels(subset)
        mixed = (attention @ kernels.flatten(1).to(attention.dtype)).view(-1, *kernels.shape[1:])
        return per_image_conv2d(images, mixed.to(kernels.dtype), self.bias, self.geometry)

    def basis_kernels(self, subset: Subset) -> Tensor:
        return of_channels(self.kernels, subset)

    def mixing_weights(self, images: Tensor, subset: Subset) -> Tensor:
        return self.attention(images, subset).to(self.kernels.dtype)

    def initialise(self, weight: Tensor) -> None:
        """Start every kernel at the convolution's, plus noise of a tenth of its scale, which makes them differ."""
        noise = torch.randn_like(self.kernels) * (0.1 * weight.std() if weight.numel() > 1 else 0.1)
        self.kernels.copy_(weight + noise)
