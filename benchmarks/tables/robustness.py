"""What happens when channels go missing: docs/robustness.md, from the studies' results.

    python -m benchmarks.tables.robustness

Reads ``results/report_quick``, ``results/any_subset_*`` and ``results/zero_shot``; no figure of the page is typed. The
site composes the page anew each time it is built, so that it holds what the results say even where the file lags.
"""

from __future__ import annotations

import json
import statistics
from typing import Any

from benchmarks.tables.report import HERE, NAMES, accuracy, adapted_table, made_by, mean, read_adapted, table

PAGE = HERE.parent / "docs" / "robustness.md"
STUDIES = {
    "report_quick": (
        "Small photographs",
        "The report's networks ([protocol](benchmarks.md#quick-protocol)) on {n_train:,} photographs of 25 classes at "
        "42 x 42 pixels, {epochs} epochs. Red, green and blue predict each other well.",
    ),
    "any_subset_full": (
        "Photographs at full size, trained for every subset",
        "{n_train:,} photographs of 50 classes at 84 x 84 pixels, ResNet18, {epochs} epochs "
        "([each subset](method.md#photographs-50-classes-at-84-x-84)).",
    ),
    "any_subset_quick": (
        "Small photographs, trained for every subset",
        "Photographs and protocol of the report's networks above "
        "([each subset](method.md#photographs-25-classes-at-42-x-42)).",
    ),
    "any_subset_bands": (
        "Embedded bands",
        "Handwritten digits in eight made-up spectral bands, none of which suffices. Half synthetic, so no evidence "
        "about real sensors. {n_train:,} images, {epochs} epochs; {subsets} of the 255 subsets. "
        "[Method](method.md#eight-bands) compares fewer, so its means differ.",
    ),
    "any_subset_jurkat": (
        "Stained cells",
        "Brightfield, PI (a DNA stain) and darkfield hardly predict each other. {n_train:,} Jurkat cells of four "
        "phases at 40 x 40 pixels, ResNet18, {epochs} epochs ([each subset](method.md#stained-cells)).",
    ),
}
ADAPTED = {
    "full": "Photographs at full size",
    "full_3x": "Photographs at full size, the plain network trained three times as long",
    "quick": "Small photographs",
    "quick_3x": "Small photographs, the plain network trained three times as long",
    "jurkat": "Stained cells, of four phases",
    "bands": "Embedded bands, averaged over a sample of the subsets of each size",
}
"""Plain networks that were adapted without training, by the beginning of their files' names."""
ORDER = (*NAMES, "plain", "plain_3x", "ours", "ours_3x")
"""Networks that a table lists first; others follow by name."""
ON_METHOD_PAGE = ("any_subset_full", "any_subset_quick", "any_subset_bands", "any_subset_jurkat")
"""Studies whose subsets are listed in docs/method.md."""
MOST_COLUMNS = 7
SHORT = {"brightfield": "BF", "darkfield": "DF"}


def short(key: str) -> str:
    """A subset's column title."""
    return " ".join(SHORT.get(name, name) for name in key.split(","))


def by_missing(keys: list[str]) -> dict[str, list[str]]:
    """Subsets by how many channels they miss, under the title of a column that averages over them."""
    groups: dict[int, list[str]] = {}
    for key in sorted(keys, key=lambda key: -key.count(",")):
        groups.setdefault(key.count(","), []).append(key)
    largest = max(groups)
    return {f"{largest - size} missing" if size < largest else "all channels": some for size, some in groups.items()}


def read(study: str) -> dict[str, list[dict[str, Any]]]:
    """A study's results by network, one for each seed.

    Networks dedicated to a subset count as one network, unless they were trained longer.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((HERE / "results" / study).glob("*.json")):
        name = path.stem.rpartition("-s")[0]
        longer = name.startswith("dedicated_3x_")
        found.setdefault("dedicated" if name.startswith("dedicated_") and not longer else name, []).append(
            json.loads(path.read_text(encoding="utf-8"))
        )
    return dict(sorted(found.items(), key=lambda item: (rank(*item), item[0])))


def rank(name: str, results: list[dict[str, Any]]) -> int:
    """A network's place in a table."""
    known = results[0]["config"].get("report_name") or name
    return ORDER.index(known) if known in ORDER else len(ORDER)


def label(name: str, results: list[dict[str, Any]]) -> str:
    """What the tables call a network."""
    return NAMES.get(results[0]["config"].get("report_name") or "", f"`{name}`")


def cell(results: list[dict[str, Any]], key: str) -> str:
    """Accuracy on a subset, over the seeds that have it."""
    known = [result for result in results if key in result["test"]["subsets"]]
    return accuracy(known, key) if known else "-"


