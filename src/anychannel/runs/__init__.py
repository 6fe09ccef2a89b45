"""Runs: a configuration in, one folder with the trained network and all results out."""

from __future__ import annotations

from anychannel.utils.lazy import lazy_names

__getattr__, __all__ = lazy_names(__name__, __file__)
