"""The gap tables of docs/method.md, from the studies' results.

    python -m benchmarks.tables.method

Reads ``results/report_quick`` and ``results/any_subset_*`` and writes what stands between the page's two marks; no
figure there is typed. The site composes it anew each time it is built.
"""

from __future__ import annotations

import json
import statistics

from benchmarks.tables.report import HERE, insert_tables, mean, table
from benchmarks.tables.robustness import short

PAGE = HERE.parent / "docs" / "method.md"
DATA = {
    "full": ("Photographs, 50 classes at 84 x 84", "R,G,B", "any_subset_full/plain"),
    "quick": ("Photographs, 25 classes at 42 x 42", "R,G,B", "report_quick/resnet18"),
    "jurkat": ("Stained cells", "brightfield,PI,darkfield", "any_subset_jurkat/plain"),
}
"""Each study's title, full set, and where its plain network is."""
ROWS = {
    "plain": "plain, missing channels left out",
    "dedicated": "dedicated: a network for each column",
    "dedicated_3x_R": "dedicated to R, 3x",
    "ours": "one network for all, 1x",
    "ours_3x": "one network for all, 3x",
    "plain_3x": "plain, 3x",
    "ours_norm_shared": "one network for all, 1x, norm `shared`",
    "ours_norm_shared_3x": "one network for all, 3x, norm `shared`",
    "ours_quarter_3x": "one network for all, 3x, a quarter of the batch on all channels",
    "ours_uniform_size_3x": "one network for all, 3x, sampler `uniform_size` with 4 parts",
    "ours_norm_subset": "one network for all, 1x, norm `subset`",
    "ours_distilled": "one network for all, 1x, distilled from its own full-set answer",
}
Accuracies = dict[str, dict[int, float]]
"""Test accuracy in percent by subset and seed."""


