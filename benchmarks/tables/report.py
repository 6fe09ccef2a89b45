"""Turn the results of the report's study into the tables of docs/benchmarks.md.

    python -m benchmarks.tables.report

Reads ``benchmarks/results/report_quick/*.json`` (and ``report_full`` where it is there) and writes the page anew. A
network that has not been run yet is listed as such.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
PAGE = HERE.parent / "docs" / "benchmarks.md"
REFERENCE = HERE.parent / "src" / "anychannel" / "report" / "reference_figures.json"
ZERO_SHOT = HERE / "results" / "zero_shot"
HELD_OUT = HERE / "results" / "held_out_bands.json"
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
STUDY = "python -m benchmarks.queue.study benchmarks/studies/report_quick.toml --data mini-imagenet-50 --runs runs"
SUBSETS = ("R,G,B", "R,G", "R,B", "G,B", "R", "G", "B")
PROTOCOLS = {
    "report_quick": "Quick: mini-imagenet-50, its first 25 classes at 42 x 42 pixels (12,500 training, 1,250 "
    "validation and 1,250 test images), 10 epochs, one-cycle SGD at 0.1, weight decay 5e-4, label smoothing 0.1, "
    "batch 128, flips and 4-pixel crops; [recipes/quick.toml](../recipes/quick.toml).",
    "report_full": "Full: mini-imagenet-50, 50 classes at 84 x 84 pixels, early stopping; "
    "[recipes/full.toml](../recipes/full.toml).",
}


def read(study: str) -> dict[str, list[dict[str, Any]]]:
    """Results of a study by the report's name, one for each seed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((HERE / "results" / study).glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(result["config"]["report_name"], []).append(result)
    return found


def mean(values: list[float], digits: int = 1) -> str:
    """Mean, with the standard deviation over seeds where there is more than one."""
    text = f"{statistics.mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {statistics.stdev(values):.{digits}f}"


def best(results: list[dict[str, Any]], key: str, scale: float = 1.0, digits: int = 2) -> str:
    """A figure of the best epoch."""
    return mean([scale * result["run"]["best"][key] for result in results], digits)


def accuracy(results: list[dict[str, Any]], subset: str) -> str:
    """Test accuracy on a subset, in percent."""
    figures = [result["test"]["subsets"][subset] for result in results]
    if any("refused" in figure for figure in figures):
        return "refused"
    return mean([100 * figure["accuracy"] for figure in figures])


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


BEGIN, END = "<!-- tables: made from benchmarks/results -->", "<!-- end of tables -->"


def insert_tables(page: str, tables: str, path: Path) -> str:
    """A page with new tables between its two marks.

    Raises:
        SystemExit: the page, which ``path`` names, has lost them.
    """
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{path} has lost its marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def section(study: str) -> str:
    """One protocol's tables."""
    found = read(study)
    if not found:
        return ""
    missing = [NAMES[name] for name in NAMES if name not in found]
    curves, subsets, cost = [], [], []
    for name, label in NAMES.items():
        if name not in found:
            continue
        results = found[name]
        curves.append(
            [
                label,
                mean([result["run"]["epochs_run"] for result in results], 0),
                best(results, "train_accuracy", 100),
                best(results, "train_loss"),
                best(results, "val_accuracy", 100),
                best(results, "val_loss"),
                accuracy(results, "R,G,B"),
            ]
        )
        subsets.append([label, *(accuracy(results, subset) for subset in SUBSETS)])
        first = results[0]
        full = first["cost"]["subsets"][first["test"]["full"]]
        peak = first["cost"]["peak_memory_mb"]
        seconds = [result["run"]["seconds"] / result["run"]["epochs_run"] for result in results]
        cost.append(
            [
                label,
                f"{first['cost']['params'] / 1e6:.4f}",
                f"{full['gflops_calflops']:.2f}",
                f"{full['gflops_with_attention']:.2f}",
                "-" if peak is None else f"{peak:.0f}",
                mean(seconds, 0),
            ]
        )
    sample = next(iter(found.values()))[0]
    environment, tests = sample["environment"], sample["test"]["n"]
    seeds: dict[str, list[str]] = {}
    for name, results in found.items():
        seeds.setdefault(", ".join(sorted(str(result["run"]["seed"]) for result in results)), []).append(NAMES[name])
    most = max(seeds, key=lambda which: len(seeds[which]))
    runs = [f"{which} ({', '.join(labels)})" for which, labels in seeds.items() if which != most]
    runs.append(f"{most} (the others)" if runs else most)
    processors = sorted({result["environment"]["cpu"] for results in found.values() for result in results})
    error = 100 * (0.5 * 0.5 / tests) ** 0.5
    parts = [
        f"## {PROTOCOLS[study].partition(':')[0]} protocol",
        PROTOCOLS[study],
        f"The {tests:,} test images are read once, with the weights of the best validation epoch. One standard error "
        f"is at most {error:.1f} points. Seeds: {'; '.join(runs)}. "
        f"Trained on {' and '.join(processors)} with {environment['threads']} thread per run, "
        f"{environment['precision']}, torch {environment['torch']}.",
        *([f"Not finished yet: {', '.join(missing)}."] if missing else []),
        table(["model", "epochs", "train acc %", "train loss", "val acc %", "val loss", "test acc RGB %"], curves),
        "Test accuracy (%) on every subset of the channels. The network gets only the subset's channels:",
        table(["model", *(key.replace(",", "") for key in SUBSETS)], subsets),
        "Cost at batch 128 and 42 x 42 pixels. Memory is the peak of a float32 training step in a fresh process. The "
        "last column is wall time on a shared machine, a rough guide only:"
        if study == "report_quick"
        else "Cost at the batch size and image size of the protocol:",
        table(["model", "params (M)", "GFLOPs", "GFLOPs with attention", "memory (MB)", "s per epoch"], cost),
    ]
    return "\n\n".join(parts)


