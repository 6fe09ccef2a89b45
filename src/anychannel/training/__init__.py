"""Training: the loop, its settings, early stopping, checkpoints."""

from __future__ import annotations

from anychannel.utils.lazy import lazy_names

__getattr__, __all__ = lazy_names(__name__, __file__)