def read(pattern: str) -> Accuracies:
    """A network's accuracies; ``pattern`` is study/network."""
    found: Accuracies = {}
    for path in sorted((HERE / "results").glob(f"{pattern}-s*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        for key, figures in result["test"]["subsets"].items():
            if "accuracy" in figures:
                found.setdefault(key, {})[result["run"]["seed"]] = 100 * figures["accuracy"]
    return found


def read_dedicated(kind: str) -> Accuracies:
    """The networks that a study trained for one subset each, as long as the others' 1x."""
    paths = (HERE / "results" / f"any_subset_{kind}").glob("dedicated_*-s*.json")
    names = {path.stem.rpartition("-s")[0] for path in paths}
    found: Accuracies = {}
    for name in sorted(name for name in names if not name.startswith("dedicated_3x_")):
        found |= read(f"any_subset_{kind}/{name}")
    return found


def gather(kind: str) -> dict[str, Accuracies]:
    """Every network of a study; a plain one is the one dedicated to the full set."""
    _, full, plain = DATA[kind]
    found = {name: read(f"any_subset_{kind}/{name}") for name in ROWS}
    found["plain"] = read(plain)
    found["dedicated"] = read_dedicated(kind) | {full: found["plain"].get(full, {})}
    return {name: figures for name, figures in found.items() if figures}


def gaps(ours: Accuracies, dedicated: Accuracies) -> dict[str, float]:
    """Ours minus dedicated, in points, averaged over the seeds that both have, for each subset that both have."""
    found = {}
    for key, seeds in ours.items():
        common = seeds.keys() & dedicated.get(key, {}).keys()
        if common:
            found[key] = statistics.mean(seeds[seed] - dedicated[key][seed] for seed in common)
    return found


def section(kind: str) -> str:
    """One data set's table, and its gaps in words."""
    title, full, _ = DATA[kind]
    found = gather(kind)
    names = full.split(",")
    known = {key for figures in found.values() for key in figures}
    keys = sorted(known, key=lambda key: (-key.count(","), [names.index(name) for name in key.split(",")]))
    rows = [
        [ROWS[name], *(mean(list(figures[key].values())) if figures.get(key) else "-" for key in keys)]
        for name, figures in found.items()
    ]
    rows += [
        [f"gap at {budget}: ours minus dedicated", *(f"{gap[key]:+z.1f}" if key in gap else "-" for key in keys)]
        for budget, gap in budgets(found, full)
    ]
    words = [say(budget, gap, [key for key in keys if key != full]) for budget, gap in budgets(found, full)]
    seeds = sorted({len(values) for figures in found.values() for values in figures.values()})
    number = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    several = "one seed" if number == "1" else f"{number} seeds (mean ± deviation)"
    about = f"Test accuracy (%), {several}. 1x means the image passes of one dedicated network."
    return "\n\n".join([f"### {title}", about, table(["", *map(short, keys)], rows), *words])


def budgets(found: dict[str, Accuracies], full: str) -> list[tuple[str, dict[str, float]]]:
    """The gaps at each budget that was run; on all channels, to the plain network of the same budget."""
    pairs = (("1x", "ours", "plain"), ("3x", "ours_3x", "plain_3x"))
    return [
        (budget, gaps(found[ours], found["dedicated"] | {full: found.get(plain, {}).get(full, {})}))
        for budget, ours, plain in pairs
        if ours in found
    ]


def say(budget: str, gap: dict[str, float], subsets: list[str]) -> str:
    """Mean and worst of the subsets with channels missing."""
    known = {key: gap[key] for key in subsets if key in gap}
    if not known:
        return f"At {budget} no dedicated network has been compared with yet."
    worst = min(known, key=lambda key: known[key])
    return (
        f"At {budget}, over {len(known)} of {len(subsets)} subsets with channels missing: mean gap "
        f"{statistics.mean(known.values()):+z.1f} points, worst {known[worst]:+z.1f} ({short(worst)})."
    )


def many_channels() -> str:
    """The embedded bands' table: by size, since their subsets are too many to list."""
    full = ",".join(f"band_{number}" for number in range(1, 9))
    read_one = {name: read(f"any_subset_bands/{name}") for name in ("plain", "plain_3x", "ours", "ours_3x")}
    dedicated = read_dedicated("bands") | {full: read_one["plain"].get(full, {})}
    keys = {size: [key for key in dedicated if key.count(",") == size - 1] for size in range(8, 0, -1)}
    keys = {size: found for size, found in keys.items() if found}

    def cells(found: Accuracies) -> list[str]:
        return [
            f"{statistics.mean(statistics.mean(found[key].values()) for key in some):.1f}" for some in keys.values()
        ]

    rows = [["plain, missing channels left out", *cells(read_one["plain"])]]
    rows += [["plain, 3x", *cells(read_one["plain_3x"])]]
    rows += [["dedicated: a network for each subset", *cells(dedicated)]]
    words = []
    for budget, name, plain in (("1x", "ours", "plain"), ("3x", "ours_3x", "plain_3x")):
        rows.append([f"one network for all, {budget}", *cells(read_one[name])])
        gap = gaps(read_one[name], dedicated | {full: read_one[plain].get(full, {})})
        by_size = [f"{statistics.mean(gap[key] for key in some):+z.1f}" for some in keys.values()]
        rows.append([f"gap at {budget}: ours minus dedicated", *by_size])
        worst = min(gap, key=lambda key: gap[key])
        words.append(
            f"At {budget}, over these {len(gap)} subsets: mean gap {statistics.mean(gap.values()):+z.1f} points, worst "
            f"{gap[worst]:+z.1f} ({worst.replace('_', ' ').replace(',', ', ')})."
        )
    seeds = sorted({len(values) for values in dedicated.values()})
    head = ["channels given", *(f"{size} of 8" if size < 8 else "all 8" for size in keys)]
    about = (
        f"The embedded bands have 255 subsets; {len(gap)} of them, drawn by size, have a dedicated network. Test "
        f"accuracy (%) averaged over the subsets of each size, {seeds[-1]} seeds."
    )
    return "\n\n".join(["### Eight bands", about, table(head, rows), *words])


def compose() -> str:
    """What stands between the marks."""
    return "\n\n".join([*(section(kind) for kind in DATA), many_channels()])


def insert(page: str) -> str:
    """The page with its tables as the results say."""
    return insert_tables(page, compose(), PAGE)


if __name__ == "__main__":
    PAGE.write_text(insert(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
