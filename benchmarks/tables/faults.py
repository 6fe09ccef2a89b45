"""Make the tables of docs/reliability.md: each promise, and on how many faults made on purpose it was tried.

python -m benchmarks.tables.faults
"""

from __future__ import annotations

import json

from benchmarks.tables.results import DOCS, RESULTS, table, write

PAGE = DOCS / "reliability.md"


def make(block: str) -> str:
    """Make the table of one section of ``faults.json``."""
    entry = json.loads((RESULTS / "faults.json").read_text(encoding="utf-8"))[block]
    rows = [[promise, f"{count['tried']:,}", f"{count['passed']:,}"] for promise, count in entry["promises"].items()]
    return table(["", "tried", "held"], rows)


if __name__ == "__main__":
    write(PAGE, make)
