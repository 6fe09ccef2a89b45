"""Data: files or an embedded data set -> decoded cache -> batches -> augmented batches."""

from __future__ import annotations

from anychannel.utils.lazy import lazy_names

__getattr__, __all__ = lazy_names(__name__, __file__)
