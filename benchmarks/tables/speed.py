"""Make the table of docs/speed.md.

python -m benchmarks.tables.speed
"""

from __future__ import annotations

import json

from benchmarks.speed.timing import BOUNDS
from benchmarks.tables.results import DOCS, RESULTS, table, write

PAGE = DOCS / "speed.md"
SIGNS = dict(zip(BOUNDS, ("≥", "≤"), strict=True))

SPACE = "&nbsp;"


def make(_: str) -> str:
    """Make the page's table."""
    result = json.loads((RESULTS / "speed.json").read_text(encoding="utf-8"))
    rows = []
    for key, row in result["rows"].items():
        bound = next(bound for bound in BOUNDS if bound in row)
        ratios = (row["ratio"], *row["spread"])
        digits = 0 if row["ratio"] >= 100 else 2
        middle, low, high = (f"{value:.{digits}f}" for value in ratios)
        rows.append(
            [f"{key}: {row['what']}", middle, f"{low}{SPACE}to{SPACE}{high}", f"{SIGNS[bound]}{SPACE}{row[bound]:g}"]
        )
    about = f"Measured on {result['device']}, with torch {result['environment']['torch']}, by `{result['command']}`."
    return "\n\n".join([about, table(["", "ratio", "spread", "aim"], rows)])


if __name__ == "__main__":
    write(PAGE, make)