def published() -> str:
    """The report's own figures, for comparison of shape, not of level."""
    figures = json.loads(REFERENCE.read_text(encoding="utf-8"))
    rows = []
    for name, label in NAMES.items():
        entry = figures[name]
        short = [key.replace(",", "") for key in SUBSETS]
        rows.append([label, *(f"{entry['test'][key]:.2f}" if key in entry["test"] else "-" for key in short)])
    return "\n\n".join(
        [
            "## What the report printed",
            "The report used other images (63,325 for training, 50 other classes at 84 x 84 pixels) and 450 test "
            "images, with a standard error of up to 2.4 points. Compare the networks' order, not the level.",
            table(["model", *(key.replace(",", "") for key in SUBSETS)], rows),
        ]
    )


WAYS = {
    "zero_fill": "plain, missing channels zero",
    "zero_fill_calibrated": "plain, re-estimated on the subset",
    "completion": "completion",
    "completion_calibrated": "completion, re-estimated on the subset",
    "completion_calibrated_whole": "completion, re-estimated on all channels",
}


def made_by(result: dict[str, Any]) -> str:
    """What measured a network that was adapted without training."""
    images = result["command"].partition("--images ")[2].split()[0]
    return f"made by [zero_shot.py](../benchmarks/measure/zero_shot.py), {int(images):,} images to calibrate with"


def read_adapted(name: str) -> list[dict[str, Any]]:
    """The seeds of a network that was adapted without training."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(ZERO_SHOT.glob(f"{name}-s*.json"))]


def adapted_table(results: list[dict[str, Any]], columns: dict[str, list[str]]) -> str:
    """Ways of adapting against columns, each of which averages over its subsets."""

    def cell(way: str, keys: list[str]) -> str:
        return mean([statistics.mean(one[way][key] for key in keys) for one in results])

    measured = {way: label for way, label in WAYS.items() if all(way in one for one in results)}
    rows = [[label, *(cell(way, keys) for keys in columns.values())] for way, label in measured.items()]
    return table(["", *columns], rows)


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
    """What networks do with bands that training never showed."""
    if not HELD_OUT.exists():
        return ""
    result = json.loads(HELD_OUT.read_text(encoding="utf-8"))
    choices = result["accuracy"]
    command = f"python -m benchmarks.measure.held_out_bands {result['command'].partition('.py ')[2]}"

    def cell(way: str, group: str) -> str:
        seeds = zip(*(choice[way][group] for choice in choices.values()), strict=True)
        return mean([statistics.mean(of_one_seed) for of_one_seed in seeds])

    rows = [[label, *(cell(way, group) for group in HELD_OUT_GROUPS)] for way, label in HELD_OUT_WAYS.items()]
    return "\n\n".join(
        [
            "## Bands that training never showed",
            f"{result['model']} is trained on five of the eight embedded bands. `with_channels` adds the other three "
            f"afterwards, without labels. Test accuracy (%, mean ± standard deviation over {len(result['seeds'])} "
            f"seeds) on {result['data']['n_test']} images, averaged over {len(choices)} choices of held-out bands "
            "(between trained ones, a gap of three, beyond the ends) and over the subsets of each column. Chance is 10. "
            f"Made by `{command}`.",
            table(["", *HELD_OUT_GROUPS.values()], rows),
        ]
    )


def main() -> None:
    """Write the page."""
    parts = [
        "# Benchmarks",
        "For readers who compare networks: accuracy and cost of the report's eight networks "
        "([what they are](tutorials/two-tasks.md)), and of networks on bands that training never saw. "
        "[Robustness](robustness.md#adapted-without-training) has the plain ones adapted without training, "
        "[Method](method.md) has ours.",
        "`python -m benchmarks.tables.report` writes this page from the JSON files in "
        "[benchmarks/results](../benchmarks/results). They hold every figure with its configuration, versions, "
        "processor, commit and command. These commands make most of them; they resume and skip finished runs:",
        "<!-- no-run: hours -->\n"
        f"```sh\n{STUDY}\n{STUDY} --only resnet18 --seeds 1 2\n"
        "python -m benchmarks.tables.report\n```",
        *(text for study in PROTOCOLS if (text := section(study))),
        *([text] if (text := held_out()) else []),
        published(),
    ]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
