"""Stems: images of some channels -> features of fixed width. One file a method, its paper on top."""

from __future__ import annotations

from anychannel.nn.stems.base import ConvGeometry, Stem
from anychannel.nn.stems.completion import CompletionStem
from anychannel.nn.stems.kernel_attention import KernelAttentionStem
from anychannel.nn.stems.masked import MaskedStem
from anychannel.nn.stems.per_size import PerSizeStem
from anychannel.nn.stems.plain_conv import as_plain_conv
from anychannel.nn.stems.registry import STEMS, build_stem, create_stem, list_stems
from anychannel.nn.stems.static import StaticStem

__all__ = [
    "STEMS",
    "CompletionStem",
    "ConvGeometry",
    "KernelAttentionStem",
    "MaskedStem",
    "PerSizeStem",
    "StaticStem",
    "Stem",
    "as_plain_conv",
    "build_stem",
    "create_stem",
    "list_stems",
]
