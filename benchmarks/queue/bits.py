"""Which test images a network classified correctly, one bit an image, as results keep it for paired tests."""

from __future__ import annotations

import base64

import numpy as np


def pack(correct: np.ndarray) -> str:
    """Pack a boolean array into base64 text."""
    return base64.b64encode(np.packbits(correct).tobytes()).decode("ascii")


def unpack(text: str, n: int) -> np.ndarray:
    """Inverse of ``pack`` for ``n`` images."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=n).astype(bool)
