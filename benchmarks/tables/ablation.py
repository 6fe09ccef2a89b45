"""Make the tables of docs/ablation.md: each part of the method changed or left out.

python -m benchmarks.tables.ablation
"""

from __future__ import annotations

import statistics
import tomllib
from typing import Any

from anychannel.runs.config import RunConfig, load_recipe, merge
from benchmarks.tables.results import DOCS, STUDIES, Accuracies, accuracies, mean, read_study, table, write

PAGE = DOCS / "ablation.md"
STUDY = STUDIES / "ablation_quick.toml"
BASE, PLAIN = "base", "plain"
"""The network that the others change one thing of, and one trained without missing channels."""
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
    """Return the table that a run belongs to, and its row's label, from what the study changes for it."""
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
    """Return the mean accuracy over the subsets with channels missing."""
    return statistics.mean(found[key][seed] for key in SIX for seed in seeds)


def seeds_of(found: Accuracies) -> list[int]:
    """Return the seeds that have every subset."""
    return sorted(set.intersection(*(set(found.get(key, {})) for key in SIX)))


def row(label: str, found: Accuracies, base: Accuracies) -> list[str]:
    """Means of each group's subsets over the seeds, and the distance to the base on the six, over common seeds."""
    seeds = seeds_of(found)
    cells = [mean(statistics.mean(found[key][seed] for key in keys) for seed in seeds) for keys in GROUPS.values()]
    common = [seed for seed in seeds if seed in seeds_of(base)]
    distance = f"{six(found, common) - six(base, common):+z.1f}" if common else "-"
    return [label, *cells, distance, str(len(seeds))]


def make(_: str) -> str:
    """Make a table for each part of the method, the best row first."""
    study = tomllib.loads(STUDY.read_text(encoding="utf-8"))
    results = {name: accuracies(runs) for name, runs in read_study(STUDY.stem).items()}
    tables: dict[str, list[tuple[str, Accuracies]]] = {kind: [] for kind in TITLES}
    missing = []
    for name in [name for name in study["runs"] if name not in (BASE, PLAIN)]:
        kind, label = changes_of(name, study["runs"][name])
        if name in results:
            tables[kind].append((label, results[name]))
        else:
            missing.append(label)
    recipe = load_recipe(STUDY.parent / study["recipe"])
    config = RunConfig.from_dict({"data": "photos"} | merge(recipe, study["base"]))
    base = results.get(BASE, {})
    first = [(f"**`{config.stem}`, `{config.training.sampler}`, `{config.norm}`**", base)] if base else []
    head = ["", *GROUPS, "six, against the method", "seeds"]
    parts = []
    if base and PLAIN in results:
        rows = [row(label, found, base) for label, found in [*first, ("plain", results[PLAIN])]]
        parts.append(f"## What it starts from\n\n{table(head, rows)}")
    for kind, runs in tables.items():
        if runs:
            rows = [row(label, found, base) for label, found in runs]
            rows = [row(*one, base) for one in first] + sorted(rows, key=lambda cells: -float(cells[-2]))
            parts.append(f"## {TITLES[kind]}\n\n{table(head, rows)}")
    if missing:
        parts.append(f"Not run yet: {'; '.join(missing)}.")
    return "\n\n".join(parts)


if __name__ == "__main__":
    write(PAGE, make)
