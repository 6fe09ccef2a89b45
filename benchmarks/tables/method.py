"""Make the tables of docs/method.md: one network for every subset against networks dedicated to one.

python -m benchmarks.tables.method
"""

from __future__ import annotations

import statistics

from benchmarks.tables.results import DOCS, Accuracies, accuracies, count_seeds, mean, read_any_subset, table, write
from benchmarks.tables.robustness import short

PAGE = DOCS / "method.md"
DATA = {
    "full": ("Photographs, 50 classes at 84 x 84", "R,G,B"),
    "quick": ("Photographs, 25 classes at 42 x 42", "R,G,B"),
    "jurkat": ("Stained cells", "brightfield,PI,darkfield"),
}
"""Each study's title and full set of channels."""
ROWS = {
    "plain": "plain, missing channels left out",
    "dedicated": "dedicated: a network for each column",
    "dedicated_3x_R": "dedicated to R, 3x",
    "ours": "one network for all, 1x",
    "ours_taught": "one network for all, 1x, taught by the plain network: 2x in all",
    "ours_warm": "one network for all, 1x, started from the plain network: 2x in all",
    "ours_3x": "one network for all, 3x",
    "plain_3x": "plain, 3x",
    "ours_norm_shared": "one network for all, 1x, norm `shared`",
    "ours_norm_shared_3x": "one network for all, 3x, norm `shared`",
    "ours_quarter_3x": "one network for all, 3x, a quarter of the batch on all channels",
    "ours_uniform_size_3x": "one network for all, 3x, sampler `uniform_size` with 4 parts",
    "ours_norm_subset": "one network for all, 1x, norm `subset`",
    "ours_distilled": "one network for all, 1x, distilled from its own full-set answer",
}
BUDGETS = {
    "1x": ("ours", "plain"),
    "2x, taught": ("ours_taught", "plain"),
    "2x, warm start": ("ours_warm", "plain"),
    "3x": ("ours_3x", "plain_3x"),
}
"""At each training budget, the network for all subsets and the plain one."""


def gather(kind: str, full: str) -> dict[str, Accuracies]:
    """Return each network's accuracies; ``dedicated`` joins the networks dedicated to one subset.

    The plain network is the one dedicated to the full set.
    """
    found = {name: accuracies(runs) for name, runs in read_any_subset(kind).items()}
    dedicated: Accuracies = {}
    for name, figures in found.items():
        if name.startswith("dedicated_") and not name.startswith("dedicated_3x_"):
            dedicated |= figures
    found["dedicated"] = dedicated | {full: found["plain"].get(full, {})}
    return found


def gaps(ours: Accuracies, dedicated: Accuracies) -> dict[str, float]:
    """Ours minus dedicated, in points, averaged over the seeds that both have, for each subset that both have."""
    found = {}
    for key, seeds in ours.items():
        common = seeds.keys() & dedicated.get(key, {}).keys()
        if common:
            found[key] = statistics.mean(seeds[seed] - dedicated[key][seed] for seed in common)
    return found


def gaps_by_budget(found: dict[str, Accuracies], full: str) -> dict[str, dict[str, float]]:
    """Return the gaps at each budget that was run; on all channels, to the plain network of the same budget."""
    return {
        budget: gaps(found[ours], found["dedicated"] | {full: found.get(plain, {}).get(full, {})})
        for budget, (ours, plain) in BUDGETS.items()
        if ours in found
    }


def few_channels(kind: str, title: str, full: str) -> str:
    """One data set's table, with a column for each subset."""
    found = gather(kind, full)
    found = {name: found[name] for name in ROWS if found.get(name)}
    names = full.split(",")
    known = {key for figures in found.values() for key in figures}
    keys = sorted(known, key=lambda key: (-key.count(","), [names.index(name) for name in key.split(",")]))
    rows = [
        [ROWS[name], *(mean(figures[key].values()) if figures.get(key) else "-" for key in keys)]
        for name, figures in found.items()
    ]
    summaries = []
    for budget, gap in gaps_by_budget(found, full).items():
        label = f"gap at {budget}: ours minus dedicated"
        rows.append([label, *(f"{gap[key]:+z.1f}" if key in gap else "-" for key in keys)])
        missing = {key: gap[key] for key in keys if key in gap and key != full}
        summaries.append(
            f"At {budget}, over {len(missing)} of {len(keys) - 1} subsets with channels missing: {summarise(missing)}"
        )
    seeds = sorted({len(values) for figures in found.values() for values in figures.values()})
    several = count_seeds(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {count_seeds(seeds[-1])}"
    about = f"Test accuracy (%), {several}. 1x means the image passes of one dedicated network."
    return "\n\n".join([f"### {title}", about, table(["", *map(short, keys)], rows), *summaries])


def summarise(gap: dict[str, float]) -> str:
    """Give the mean and worst gap."""
    worst = min(gap, key=lambda key: gap[key])
    mean_gap, name = statistics.mean(gap.values()), short(worst).replace("_", " ")
    return f"mean gap {mean_gap:+z.1f} points, worst {gap[worst]:+z.1f} ({name})."


def many_channels() -> str:
    """The embedded bands' table: by size, since their subsets are too many to list."""
    full = ",".join(f"band_{number}" for number in range(1, 9))
    found = gather("bands", full)
    dedicated = found["dedicated"]
    by_size = {size: [key for key in dedicated if key.count(",") == size - 1] for size in range(8, 0, -1)}
    by_size = {size: keys for size, keys in by_size.items() if keys}

    def cells(figures: Accuracies) -> list[str]:
        return [
            f"{statistics.mean(statistics.mean(figures[key].values()) for key in keys):.1f}"
            for keys in by_size.values()
        ]

    rows = [["plain, missing channels left out", *cells(found["plain"])], ["plain, 3x", *cells(found["plain_3x"])]]
    rows.append(["dedicated: a network for each subset", *cells(dedicated)])
    summaries = []
    for budget, gap in gaps_by_budget(found, full).items():
        rows.append([f"one network for all, {budget}", *cells(found[BUDGETS[budget][0]])])
        means = [f"{statistics.mean(gap[key] for key in keys):+z.1f}" for keys in by_size.values()]
        rows.append([f"gap at {budget}: ours minus dedicated", *means])
        summaries.append(f"At {budget}, over these {len(gap)} subsets: {summarise(gap)}")
    head = ["channels given", *(f"{size} of 8" if size < 8 else "all 8" for size in by_size)]
    about = (
        f"The embedded bands have 255 subsets; {len(dedicated)} of them, drawn by size, have a dedicated network. Test "
        f"accuracy (%) averaged over the subsets of each size, {max(map(len, dedicated.values()))} seeds."
    )
    return "\n\n".join(["### Eight bands", about, table(head, rows), *summaries])


def make(_: str) -> str:
    """Make the page's tables."""
    return "\n\n".join([*(few_channels(kind, *about) for kind, about in DATA.items()), many_channels()])


if __name__ == "__main__":
    write(PAGE, make)
