"""Report, Task II: a network of about 0.2 M parameters (self-attention, squeeze-and-excitation, residual block)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from anychannel.models.attention import ResidualBlock, SelfAttention, SqueezeExcitation


class CompactNet(nn.Module):
    """Convolution; attention and excitation; residual block; convolution to ``2 * width``; pooling; classifier.

    ``kernel_size``, ``stride`` and ``padding`` are those of the first convolution: 3, 1, 1 in the report's v1 and
    7, 2, 3 in its v2. ``width`` is its number of features.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 50,
        *,
        kernel_size: int = 7,
        stride: int = 2,
        padding: int = 3,
        width: int = 64,
    ) -> None:
        super().__init__()
        if width < 16:  # squeeze-and-excitation divides by 16
            raise ValueError(f"width is the number of features of the first convolution, at least 16, got {width}")
        self.conv1 = nn.Conv2d(in_chans, width, kernel_size, stride, padding)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.attention = SelfAttention(width, width // 8)
        self.excitation = SqueezeExcitation(width)
        self.block = ResidualBlock(width, width // 8)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.fc = nn.Linear(2 * width, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2 * width, H', W')."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.block(self.excitation(self.attention(x)))
        features: Tensor = self.relu(self.bn2(self.conv2(x)))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, num_classes)."""
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(self.forward_features(x), 1).flatten(1))
        return logits
