"""When classes are uneven, so that a mean over images says little about rare ones."""

from __future__ import annotations

from collections.abc import Iterable

UNEVEN = 1.5
"""Classes are uneven if the largest has more than this times as many images as the smallest.

The data set repository KEEL counts such data as imbalanced (Alcala-Fdez et al., Journal of Multiple-Valued Logic and
Soft Computing 17, 2011).
"""


def is_uneven(counts: Iterable[float]) -> bool:
    """Whether the largest class has more than ``UNEVEN`` times as many images as the smallest that has any."""
    held = [count for count in counts if count > 0]
    return len(held) > 1 and max(held) > UNEVEN * min(held)
