"""Seeds from several numbers."""

from __future__ import annotations

import numpy as np


def mix(*numbers: int) -> int:
    """Mix whole numbers, none negative, to a 63-bit seed (NumPy's ``SeedSequence``)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
