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
from anychannel.nn.stems.base import ConvGeometry, Stem
from anychannel.nn.stems.per_image import describe, per_image_conv2d, scatter


class KernelAttentionStem(Stem):
    """K learned kernels, mixed for every image by softmax(head(d(x)) / T).

    The head is squeeze (spatial mean), a C -> hidden layer, ReLU, and a hidden -> K layer. Missing channels are zero
    in the descriptor and left out of the kernels.

    Args:
        in_chans, out_chans, geometry, bias: see ``Stem``.
        kernels: number of kernels K.
        temperature: T at the start of training; ends at 1.
        anneal_epochs: epochs over which T falls linearly to 1.
    """

    per_image: ClassVar[bool] = True
    zero_is_missing: ClassVar[bool] = True

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        geometry: ConvGeometry,
        bias: bool = False,
        *,
        kernels: int = 4,
        temperature: float = 30.0,
        anneal_epochs: float = 10.0,
    ) -> None:
        super().__init__(in_chans, out_chans, geometry, bias)
        if kernels < 1:
            raise ValueError(f"kernels must be at least 1, got {kernels}")
        if temperature < 1 or anneal_epochs < 0:
            raise ValueError(
                f"temperature must be at least 1 and anneal_epochs not negative, got {temperature} and {anneal_epochs}"
            )
        self.initial_temperature = temperature
        self.anneal_epochs = anneal_epochs
        self.kernels = nn.Parameter(torch.empty(kernels, out_chans, in_chans, *geometry.kernel_size))
        hidden = max(in_chans // 4, kernels)
        self.squeeze = nn.Linear(in_chans, hidden)
        self.attend = nn.Linear(hidden, kernels)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        for kernel in self.kernels:
            nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")

    def anneal(self, epoch: float) -> None:
        """Set T for a moment of training, counted in epochs from 0 (fractions allowed)."""
        done = 1.0 if self.anneal_epochs == 0 else min(epoch / self.anneal_epochs, 1.0)
        self.temperature.fill_(self.initial_temperature + done * (1.0 - self.initial_temperature))

    def attention(self, images: Tensor, subset: Subset) -> Tensor:
        """Each image's weights over the K kernels, (B, K), rows sum to 1."""
        described = scatter(describe(images), subset, self.in_chans)
        scores = self.attend(torch.relu(self.squeeze(described)))
        return torch.softmax(scores / self.temperature.view(1, 1), dim=1)  # a matrix brings bfloat16 to float32

    def features(self, images: Tensor, subset: Subset) -> Tensor:
        """Mix the kernels for each image and convolve."""
        attention = self.attention(images, subset)
        kernels = self.basis_kernels(subset)
        mixed = (attention @ kernels.flatten(1).to(attention.dtype)).view(-1, *kernels.shape[1:])
        return per_image_conv2d(images, mixed.to(kernels.dtype), self.bias, self.geometry)

    def basis_kernels(self, subset: Subset) -> Tensor:
        """The learned kernels."""
        return self.kernels[:, :, list(subset)]

    def mixing_weights(self, images: Tensor, subset: Subset) -> Tensor:
        """The attention."""
        return self.attention(images, subset).to(self.kernels.dtype)

    @torch.no_grad()
    def initialise_from(self, weight: Tensor, bias: Tensor | None) -> None:
        """Every kernel starts at the convolution's, plus a tenth of its scale in noise to tell them apart."""
        noise = torch.randn_like(self.kernels) * (0.1 * weight.std() if weight.numel() > 1 else 0.1)
        self.kernels.copy_(weight + noise)
        self.copy_bias(bias)
