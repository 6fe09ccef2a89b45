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


def mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.mean(row[key] for row in rows) for key in rows[0]}


def trained(study: str, name: str) -> dict[str, float]:
    paths = sorted((RESULTS / study).glob(f"{name}-s[0-9].json"))
    assert len(paths) == 3
    runs = [json.loads(path.read_text(encoding="utf-8"))["test"]["subsets"] for path in paths]
    return mean_of([{key: 100 * figures["accuracy"] for key, figures in subsets.items()} for subsets in runs])


def adapted(name: str) -> dict[str, float]:
    paths = sorted((RESULTS / "zero_shot").glob(f"{name}-s*.json"))
    assert len(paths) == 3
    return mean_of([json.loads(path.read_text(encoding="utf-8"))["completion"] for path in paths])


def test_the_table_at_the_top_holds_what_the_results_say():
    study = "any_subset_full"
    short = [trained(study, "plain"), adapted("full"), trained(study, "ours")]
    long = [trained(study, "plain_3x"), adapted("full_3x"), trained(study, "ours_3x")]
    expected = [by_missing(figures) for figures in (*short, *long)]
    assert rows_of("| ResNet18 trained from scratch", 6) == expected


def test_the_first_table_holds_what_a_published_network_reached():
    found = json.loads((RESULTS / "pretrained.json").read_text(encoding="utf-8"))["lite0"]
    ways = ("zero", "default", "adapted_unlabelled")
    expected = [by_missing({"R,G,B": found.get(f"{way}_full", found["full"]), **found[way]}) for way in ways]
    assert rows_of("| EfficientNet-Lite0", 3) == expected


def rows_of(head: str, count: int) -> list[list[str]]:
    """The figures of a table whose first line begins so."""
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition(head)[2]
    return [re.findall(r"\| +([\d.]+)(?= \|)", line) for line in table.splitlines()[2 : 2 + count]]
