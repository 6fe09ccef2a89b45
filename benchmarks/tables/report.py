"""Make the tables of docs/benchmarks.md: the report's eight networks, and bands that training never showed.

python -m benchmarks.tables.report
"""

from __future__ import annotations

import json
import statistics
from typing import Any

from benchmarks.tables.results import DOCS, RESULTS, ROOT, Runs, mean, read_study, table, write
from benchmarks.tables.robustness import NAMES, accuracy

PAGE = DOCS / "benchmarks.md"
REFERENCE = ROOT / "src" / "anychannel" / "report" / "reference_figures.json"
SUBSETS = ("R,G,B", "R,G", "R,B", "G,B", "R", "G", "B")
SHORT = [key.replace(",", "") for key in SUBSETS]


def best(runs: Runs, key: str, scale: float = 1.0) -> str:
    """Format a figure of the best epoch."""
    return mean([scale * run["run"]["best"][key] for run in runs.values()], 2)


def trained(study: str) -> str:
    """How the report's networks learned, what they reach on each subset, and what they cost."""
    by_name = {next(iter(runs.values()))["config"]["report_name"]: runs for runs in read_study(study).values()}
    found = {NAMES[name]: by_name[name] for name in NAMES if name in by_name}
    missing = [label for label in NAMES.values() if label not in found]
    curves, cost = [], []
    for label, runs in found.items():
        first, *_ = runs.values()
        epochs = [run["run"]["epochs_run"] for run in runs.values()]
        seconds = [run["run"]["seconds"] / run["run"]["epochs_run"] for run in runs.values()]
        full, peak = first["cost"]["subsets"][first["test"]["full"]], first["cost"]["peak_memory_mb"]
        accuracies = [best(runs, "train_accuracy", 100), best(runs, "val_accuracy", 100)]
        losses = [best(runs, "train_loss"), best(runs, "val_loss")]
        learned = [cell for pair in zip(accuracies, losses, strict=True) for cell in pair]
        curves.append([label, mean(epochs, 0), *learned, accuracy(list(runs.values()), "R,G,B")])
        gflops = [f"{full[kind]:.2f}" for kind in ("gflops_calflops", "gflops_with_attention")]
        memory = "-" if peak is None else f"{peak:.0f}"
        cost.append([label, f"{first['cost']['params'] / 1e6:.4f}", *gflops, memory, mean(seconds, 0)])
    subsets = [[label, *(accuracy(list(runs.values()), subset) for subset in SUBSETS)] for label, runs in found.items()]
    return "\n\n".join(
        [
            describe(found),
            *([f"Not finished yet: {', '.join(missing)}."] if missing else []),
            table(["model", "epochs", "train acc %", "train loss", "val acc %", "val loss", "test acc RGB %"], curves),
            "Test accuracy (%) on every subset of the channels. The network gets only the subset's channels:",
            table(["model", *SHORT], subsets),
            "Cost at batch 128 and 42 x 42 pixels. Memory is the peak of a float32 training step in a fresh process. "
            "The last column is wall time on a shared machine, a rough guide only:",
            table(["model", "params (M)", "GFLOPs", "GFLOPs with attention", "memory (MB)", "s per epoch"], cost),
        ]
    )


def describe(found: dict[str, Runs]) -> str:
    """Say how many test images and seeds there are, and what the networks were trained on."""
    first = next(iter(next(iter(found.values())).values()))
    environment, tests = first["environment"], first["test"]["n"]
    by_seeds: dict[str, list[str]] = {}
    for label, runs in found.items():
        by_seeds.setdefault(", ".join(map(str, sorted(runs))), []).append(label)
    most = max(by_seeds, key=lambda seeds: len(by_seeds[seeds]))
    seeds = [f"{which} ({', '.join(labels)})" for which, labels in by_seeds.items() if which != most]
    seeds.append(f"{most} (the others)" if seeds else most)
    processors = sorted({run["environment"]["cpu"] for runs in found.values() for run in runs.values()})
    return (
        f"The {tests:,} test images are read once, with the weights of the best validation epoch. One standard error "
        f"is at most {50 / tests**0.5:.1f} points. Seeds: {'; '.join(seeds)}. Trained on {' and '.join(processors)} "
        f"with {environment['threads']} thread per run, {environment['precision']}, torch {environment['torch']}."
    )


HELD_OUT_GROUPS = {
    "one_trained": "one trained",
    "one_held_out": "one held out",
    "held_out": "the held out",
    "one_trained_and_held_out": "one trained + the held out",
    "trained": "the trained",
    "all": "all eight",
}
HELD_OUT_WAYS = {
    "zero_fill": "`static`, new bands ignored",
    "nearest_band": "`static`, nearest band's kernel copied",
    "dofa": "`dofa`, generated",
    "descriptor": "`descriptor`, generated",
    "completion": "`completion`, trained bands estimated from the new ones",
    "completion_nearest": "`completion`, nearest band's kernel copied",
    "all_bands": "trained on all eight bands (`completion`)",
}


def held_out() -> str:
    """Networks on bands that training never showed."""
    result: dict[str, Any] = json.loads((RESULTS / "held_out_bands.json").read_text(encoding="utf-8"))
    choices = result["accuracy"]

    def cell(way: str, group: str) -> str:
        seeds = zip(*(choice[way][group] for choice in choices.values()), strict=True)
        return mean(statistics.mean(of_one_seed) for of_one_seed in seeds)

    about = (
        f"{result['model']}; test accuracy (%, mean ± standard deviation over {len(result['seeds'])} seeds) on "
        f"{result['data']['n_test']} images, averaged over {len(choices)} choices of held-out bands and over the "
        "subsets of each column. Made by `python -m benchmarks.measure.held_out_bands "
        f"{result['command'].partition('.py ')[2]}`."
    )
    rows = [[label, *(cell(way, group) for group in HELD_OUT_GROUPS)] for way, label in HELD_OUT_WAYS.items()]
    return f"{about}\n\n{table(['', *HELD_OUT_GROUPS.values()], rows)}"


def published() -> str:
    """The report's own figures."""
    figures = json.loads(REFERENCE.read_text(encoding="utf-8"))
    rows = []
    for name, label in NAMES.items():
        test = figures[name]["test"]
        rows.append([label, *(f"{test[key]:.2f}" if key in test else "-" for key in SHORT)])
    return table(["model", *SHORT], rows)


def make(block: str) -> str:
    """Make one block of the page."""
    makers = {"held_out_bands": held_out, "published": published}
    return makers[block]() if block in makers else trained(block)


if __name__ == "__main__":
    write(PAGE, make)
