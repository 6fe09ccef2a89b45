"""The tables of docs/ablation.md, from the results of the ablation's study.

    python -m benchmarks.tables.ablation

Reads ``results/ablation_quick`` and writes what stands between the page's two marks. The site composes it anew each
time it is built.
"""

from __future__ import annotations

import statistics
import tomllib
from typing import Any

from anychannel.runs.config import RunConfig, load_recipe, merge
from benchmarks.tables.method import Accuracies, read
from benchmarks.tables.report import HERE, insert_tables, mean, table

PAGE = HERE.parent / "docs" / "ablation.md"
STUDY = HERE / "studies" / "ablation_quick.toml"
BASE = "base"
"""The network that the others change one thing of, and ``PLAIN`` one that knows nothing of subsets."""
PLAIN = "plain"
TITLES = {
    "stem": "Stem",
    "sampler": "Sampler",
    "norm": "Normalisation",
    "distilled": "Distillation",
    "several": "More than one thing changed",
}
GROUPS = {"RGB": ["R,G,B"], "pairs": ["R,G", "R,B", "G,B"], "singles": ["R", "G", "B"]}
SIX = GROUPS["pairs"] + GROUPS["singles"]


def changes_of(name: str, values: dict[str, Any]) -> tuple[str, str]:
    """Which table a run belongs to, and its row's label, from what its file changes."""
    training = values.get("training", {})
    words = [f"`{values[kind]}`" for kind in ("stem", "norm") if kind in values]
    words += [f"`{training['sampler']}`"] if "sampler" in training else []
    options = values.get("stem_options", {}) | training.get("sampler_options", {})
    if "distill" in training:
        teacher = values.get("teacher")
        source = f"a {teacher} network" if teacher else "its own answer"
        words.append(f"{training['distill']:g} of the loss from {source}")
    words += [f"{option} = {value}".replace("True", "true") for option, value in options.items()]
    several = len({"stem", "norm"} & values.keys()) + ("sampler" in training) > 1
    kind = "several" if several else name.partition("_")[0]
    return kind, ", ".join(words)


def six(found: Accuracies, seeds: list[int]) -> float:
    """Mean accuracy over the subsets with channels missing."""
    return statistics.mean(found[key][seed] for key in SIX for seed in seeds)


def seeds_of(found: Accuracies) -> list[int]:
    """Seeds that have every subset."""
    return sorted(set.intersection(*(set(found.get(key, {})) for key in SIX)))


def row(label: str, found: Accuracies, base: Accuracies) -> list[str]:
    """Means of each group's subsets over the seeds, and the distance to the base on the six, over common seeds."""
    seeds = seeds_of(found)
    cells = [mean([statistics.mean(found[key][seed] for key in keys) for seed in seeds]) for keys in GROUPS.values()]
    common = [seed for seed in seeds if seed in seeds_of(base)]
    distance = f"{six(found, common) - six(base, common):+z.1f}" if common else "-"
    return [label, *cells, distance, str(len(seeds))]


def label_of_base() -> str:
    """What the network that the study starts from consists of."""
    study = tomllib.loads(STUDY.read_text(encoding="utf-8"))
    recipe = load_recipe(STUDY.parent / study["recipe"])
    config = RunConfig.from_dict({"data": "photos"} | merge(recipe, study["base"]))
    return f"**`{config.stem}`, `{config.training.sampler}`, `{config.norm}`**"


def compose() -> str:
    """What stands between the marks: a table for each part of the method, the best row first."""
    base, plain = (read(f"{STUDY.stem}/{name}") for name in (BASE, PLAIN))
    tables: dict[str, list[tuple[str, Accuracies]]] = {kind: [] for kind in TITLES}
    missing = []
    for name, values in tomllib.loads(STUDY.read_text(encoding="utf-8"))["runs"].items():
        if name in (BASE, PLAIN):
            continue
        kind, label = changes_of(name, values)
        found = read(f"{STUDY.stem}/{name}")
        if found:
            tables[kind].append((label, found))
        else:
            missing.append(label)
    head = ["", *GROUPS, "six, against the method", "seeds"]
    first = [(label_of_base(), base)] if base else []
    parts = []
    if base and plain:
        rows = [row(label, found, base) for label, found in [*first, ("plain", plain)]]
        parts.append(f"## What it starts from\n\n{table(head, rows)}")
    for kind, runs in tables.items():
        if runs:
            rows = [row(label, found, base) for label, found in [*first, *runs]]
            rows[len(first) :] = sorted(rows[len(first) :], key=lambda cells: -float(cells[-2]))
            parts.append(f"## {TITLES[kind]}\n\n{table(head, rows)}")
    if missing:
        parts.append(f"Not run yet: {'; '.join(missing)}.")
    return "\n\n".join(parts)


def insert(page: str) -> str:
    """The page with its tables as the results say."""
    return insert_tables(page, compose(), PAGE)


if __name__ == "__main__":
    PAGE.write_text(insert(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
