"""Gather Task II's study into one file, and the tables of docs/compact.md.

    python -m benchmarks.tables.compact

Reads ``benchmarks/results/compact_quick/`` and writes ``benchmarks/results/compact.json``: test accuracy in percent of
each network, one entry a seed in ``seeds``' order, and what share of ResNet34's each compact one reaches. Only seeds
are taken of which the networks of both comparisons are finished. The site composes the page's tables anew each time it
is built, of all that is there.
"""

from __future__ import annotations

import functools
import statistics
import tomllib
from typing import Any

from anychannel.utils.files import write_json
from benchmarks.tables.any_subset import Runs, names_of, percents
from benchmarks.tables.any_subset import read as read_runs
from benchmarks.tables.report import HERE, insert_tables, mean, table

PAGE = HERE.parent / "docs" / "compact.md"
STUDY = HERE / "studies" / "compact_quick.toml"
PROTOCOL = (
    "mini-imagenet-50, first 25 classes, 42 x 42 pixels; report_*: one learning rate (AdamW, 0.001) until the "
    "validation loss has not fallen for 8 epochs; report_compact_k7_cycle: one cycle of 60 epochs, taught by "
    "best_compact_any; best_compact: recipes/quick.toml with 30 epochs; best_resnet34: "
    "AdamW, 0.001 throughout, averaged weights, the best of 40 epochs"
)
FULL = "R,G,B"
PAIRS = {
    "report": ("report_compact_k7", "report_resnet34"),
    "report_limit": ("report_compact_k7_cycle", "report_resnet34"),
    "best": ("best_compact", "best_resnet34"),
}
"""Each comparison's compact network and its yardstick."""
NEEDED = ("report", "best")
"""Comparisons whose seeds are taken; the others are left out until they have them."""
TITLES = {
    "report": "The report's protocol: early stopping, the same augmentation for both",
    "best": "Each by its best recipe",
    "quick": "The quick protocol: one cycle of 10 epochs",
}


def gather() -> dict[str, Any] | None:
    """The file's content; None where no seed has both comparisons."""
    found = {name: read_runs(STUDY.stem, name) for name in names_of(STUDY.stem)}
    needed = [found.get(name, {}) for kind in NEEDED for name in PAIRS[kind]]
    seeds = sorted(set.intersection(*(set(runs) for runs in needed)))
    if not seeds:
        return None
    whole = {name: runs for name, runs in found.items() if set(seeds) <= set(runs)}
    result: dict[str, Any] = {"protocol": PROTOCOL, "seeds": seeds, "n": needed[0][seeds[0]]["test"]["n"]}
    result |= {name: percents(runs, seeds) for name, runs in whole.items()}
    result["share_of_resnet34"] = {
        kind: [round(a / b, 4) for a, b in zip(result[ours][FULL], result[theirs][FULL], strict=True)]
        for kind, (ours, theirs) in PAIRS.items()
        if ours in whole and theirs in whole
    }
    result["params"] = {name: runs[seeds[0]]["run"]["params"] for name, runs in whole.items()}
    return result


def label(name: str, runs: Runs) -> str:
    """What a run is called in the tables."""
    config = next(iter(runs.values()))["config"]
    words = [f"`{config['model']}`"]
    if config["training"].get("distill"):
        words.append("taught by " + tomllib.loads(STUDY.read_text(encoding="utf-8"))["runs"][name]["teacher"])
    if config["training"]["sampler"] != "full":
        words.append(f"for every subset (`{config['stem']}`, `{config['training']['sampler']}`)")
    return ", ".join(words)


@functools.cache
def mflops(model: str) -> float:
    """Cost of one image, from any run of the network that was profiled."""
    for study in (STUDY.stem, "report_quick"):
        for name in names_of(study):
            for run in read_runs(study, name).values():
                if run["config"]["model"] == model and "cost" in run:
                    cost = run["cost"]["subsets"][run["test"]["full"]]["gflops_with_attention"]
                    return float(1000 * cost / run["cost"]["batch_size"])
    raise ValueError(f"no run of {model} was profiled")


def recipe(runs: Runs) -> str:
    """How a network was trained, in a few words."""
    training = next(iter(runs.values()))["config"]["training"]
    words = [{"adamw": "AdamW", "sgd": "SGD"}[training["optimizer"]]]
    words.append(f"{training['lr']:g}" + ("" if training["schedule"] == "constant" else ", one cycle"))
    if training.get("ema"):
        words.append("averaged weights")
    return ", ".join(words)


def cells(name: str, runs: Runs, yardstick: Runs) -> list[str]:
    """A row of a table: size, cost, length, accuracy and share of the yardstick's over the seeds that both have."""
    accuracy = {seed: 100 * run["test"]["subsets"][FULL]["accuracy"] for seed, run in runs.items()}
    theirs = {seed: 100 * run["test"]["subsets"][FULL]["accuracy"] for seed, run in yardstick.items()}
    shares = [100 * accuracy[seed] / theirs[seed] for seed in sorted(accuracy.keys() & theirs.keys())]
    first = next(iter(runs.values()))
    return [
        f"{label(name, runs)}: {recipe(runs)}",
        f"{first['run']['params'] / 1e6:.3f}",
        f"{mflops(first['config']['model']):.0f}",
        mean([run["run"]["epochs_run"] for run in runs.values()], 0),
        mean(list(accuracy.values())),
        mean(shares) if shares else "-",
        str(len(runs)),
    ]


def subsets_table(found: dict[str, Runs]) -> str:
    """Networks on every subset of the channels: one for all and plain ones."""
    keys = list(next(iter(found["best_compact_any"].values()))["test"]["subsets"])
    rows = [
        [
            label(name, found[name]),
            *(mean([100 * run["test"]["subsets"][key]["accuracy"] for run in found[name].values()]) for key in keys),
        ]
        for name in ("best_resnet34", "best_compact", "best_compact_any")
        if name in found
    ]
    return table(["test accuracy %", *(key.replace(",", "") for key in keys)], rows)


def compose() -> str:
    """What stands between the page's marks."""
    found = {name: read_runs(STUDY.stem, name) for name in tomllib.loads(STUDY.read_text(encoding="utf-8"))["runs"]}
    found = {name: runs for name, runs in found.items() if runs}
    found |= {f"quick_{name}": runs for name in ("resnet34", "compact_k7") if (runs := read_runs("report_quick", name))}
    head = ["", "params (M)", "MFLOPs", "epochs", "test acc %", "% of ResNet34's", "seeds"]
    parts = []
    for kind, title in TITLES.items():
        yardstick = found.get(f"{kind}_resnet34", {})
        rows = [cells(name, runs, yardstick) for name, runs in sorted(found.items()) if name.startswith(f"{kind}_")]
        rows.sort(key=lambda row: (-float(row[1]), row[0]))
        parts.append(f"### {title}\n\n{table(head, rows)}")
    if "best_compact_any" in found:
        parts.append(f"### On every subset of the channels\n\n{subsets_table(found)}")
    return "\n\n".join(parts)


def insert(page: str) -> str:
    """The page with its tables as the results say."""
    return insert_tables(page, compose(), PAGE)


def main() -> None:
    """Write the file and the page's tables, and say what share of ResNet34's accuracy is reached."""
    result = gather()
    if result is None:
        print("no seed has both comparisons; see benchmarks/queue/study.py --list")
    else:
        write_json(HERE / "results" / "compact.json", result)
        for kind, shares in result["share_of_resnet34"].items():
            print(f"{kind:<12} seeds {result['seeds']}: {100 * statistics.mean(shares):.1f} % of ResNet34's accuracy")
    PAGE.write_text(insert(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
