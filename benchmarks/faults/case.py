"""One case: a fault, made on purpose, and what must be true after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """A check that passes when ``check(folder)`` returns and fails when it raises; ``folder`` is new and empty."""

    promise: str
    """What holds, in one sentence; the result file counts its cases."""
    name: str
    """Names the case within its promise."""
    check: Callable[[Path], None]
    short: bool = False
    """Runs in the test suite too. All short cases together take less than 90 seconds."""
    fuzzed: bool = False
    """The input is random. Such cases are counted apart."""
