"""Work over many images in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
MOST_WORKERS = 8


def count_workers() -> int:
    """Threads for reading and decoding: the cores that this process may use, at most ``MOST_WORKERS``."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MOST_WORKERS)


def map_ahead(pool: Executor, function: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """As ``pool.map``, in the items' order, but with only ``ahead`` items taken before their results are."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made by a thread while the one before it is used."""
    end = object()
    pool = ThreadPoolExecutor(1)
    try:
        waiting: Future[T | object] = pool.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, items, end)
            yield item  # type: ignore[misc]  # not the end, so one of the items
    finally:
        pool.shutdown(cancel_futures=True)
