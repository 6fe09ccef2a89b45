"""Make the tables of docs/pretrained.md: networks with published weights and missing channels, and fine-tuned.

python -m benchmarks.tables.pretrained
"""

from __future__ import annotations

import json
import statistics
from typing import Any

from benchmarks.tables import neon
from benchmarks.tables.method import few_channels
from benchmarks.tables.results import DOCS, RESULTS, table, write

PAGE = DOCS / "pretrained.md"
SUBSETS = ("R,G", "R,B", "G,B", "R", "G", "B")
WAYS = {
    "zero": "missing channels zero",
    "grey": "missing channels the mean of the present ones",
    "completion": "completion with the images' own statistics",
    "default": "`adapt`, without an image",
    "calibrated": "`adapt`, then `calibrate` on 1,000 unlabelled images",
    "adapted_unlabelled_100": "`adapt_unlabelled`, 100 images",
    "adapted_unlabelled": "`adapt_unlabelled`, 1,000 images",
    "adapted_unlabelled_10000": "`adapt_unlabelled`, 10,000 images",
}


def row(label: str, full: float, figures: dict[str, float]) -> list[str]:
    """One way's accuracies, with the means over pairs and single channels."""
    pairs, singles = (statistics.mean(figures[key] for key in keys) for keys in (SUBSETS[:3], SUBSETS[3:]))
    return [label, f"{full:.1f}", *(f"{value:.1f}" for value in (pairs, singles, *(figures[key] for key in SUBSETS)))]


def network(name: str, rows: dict[str, Any]) -> str:
    """One network's table."""
    lines = [row(label, rows.get(f"{way}_full", rows["full"]), rows[way]) for way, label in WAYS.items() if way in rows]
    head = ["", "all", "pairs", "singles", *(key.replace(",", " ") for key in SUBSETS)]
    return f"EfficientNet-{name.capitalize()}:\n\n{table(head, lines)}"


def make(block: str) -> str:
    """Make one of the page's blocks."""
    if block == "any_subset_jurkat_lite0":
        return few_channels("jurkat_lite0", "Fine-tuned on stained cells", "brightfield,PI,darkfield")
    if block == neon.LITE0:
        return neon.make(block)
    result = json.loads((RESULTS / "pretrained.json").read_text(encoding="utf-8"))
    networks = {name: rows for name, rows in result.items() if name.startswith("lite") and rows}
    count, size = result["data"]["n_test"], result["data"]["size"]
    passes = max(value for rows in networks.values() for key, value in rows.items() if key.endswith("_passes"))
    about = (
        f"Test accuracy (%) of networks with ImageNet weights on {count:,} photographs of 50 of its classes at "
        f"{size} x {size}, one seed; one standard error is at most {50 / count**0.5:.1f} points. The networks have "
        "seen these photographs in their own training, so compare ways with each other only. An adaptation takes at "
        f"most {passes:,} image passes. Measured by `python -m benchmarks.measure.pretrained`."
    )
    return "\n\n".join([about, *(network(name, rows) for name, rows in networks.items())])


if __name__ == "__main__":
    write(PAGE, make)
