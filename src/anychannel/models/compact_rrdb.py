"""Our compact network: the report's ingredients in four layers of at most 0.213 M parameters, arranged for accuracy.

As in the report, a layer is a convolution or a residual block with what belongs to it: one convolution and three
residual-in-residual blocks with squeeze-and-excitation, the last with self-attention. It differs in three points:

- Convolutions inside a block are inverted bottlenecks with a depthwise 3x3 (Sandler et al., "MobileNetV2", CVPR 2018,
  https://arxiv.org/abs/1801.04381), each followed by a batch norm. The report has three full 3x3 in a row without any.
- Each block but the first halves height and width before its chain, so that attention sees few positions.
- A bottleneck may be applied several times with the same convolutions and separate batch norms, which adds depth
  without parameters (similar: Shen et al., "Sliced Recursive Transformer", ECCV 2022,
  https://arxiv.org/abs/2111.05297).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from anychannel.models.attention import SelfAttention, SqueezeExcitation


class Bottleneck(nn.Module):
    """1x1 up by ``expansion``, depthwise 3x3, squeeze-and-excitation, 1x1 down; the input is added if shapes allow.

    ``forward`` may be called ``times`` times on one input, each time with its own batch norms.
    """

    def __init__(self, in_chans: int, out_chans: int, *, expansion: float, stride: int = 1, times: int = 1) -> None:
        super().__init__()
        inner = round(expansion * in_chans)
        self.expand = nn.Conv2d(in_chans, inner, 1, bias=False)
        self.depthwise = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        self.excitation = SqueezeExcitation(inner)
        self.project = nn.Conv2d(inner, out_chans, 1, bias=False)
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(width) for width in (inner, inner, out_chans)) for _ in range(times)
        )
        self.act = nn.SiLU()
        self.adds = stride == 1 and in_chans == out_chans

    def forward(self, x: Tensor, time: int = 0) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        first, second, third = self.norms[time].children()
        inner = self.act(first(self.expand(x)))
        inner = self.excitation(self.act(second(self.depthwise(inner))))
        refined: Tensor = third(self.project(inner))
        return x + refined if self.adds else refined


class ResidualInResidual(nn.Module):
    """A bottleneck with ``stride``, then a chain of ``depth`` bottlenecks (and attention) whose result is added.

    Each bottleneck of the chain is applied ``repeats`` times in a row.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        *,
        stride: int,
        depth: int,
        expansion: float,
        repeats: int = 1,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.down = Bottleneck(in_chans, out_chans, expansion=expansion, stride=stride)
        self.chain = nn.ModuleList(
            Bottleneck(out_chans, out_chans, expansion=expansion, times=repeats) for _ in range(depth)
        )
        self.repeats = repeats
        self.attention = SelfAttention(out_chans, out_chans // 8) if attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        x = self.down(x)
        refined = x
        for block in self.chain:
            for time in range(self.repeats):
                refined = block(refined, time)
        result: Tensor = x + self.attention(refined)
        return result


class CompactRRDB(nn.Module):
    """Convolution; residual-in-residual blocks, the last with self-attention; dropout; classifier.

    ``kernel_size``, ``stride`` and ``widths[0]`` describe the first convolution. Block i has the width
    ``widths[i + 1]`` and ``depths[i]`` bottlenecks in its chain; its first bottleneck has the stride ``strides[i]``.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 50,
        *,
        kernel_size: int = 3,
        stride: int = 2,
        widths: Sequence[int] = (32, 40, 64, 96),
        depths: Sequence[int] = (2, 1, 1),
        strides: Sequence[int] = (1, 2, 2),
        expansion: float = 3.0,
        repeats: int = 2,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        if not depths or len(strides) != len(depths) or len(widths) != len(depths) + 1:
            raise ValueError(
                "give a depth and a stride for each block and one width more, got "
                f"depths {list(depths)}, strides {list(strides)}, widths {list(widths)}"
            )
        self.conv1 = nn.Conv2d(in_chans, widths[0], kernel_size, stride, kernel_size // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.act = nn.SiLU()
        self.blocks = nn.Sequential(
            *(
                ResidualInResidual(
                    widths[i],
                    widths[i + 1],
                    stride=strides[i],
                    depth=depth,
                    expansion=expansion,
                    repeats=repeats,
                    attention=i == len(depths) - 1,
                )
                for i, depth in enumerate(depths)
            )
        )
        self.bn2 = nn.BatchNorm2d(widths[-1])
        self.dropout = nn.Dropout(drop)
        self.fc = nn.Linear(widths[-1], num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, widths[-1], H', W')."""
        x = self.blocks(self.act(self.bn1(self.conv1(x))))
        features: Tensor = self.act(self.bn2(x))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, num_classes)."""
        pooled = F.adaptive_avg_pool2d(self.forward_features(x), 1).flatten(1)
        logits: Tensor = self.fc(self.dropout(pooled))
        return logits
