"""Gather Task II's study into one file, and make the tables of docs/compact.md.

    python -m benchmarks.tables.compact

Reads ``benchmarks/results/compact_quick/`` and writes ``benchmarks/results/compact.json``: test accuracy in percent of
each network, one entry a seed in the order of ``seeds``, and the share of ResNet34's that each compact one reaches. The
file has only seeds for which the networks of both comparisons are finished; the page's tables have all.
"""

from __future__ import annotations

import statistics
import tomllib
from typing import Any

from anychannel.utils.files import write_json
from benchmarks.tables import results
from benchmarks.tables.any_subset import percents
from benchmarks.tables.results import DOCS, STUDIES, accuracies, mean, read_study, table, write

PAGE = DOCS / "compact.md"
STUDY = STUDIES / "compact_quick.toml"
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
"""Comparisons that decide which seeds count; the others are left out until they have these."""
TITLES = {
    "report": "The report's protocol: early stopping, the same augmentation for both",
    "best": "Each by its best recipe",
    "quick": "The quick protocol: one cycle of 10 epochs",
}


def gather() -> dict[str, Any] | None:
    """Return the file's content; None if no seed has both comparisons."""
    found = read_study(STUDY.stem)
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


def label(name: str, config: dict[str, Any], study: dict[str, Any]) -> str:
    """Name a run in the tables."""
    words = [f"`{config['model']}`"]
    if config["training"].get("distill"):
        words.append(f"taught by {study['runs'][name]['teacher']}")
    if config["training"]["sampler"] != "full":
        words.append(f"for every subset (`{config['stem']}`, `{config['training']['sampler']}`)")
    return ", ".join(words)


def recipe(training: dict[str, Any]) -> str:
    """Say in a few words how a network was trained."""
    words = [{"adamw": "AdamW", "sgd": "SGD"}[training["optimizer"]]]
    words.append(f"{training['lr']:g}" + ("" if training["schedule"] == "constant" else ", one cycle"))
    if training.get("ema"):
        words.append("averaged weights")
    return ", ".join(words)


def mflops(every: list[dict[str, Any]]) -> dict[str, float]:
    """Return the cost of one image for each network that was profiled."""
    costs = {}
    for run in every:
        if "cost" in run:
            whole = run["cost"]["subsets"][run["test"]["full"]]["gflops_with_attention"]
            costs.setdefault(run["config"]["model"], 1000 * whole / run["cost"]["batch_size"])
    return costs


def make(_: str) -> str:
    """Make the page's tables."""
    study = tomllib.loads(STUDY.read_text(encoding="utf-8"))
    found, quick = read_study(STUDY.stem), read_study("report_quick")
    costs = mflops([run for runs in (*found.values(), *quick.values()) for run in runs.values()])
    found = {name: found[name] for name in study["runs"] if name in found}
    found |= {f"quick_{name}": quick[name] for name in ("resnet34", "compact_k7") if name in quick}
    labels = {name: label(name, next(iter(runs.values()))["config"], study) for name, runs in found.items()}
    full = {name: accuracies(runs)[FULL] for name, runs in found.items()}

    def row(name: str, yardstick: dict[int, float]) -> list[str]:
        first, runs = next(iter(found[name].values())), found[name].values()
        shares = [100 * full[name][seed] / yardstick[seed] for seed in sorted(full[name].keys() & yardstick.keys())]
        return [
            f"{labels[name]}: {recipe(first['config']['training'])}",
            f"{first['run']['params'] / 1e6:.3f}",
            f"{costs[first['config']['model']]:.0f}",
            mean((run["run"]["epochs_run"] for run in runs), 0),
            mean(full[name].values()),
            mean(shares) if shares else "-",
            str(len(runs)),
        ]

    head = ["", "params (M)", "MFLOPs", "epochs", "test acc %", "% of ResNet34's", "seeds"]
    parts = []
    for kind, title in TITLES.items():
        rows = [row(name, full.get(f"{kind}_resnet34", {})) for name in sorted(found) if name.startswith(f"{kind}_")]
        rows.sort(key=lambda cells: (-float(cells[1]), cells[0]))
        parts.append(f"### {title}\n\n{table(head, rows)}")
    if "best_compact_any" in found:
        shown = [name for name in ("best_resnet34", "best_compact", "best_compact_any") if name in found]
        keys = list(accuracies(found["best_compact_any"]))
        cells = {name: accuracies(found[name]) for name in shown}
        rows = [[labels[name], *(mean(cells[name][key].values()) for key in keys)] for name in shown]
        head = ["test accuracy %", *(key.replace(",", "") for key in keys)]
        parts.append(f"### On every subset of the channels\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def main() -> None:
    """Write the file and the page's tables, and print the share of ResNet34's accuracy that is reached."""
    result = gather()
    if result is None:
        print("no seed has both comparisons; see benchmarks.queue.study --list")
    else:
        write_json(results.RESULTS / "compact.json", result)
        for kind, shares in result["share_of_resnet34"].items():
            print(f"{kind:<12} seeds {result['seeds']}: {100 * statistics.mean(shares):.1f} % of ResNet34's accuracy")
    write(PAGE, make)


if __name__ == "__main__":
    main()