def average(results: list[dict[str, Any]], keys: list[str]) -> str:
    """Accuracy averaged over subsets; nothing where a network does not answer all of them."""
    values = []
    for result in results:
        figures = [result["test"]["subsets"].get(key, {}) for key in keys]
        if not all("accuracy" in figure for figure in figures):
            return "-"
        values.append(100 * statistics.mean(figure["accuracy"] for figure in figures))
    return mean(values)


def section(study: str) -> str:
    """A study's table by the number of missing channels, and one with each subset if no other page has it."""
    found = read(study)
    if not found:
        return ""
    sample = next(results[0] for name, results in found.items() if not name.startswith("dedicated"))
    groups = by_missing(list(sample["test"]["subsets"]))
    keys = [key for group in groups.values() for key in group]
    title, about = STUDIES[study]
    seeds = {name: len({result["run"]["seed"] for result in results}) for name, results in found.items()}
    tested, error = sample["test"]["n"], 50 / sample["test"]["n"] ** 0.5
    several = "one seed each" if max(seeds.values()) == 1 else f"up to {max(seeds.values())} seeds (mean ± deviation)"
    facts = {
        "n_train": sample["run"]["num_train"],
        "epochs": sample["config"]["training"]["epochs"],
        "subsets": len(keys),
    }
    whole = {name: results for name, results in found.items() if not name.startswith("dedicated")}
    return "\n\n".join(
        [
            f"## {title}",
            about.format(**facts),
            f"Test accuracy (%) on {tested:,} images, {several}. One standard error is at most {error:.1f} points. "
            "Means over the subsets with this number of missing channels:",
            table(
                ["network", *groups],
                [[label(n, r), *(average(r, group) for group in groups.values())] for n, r in whole.items()],
            ),
            *(each_subset(found, keys) if study not in ON_METHOD_PAGE else ()),
        ]
    )


def each_subset(found: dict[str, list[dict[str, Any]]], keys: list[str]) -> tuple[str, str]:
    """A table with a column for each subset."""
    rows = [[label(name, results), *(cell(results, key) for key in keys)] for name, results in found.items()]
    return "Each subset:", table(["network", *(short(key) for key in keys)], rows)


def adapted(name: str, title: str) -> str:
    """A plain network adapted without training, on one data set, over the seeds that were measured.

    A column for each subset or, where there are many, for each number of missing channels.
    """
    results = read_adapted(name)
    if not results:
        return ""
    columns = by_missing(list(results[0]["zero_fill"]))
    if len(results[0]["zero_fill"]) <= MOST_COLUMNS:
        columns = {short(key): [key] for keys in columns.values() for key in keys}
    first, seeds = results[0], len(results)
    several = "one seed" if seeds == 1 else f"{seeds} seeds (mean ± deviation)"
    about = f"{title}; {first['n']:,} test images, {several}; {made_by(first)}."
    return f"{about}\n\n{adapted_table(results, columns)}"


def compose() -> str:
    """The page's text."""
    data = {"any_subset_jurkat": " --data jurkat-cell-cycle", "any_subset_bands": ""}
    commands = "\n".join(
        f"python -m benchmarks.queue.study benchmarks/studies/{study}.toml"
        f"{data.get(study, ' --data mini-imagenet-50')} --runs runs"
        for study in STUDIES
    )
    parts = [
        "# Robustness",
        "For readers who want to know how much accuracy a network loses when channels are missing, and how much "
        "completion or batch-norm re-estimation brings back without training.",
        "A missing channel is left out, which for a plain network equals its mean. A dash means refused or not "
        "measured. `ours` is stem `completion` with sampler `split`. Name parts: `3x`, trained three times as long; "
        "`norm_`, another normalisation; `uniform_size`, another sampler; `quarter`, a quarter of each batch with all "
        "channels instead of half; `distilled`, from its own answer to all channels. [Method](method.md) explains "
        "these and compares with networks dedicated to one subset.",
        "`python -m benchmarks.tables.robustness` writes this page from the JSON files in "
        "[benchmarks/results](../benchmarks/results). They hold every figure with its configuration, versions, "
        "processor, commit and command. These commands make most of them:",
        f"<!-- no-run: hours -->\n```sh\n{commands}\npython -m benchmarks.tables.robustness\n```",
        *(text for study in STUDIES if (text := section(study))),
        "## Adapted without training",
        'A plain network with another stem, batch-norm re-estimation, or both. `replace_stem(model, "completion")` '
        "estimates the missing channels from the present ones inside the first convolution. Re-estimation "
        "(`calibrate`) recomputes batch-norm statistics for one subset from unlabelled images: of the subset, or of "
        "all channels.",
        "How much this helps depends on how well the channels predict each other. On photographs it helps every "
        "subset. On the stained cells completion alone harms some subsets; with statistics of the subset it helps, but "
        "without the DNA stain most accuracy is lost anyway.",
        *(text for name, title in ADAPTED.items() if (text := adapted(name, title))),
        "[Benchmarks](benchmarks.md#bands-that-training-never-showed) has networks on bands that training never saw.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(compose(), encoding="utf-8")
