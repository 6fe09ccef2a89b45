"""Embeddings: what a network's last linear layer gets."""

from __future__ import annotations

import threading
from typing import Any

from torch import Tensor, nn


def embed(network: nn.Module, images: Tensor) -> Tensor:
    """Embeddings (B, D) of normalised images: a timm network's pooled features, else the last linear layer's input.

    ValueError if the network has neither.
    """
    features, head = getattr(network, "forward_features", None), getattr(network, "forward_head", None)
    if callable(features) and callable(head):
        pooled: Tensor = head(features(images), pre_logits=True)
        return pooled
    found: list[Tensor] = []
    own = threading.get_ident()

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        if threading.get_ident() == own:
            found.append(inputs[0])

    handles = [m.register_forward_pre_hook(keep) for m in network.modules() if isinstance(m, nn.Linear)]
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    if not found or found[-1].ndim != 2:
        raise ValueError(f"{type(network).__name__} does not end in a linear layer, whose input would be the embedding")
    return found[-1]
