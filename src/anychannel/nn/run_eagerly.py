"""What a compiled network leaves out of its graph. Importing this imports PyTorch's compiler, which takes a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


@torch.compiler.disable  # type: ignore[untyped-decorator]
def run_eagerly(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function``; a network that is being compiled goes on with what it returns."""
    return function(*arguments)
