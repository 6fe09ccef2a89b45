"""How work over many files is cut up for a pool of threads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
CHUNK = 64
MOST_WORKERS = 8


def count_workers() -> int:
    """Threads for reading and decoding: the cores that this process may use, at most ``MOST_WORKERS``."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MOST_WORKERS)


def chunked(items: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """Consecutive pieces of ``size`` items, the last one shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
