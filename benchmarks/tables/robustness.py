"""Make the tables of docs/robustness.md: what happens when channels go missing.

python -m benchmarks.tables.robustness
"""

from __future__ import annotations

import json
import statistics
from typing import Any

from benchmarks.tables import results as files
from benchmarks.tables.results import DOCS, Runs, mean, read_study, table, write

PAGE = DOCS / "robustness.md"
NAMES = {
    "task_1/resnet18": "ResNet18",
    "task_1/v1": "v1, `masked`",
    "task_1/v2": "v2, `per_size`",
    "task_1/v3": "v3, `kernel_attention`",
    "task_1/v4": "v4, `per_size` + `dropout`",
    "task_2/resnet34": "ResNet34",
    "task_2/v1": "v1, `compact_k3`",
    "task_2/v2": "v2, `compact_k7`",
}
"""The report's networks."""
WAYS = {
    "zero_fill": "plain, missing channels zero",
    "zero_fill_calibrated": "plain, re-estimated on the subset",
    "grey": "missing channels the mean of the present ones",
    "completion": "completion",
    "completion_calibrated": "completion, re-estimated on the subset",
    "completion_calibrated_whole": "completion, re-estimated on all channels",
    "default": "default: completion, a single channel copied",
    "default_calibrated_whole": "default, re-estimated on all channels",
}
"""Ways to adapt a plain network without training, as in measure/zero_shot.py."""
ORDER = (*NAMES, "plain", "plain_3x", "ours", "ours_3x")
"""Networks that a table lists first; others follow by name."""
BROKEN = {"zeros": "zeros", "stuck": "stuck at the largest value", "noise": "noise", "swapped": "two swapped"}
"""How channels were broken in measure/broken_channels.py."""
SETS = {"jurkat-cell-cycle": "cells", "neon-tree-crowns": "tree crowns", "mini-imagenet-50": "photographs"}
"""Its data sets."""
MOST_COLUMNS = 7
SHORT = {"brightfield": "BF", "darkfield": "DF"}

Results = list[dict[str, Any]]
"""A network's results, one for each seed."""


def short(key: str) -> str:
    """Return a subset's column title."""
    return " ".join(SHORT.get(name, name) for name in key.split(","))


def by_missing(keys: list[str]) -> dict[str, list[str]]:
    """Group subsets by how many channels they miss, under the column's title."""
    groups: dict[int, list[str]] = {}
    for key in sorted(keys, key=lambda key: -key.count(",")):
        groups.setdefault(key.count(","), []).append(key)
    largest = max(groups)
    return {f"{largest - size} missing" if size < largest else "all channels": some for size, some in groups.items()}


def accuracy(results: Results, key: str) -> str:
    """Format test accuracy on a subset, in percent, over the seeds that have it."""
    figures = [result["test"]["subsets"][key] for result in results if key in result["test"]["subsets"]]
    if any("refused" in figure for figure in figures):
        return "refused"
    return mean(100 * figure["accuracy"] for figure in figures) if figures else "-"


def average(results: Results, keys: list[str]) -> str:
    """Format accuracy averaged over subsets; a dash if a network does not answer all of them."""
    figures = [[result["test"]["subsets"].get(key, {}).get("accuracy") for key in keys] for result in results]
    if any(None in of_one_seed for of_one_seed in figures):
        return "-"
    return mean(100 * statistics.mean(of_one_seed) for of_one_seed in figures)


def rows_of(study: str) -> dict[str, tuple[str, Results]]:
    """Return the networks of a study by name in a table's order, with their labels; not those dedicated to a subset."""
    found = {name: list(runs.values()) for name, runs in read_study(study).items() if not name.startswith("dedicated")}
    known = {name: str(results[0]["config"].get("report_name") or name) for name, results in found.items()}

    def order(name: str) -> tuple[int, str]:
        return ORDER.index(known[name]) if known[name] in ORDER else len(ORDER), name

    return {name: (NAMES.get(known[name], f"`{name}`"), found[name]) for name in sorted(found, key=order)}


