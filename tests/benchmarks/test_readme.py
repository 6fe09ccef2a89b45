"""The figures at the top of README.md are those of the committed results."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def by_missing(figures: dict[str, float]) -> list[str]:
    """All three channels, the mean of the pairs, the mean of the single channels."""
    sizes = [[value for key, value in figures.items() if key.count(",") == size] for size in (2, 1, 0)]
    return [f"{statistics.mean(values):.1f}" for values in sizes]


def trained(study: str, name: str) -> dict[str, float]:
    subsets = json.loads((RESULTS / study / f"{name}-s0.json").read_text(encoding="utf-8"))["test"]["subsets"]
    return {key: 100 * figures["accuracy"] for key, figures in subsets.items()}


def test_the_table_at_the_top_holds_what_the_results_say():
    adapted = json.loads((RESULTS / "zero_shot" / "quick-s0.json").read_text(encoding="utf-8"))["completion"]
    networks = [trained("any_subset_quick", name) for name in ("plain_3x", "ours_3x")]
    expected = [trained("report_quick", "resnet18"), adapted, *networks]
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("| ResNet18, test accuracy")[2]
    rows = [re.findall(r"\| +([\d.]+)(?= \|)", line) for line in table.splitlines()[2:6]]
    assert rows == [by_missing(figures) for figures in expected]
