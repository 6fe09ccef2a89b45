"""The module that replaces a backbone's first convolution; the backbone's ``forward`` stays as it is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anychannel.nn.stems import Stem
from anychannel.nn.subset_context import current_parts


class AdaptiveConv2d(nn.Module):
    """Runs the stem on each part of the batch and joins the features."""

    def __init__(self, stem: Stem) -> None:
        super().__init__()
        self.stem = stem

    def forward(self, images: Tensor) -> Tensor:
        """(B, k, H, W) of one subset, or (B, C, H, W) with a subset for each part -> (sum of parts, out, H', W')."""
        parts = current_parts()
        if len(parts) == 1 and len(parts[0]) == len(images) and len(parts[0].subset) == images.shape[1]:
            whole: Tensor = self.stem(images, parts[0].subset)
            return whole
        features = []
        for part in filter(len, parts):  # one of several processes may have no image of a part
            rows = images[part.start : part.stop]
            kept = rows if len(part.subset) == rows.shape[1] else rows[:, list(part.subset)]
            features.append(self.stem(kept, part.subset))
        return torch.cat(features)
