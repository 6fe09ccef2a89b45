"""Classifiers: stem + backbone, by name; how they are saved and loaded."""

from __future__ import annotations

from anychannel.utils.lazy import lazy_names

__getattr__, __all__ = lazy_names(__name__, __file__)
