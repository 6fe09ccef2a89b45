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
        "Red, green and blue predict each other well. {n_train:,} photographs of 25 classes at 42 x 42 pixels, "
        "{epochs} epochs; the report's networks ([how](benchmarks.md#quick-protocol)).",
    ),
    "any_subset_full": (
        "Photographs at full size, trained for every subset",
        "{n_train:,} photographs of 50 classes at 84 x 84 pixels, ResNet18, {epochs} epochs; `ours` is `completion` "
        "with `split`, `3x` three times as long. A dedicated network was trained on the one subset that it is listed "
        "with.",
    ),
    "any_subset_quick": (
        "Small photographs, trained for every subset",
        "The photographs and protocol of the report's networks above; `ours` is `completion` with `split`, `3x` three "
        "times as long.",
    ),
    "any_subset_bands": (
        "Embedded bands",
        "Handwritten digits in eight made-up spectral bands, none of which suffices: half synthetic, and no evidence "
        "about real sensors. {n_train:,} images, {epochs} epochs; {subsets} of the 255 subsets, more than the "
        "[method's page](method.md#more-channels-than-subsets-can-be-listed-for) compares, so its means differ.",
    ),
    "any_subset_jurkat": (
        "Stained cells",
        "Brightfield, PI (a DNA stain) and darkfield hardly predict each other. {n_train:,} Jurkat cells of "
        "four phases at 40 x 40 pixels, ResNet18, {epochs} epochs; `ours` is `completion` with `split`, `3x` three "
        "times as long. A dedicated network was trained on the one subset that it is listed with.",
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
    """A study's two tables: by the number of missing channels, and each subset."""
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
            f"Test accuracy (%) on {tested:,} images, {several}; one standard error is at most {error:.1f} points. "
            "By the number of channels that are missing, averaged over the subsets:",
            table(
                ["network", *groups],
                [[label(n, r), *(average(r, group) for group in groups.values())] for n, r in whole.items()],
            ),
            *(each_subset(found, keys) if len(keys) <= MOST_COLUMNS else ()),
        ]
    )


def each_subset(found: dict[str, list[dict[str, Any]]], keys: list[str]) -> tuple[str, str]:
    """A table with a column for each subset."""
    rows = [[label(name, results), *(cell(results, key) for key in keys)] for name, results in found.items()]
    return "Each subset:", table(["network", *(short(key) for key in keys)], rows)


def adapted(name: str, title: str) -> str:
    """A plain network mended without training, on one data set, over the seeds that were measured.

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
        "What happens to a network when channels go missing. Made by `python -m benchmarks.tables.robustness` from "
        "the JSON files in [benchmarks/results](../benchmarks/results), which hold every figure with its "
        "configuration, "
        "versions, processor, commit and the command that made it. To make most of these anew:",
        f"<!-- no-run: hours -->\n```sh\n{commands}\npython -m benchmarks.tables.robustness\n```",
        "A missing channel is not given; for a plain network that is the same as its mean. A network that refuses a "
        'subset is listed as such, and "-" stands where one was not measured.',
        *(text for study in STUDIES if (text := section(study))),
        "## Mended without training",
        "A plain network, given another stem or other batch norm statistics. How far that helps depends on how well "
        "the channels predict each other: on photographs it helps every subset; on the stained cells completion alone "
        "harms some, with statistics of the subset it helps, and without the DNA stain most is lost all the same.",
        *(text for name, title in ADAPTED.items() if (text := adapted(name, title))),
        "What networks do with bands that training never showed is on the "
        "[benchmark page](benchmarks.md#bands-that-training-never-showed).",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(compose(), encoding="utf-8")
