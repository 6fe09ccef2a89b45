"""Buffers that keep their digits when a network goes to half precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

HALF = (torch.float16, torch.bfloat16)


class Float32Buffers(nn.Module):
    """A module whose own buffers stay in float32 when ``half``, ``bfloat16`` or ``to`` convert its parameters.

    Half precision rounds statistics visibly: float16 has no number above 65504, which 16-bit images reach.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move and convert as ``nn.Module`` does; see the class."""
        exact = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in self._buffers.items():
            before = exact[name]
            if buffer is not None and before is not None and buffer.dtype in HALF:
                self._buffers[name] = before.to(buffer.device)
        return self
