"""Read benchmarks/results, and write tables between the marks of a page in docs/.

A page marks the place of each block of tables by its name::

    <!-- tables: report_quick -->

    ...

    <!-- end of tables -->
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from scipy.stats import t

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
STUDIES = ROOT / "benchmarks" / "studies"
BEGIN, END = "<!-- tables: ", "<!-- end of tables -->"
BLOCK = re.compile(rf"({BEGIN}(.+?) -->\n\n).*?(\n\n{END})", re.DOTALL)

Runs = dict[int, dict[str, Any]]
"""A network's results by seed."""

Accuracies = dict[str, dict[int, float]]
"""Test accuracy in percent by subset and seed."""


def read_study(study: str) -> dict[str, Runs]:
    """Return a study's results by network and seed."""
    found: dict[str, Runs] = {}
    for path in sorted((RESULTS / study).glob("*-s*.json")):
        name, _, seed = path.stem.rpartition("-s")
        found.setdefault(name, {})[int(seed)] = json.loads(path.read_text(encoding="utf-8"))
    return found


def read_any_subset(kind: str) -> dict[str, Runs]:
    """Return the networks of a study of every subset; the quick one shares its plain network with the report's."""
    found = read_study(f"any_subset_{kind}")
    return {"plain": read_study("report_quick").get("resnet18", {})} | found if kind == "quick" else found


def accuracies(runs: Runs) -> Accuracies:
    """Return the accuracies of a network, without the subsets that it refuses."""
    found: Accuracies = {}
    for seed, run in runs.items():
        for key, figures in run["test"]["subsets"].items():
            if "accuracy" in figures:
                found.setdefault(key, {})[seed] = 100 * figures["accuracy"]
    return found


def mean(values: Iterable[float], digits: int = 1) -> str:
    """Format a mean, with the standard deviation if there is more than one value."""
    values = list(values)
    text = f"{statistics.mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {statistics.stdev(values):.{digits}f}"


def paired_interval(gaps: list[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of two or more paired differences, by Student's t."""
    half = float(t.ppf(0.975, len(gaps) - 1)) * statistics.stdev(gaps) / len(gaps) ** 0.5
    return statistics.fmean(gaps) - half, statistics.fmean(gaps) + half


def count_seeds(count: int) -> str:
    """``one seed``, or how many and that cells give mean and deviation."""
    return "one seed" if count == 1 else f"{count} seeds (mean ± deviation)"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Format a Markdown table; the first column is text, the others are numbers."""
    head = list(head)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def fill(page: Path, make: Callable[[str], str]) -> str:
    """Return a page's text with each marked block replaced by ``make(name)``.

    Raises:
        SystemExit: the page has no marks, or a mark without its end.
    """
    text = page.read_text(encoding="utf-8")
    if not text.count(BEGIN) == len(BLOCK.findall(text)) > 0:
        raise SystemExit(f"{page} has lost its marks {BEGIN}NAME --> and {END}")
    return BLOCK.sub(lambda match: f"{match[1]}{make(match[2])}{match[3]}", text)


def write(page: Path, make: Callable[[str], str]) -> None:
    """Replace the marked blocks of a page."""
    page.write_text(fill(page, make), encoding="utf-8")
