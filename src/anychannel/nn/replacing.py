"""Putting one module in another's place, wherever in a network that stands."""

from __future__ import annotations

from torch import nn


def replace_module(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` at every name under which ``network`` holds ``old``, in place.

    A layer may be an attribute and part of a sequence too (``self.features = nn.Sequential(self.conv1, ...)``), and
    ``forward`` may use either.
    """
    for path, module in list(network.named_modules(remove_duplicate=False)):
        if module is old:
            parent, _, attribute = path.rpartition(".")
            setattr(network.get_submodule(parent), attribute, new)
