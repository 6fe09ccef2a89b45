"""ResNet-18 and ResNet-34 (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016).

Layers, their names, their order and their initial weights are those of timm's networks of these names, so that the
weights of one are the weights of the other. Importing timm takes as long again as importing torch.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which has a convolution of its own if the shape changes."""

    def __init__(self, in_chans: int, width: int, stride: int) -> None:
        super().__init__()
        same = stride == 1 and in_chans == width
        shortcut = () if same else (nn.Conv2d(in_chans, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.conv1 = nn.Conv2d(in_chans, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(*shortcut) if shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, width, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += shortcut
        out: Tensor = self.act2(x)
        return out


class ResNet(nn.Module):
    """A 7x7 convolution of stride 2, a pooling of stride 2, four stages of ``depths`` blocks, and a linear classifier.

    ``zero_init_last`` starts the scale of each block's last norm at 0 instead of 1, as timm does by default.
    """

    def __init__(self, depths: Sequence[int], in_chans: int, num_classes: int, *, zero_init_last: bool = False) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.conv1 = nn.Conv2d(in_chans, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = nn.MaxPool2d(3, 2, 1)
        before = 64
        for number, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True), start=1):
            stride = 1 if number == 1 else 2
            blocks = [BasicBlock(before if i == 0 else width, width, stride if i == 0 else 1) for i in range(depth)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            before = width
        self.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        self.fc = nn.Linear(before, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BasicBlock) and zero_init_last:
                nn.init.zeros_(module.bn2.weight)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 512, H / 32, W / 32), rounded up."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(x))))
        for number in range(1, len(WIDTHS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, num_classes)."""
        logits: Tensor = self.fc(self.global_pool(self.forward_features(x)))
        return logits