def by_number(study: str) -> str:
    """A study's table by the number of missing channels."""
    rows = rows_of(study)
    first = next(results[0] for name, (_, results) in rows.items() if "3x" not in name)
    groups = by_missing(list(first["test"]["subsets"]))
    seeds = max(len(results) for _, results in rows.values())
    several = "one seed" if seeds == 1 else f"up to {seeds} seeds"
    tested, error = first["test"]["n"], 50 / first["test"]["n"] ** 0.5
    about = (
        f"{first['run']['num_train']:,} training images, {first['config']['training']['epochs']} epochs, "
        f"{len(first['test']['subsets'])} subsets, {tested:,} test images, {several}; one standard error is at most "
        f"{error:.1f} points."
    )
    cells = [[label, *(average(results, group) for group in groups.values())] for label, results in rows.values()]
    return f"{about}\n\n{table(['network', *groups], cells)}"


def each_subset(study: str) -> str:
    """A study's table with a column for each subset."""
    rows = list(rows_of(study).values())
    keys = [key for group in by_missing(list(rows[0][1][0]["test"]["subsets"])).values() for key in group]
    cells = [[label, *(accuracy(results, key) for key in keys)] for label, results in rows]
    return table(["network", *map(short, keys)], cells)


def adapted_table(runs: Runs, columns: dict[str, list[str]]) -> str:
    """Ways of adapting against columns, each of which averages over its subsets."""

    def cell(way: str, keys: list[str]) -> str:
        return mean(statistics.mean(run[way][key] for key in keys) for run in runs.values())

    measured = {way: label for way, label in WAYS.items() if all(way in run for run in runs.values())}
    rows = [[label, *(cell(way, keys) for keys in columns.values())] for way, label in measured.items()]
    return table(["", *columns], rows)


def adapted(name: str) -> str:
    """A plain network adapted without training, on one data set.

    A column for each subset or, if there are many, for each number of missing channels.
    """
    runs = read_study("zero_shot")[name]
    first = next(iter(runs.values()))
    columns = by_missing(list(first["zero_fill"]))
    if len(first["zero_fill"]) <= MOST_COLUMNS:
        columns = {short(key): [key] for keys in columns.values() for key in keys}
    seeds = "one seed" if len(runs) == 1 else f"{len(runs)} seeds"
    images = int(first["command"].partition("--images ")[2].split()[0])
    about = f"{first['n']:,} test images, {seeds}, {images:,} images for re-estimation."
    return f"{about}\n\n{adapted_table(runs, columns)}"


def broken() -> str:
    """Channels broken on purpose, of ``measure/broken_channels.py``."""
    found = json.loads((files.RESULTS / "broken_channels.json").read_text(encoding="utf-8"))
    rows = []
    for name, words in SETS.items():
        whole = found[name]["intact"]
        about = f"{words}, {found[name]['channels']} channels, {found[name]['images']} images"
        figures = [*number(whole, "images_with_alarm", "accuracy"), "", *number(whole, "drop_dead")]
        rows.append([about, "nothing", "", *figures])
        rows += [
            ["", text, *number(found[name][kind], "found", "others", "used", "left_out", "drop_dead")]
            for kind, text in BROKEN.items()
        ]
    head = ["data", "broken", "found", "false alarms", "used", "left out", "`--drop-dead`"]
    return table(head, rows)


def number(figures: dict[str, float], *keys: str) -> list[str]:
    """Figures in percent, with one digit."""
    return [f"{figures[key]:.1f}" for key in keys]


def make(block: str) -> str:
    """Make one block: ``STUDY``, ``STUDY/subsets``, ``zero_shot/NAME`` for a plain network, or ``broken_channels``."""
    study, _, part = block.partition("/")
    if study == "broken_channels":
        return broken()
    if study == "zero_shot":
        return adapted(part)
    return each_subset(study) if part == "subsets" else by_number(study)


if __name__ == "__main__":
    write(PAGE, make)
