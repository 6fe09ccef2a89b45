"""Run folders made from nothing: deterministic, consistent with themselves, no training."""

from __future__ import annotations

import base64
import io
import json
import zlib
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

VERSIONS = {"anychannel": "0.1.0", "python": "3.11.7", "torch": "2.14.1", "timm": "1.0.31", "numpy": "2.4.6"}


def all_subsets(channels: tuple[str, ...]) -> list[str]:
    """Every non-empty subset's key, larger ones first."""
    sizes = range(len(channels), 0, -1)
    return [",".join(chosen) for size in sizes for chosen in combinations(channels, size)]


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def subset_figures(classes: tuple[str, ...], accuracy: float, per_class: int, seed: int) -> dict[str, Any]:
    """What ``evaluation/test.json`` says of one subset: all from one confusion matrix of about that accuracy."""
    generator = np.random.default_rng(seed)
    count = len(classes)
    matrix = np.zeros((count, count), dtype=int)
    for true in range(count):
        right = min(per_class, max(0, round(accuracy * per_class + generator.normal(0, 0.1 * per_class**0.5))))
        pull = generator.random(count) ** 6
        pull[true] = 0
        matrix[true] = generator.multinomial(per_class - right, pull / pull.sum())
        matrix[true, true] = right
    precision = np.diag(matrix) / np.maximum(matrix.sum(0), 1)
    recall = np.diag(matrix) / matrix.sum(1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return {
        "n": int(matrix.sum()),
        "accuracy": float(np.trace(matrix) / matrix.sum()),
        "top5": min(1.0, accuracy + 0.3),
        "loss": 3 - 2 * accuracy,
        "ece": 0.05,
        "macro": {"precision": precision.mean(), "recall": recall.mean(), "f1": f1.mean()},
        "per_class": [
            {"class": name, "precision": p, "recall": r, "f1": f, "support": per_class}
            for name, p, r, f in zip(classes, precision.tolist(), recall.tolist(), f1.tolist(), strict=True)
        ],
        "confusion": matrix.tolist(),
    }


def picture(seed: int, size: int = 16) -> str:
    """A grey PNG data URI."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def epoch_rows(count: int, top: float) -> list[dict[str, Any]]:
    """A training run that rises to ``top`` and then overfits a little."""
    rows = []
    for epoch in range(1, count + 1):
        rise = 1 - np.exp(-epoch / 4)
        val = top * rise * (1 - 0.004 * max(0, epoch - 0.8 * count) ** 2)
        row = {"train_accuracy": top * 1.15 * rise, "val_accuracy": val}
        row |= {"train_loss": 3.4 - 2.2 * rise * top, "val_loss": 3.4 - 2.0 * val}
        rows.append({"epoch": epoch, "lr": 0.1, "seconds": 10.0, "images_per_second": 100.0, "best": False} | row)
    return rows


def make_run(
    folder: Path,
    *,
    full: float = 0.5,
    drop: float = 0.1,
    channels: tuple[str, ...] = ("R", "G", "B"),
    classes: int | tuple[str, ...] = 5,
    per_class: int = 50,
    subsets: list[str] | None = None,
    refused: dict[str, str] | None = None,
    epochs: int = 10,
    gflops: float = 136.0,
    examples: int = 2,
    cost: bool = True,
    test: bool = True,
    note: str = "",
    **record: Any,
) -> Path:
    """Write a run's folder.

    Args:
        folder: where.
        full: accuracy on all channels; each missing one costs ``drop``.
        per_class: test images a class.
        subsets: keys; None takes all.
        refused: subset's key to reason.
        record: overrides of ``run.json``.
    """
    names = tuple(f"class_{index:02d}" for index in range(classes)) if isinstance(classes, int) else classes
    rows = epoch_rows(epochs, min(0.95, full + 0.02))
    best = max(rows, key=lambda row: row["val_accuracy"]) if rows else None
    if best:
        best["best"] = True
    measures = ("train_accuracy", "train_loss", "val_accuracy", "val_loss")
    run = {
        "name": folder.name,
        "report_name": None,
        "model": "resnet18",
        "stem": "static",
        "sampler": "full",
        "dataset": "pictures",
        "fingerprint": "f" * 32,
        "channels": list(channels),
        "classes": list(names),
        "num_train": 100 * len(names),
        "num_val": 20 * len(names),
        "num_test": per_class * len(names),
        "image_size": 42,
        "params": 11_194_482,
        "epochs_planned": 10,
        "batch_size": 64,
        "seed": 0,
        "status": "finished",
        "epochs_run": epochs,
        "best_epoch": best["epoch"] if best else None,
        "stopped_early": False,
        "seconds": 1010.6,
        "best": {key: best[key] for key in measures} if best else None,
    } | record
    write(folder / "run.json", run)
    write(folder / "command.txt", f"anychannel train --data pictures --out {folder.name}\n")
    write(folder / "config.toml", 'data = "pictures"\nmodel = "resnet18"\n')
    started = {"device": "cpu", "cpu": "A processor", "cpu_cores": 2, "threads": 1, "precision": "bf16"}
    write(
        folder / "environment.json", VERSIONS | started | {"commit": "abc123", "started": "2026-01-02T03:04:05+00:00"}
    )
    write(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    keys = subsets or all_subsets(channels)
    whole = ",".join(channels)
    if test:
        write_test(folder, keys, whole, names, full, drop, per_class, refused or {}, note)
        if examples:
            write_examples(folder, keys, channels, names, examples)
    if cost:
        write_cost(folder, keys, gflops, run)
    return folder


def set_accuracies(run: Path, accuracies: dict[str, float], n: int) -> Path:
    """Give a run exactly these subsets, with these accuracies over ``n`` test images."""
    path = run / "evaluation/test.json"
    record = json.loads(path.read_text())
    subsets = {key: record["subsets"][key] | {"accuracy": value, "n": n} for key, value in accuracies.items()}
    write(path, record | {"n": n, "subsets": subsets})
    return run


def write_test(
    folder: Path,
    keys: list[str],
    whole: str,
    classes: tuple[str, ...],
    full: float,
    drop: float,
    per_class: int,
    refused: dict[str, str],
    note: str,
) -> None:
    figures: dict[str, Any] = {}
    for key in keys:
        missing = whole.count(",") - key.count(",")
        seed = zlib.crc32(f"{folder.name} {key}".encode())
        accuracy = max(0.02, full - drop * missing)
        figures[key] = (
            {"refused": refused[key]} if key in refused else subset_figures(classes, accuracy, per_class, seed)
        )
    base = figures.get(whole, {}).get("accuracy")
    gap = {} if base is None else {k: {"accuracy": f["accuracy"] - base} for k, f in figures.items() if "accuracy" in f}
    head = {"split": "test", "n": per_class * len(classes), "classes": list(classes), "full": whole}
    write(folder / "evaluation/test.json", head | {"subsets": figures, "gap": gap, "sampled": bool(note), "note": note})


def write_examples(folder: Path, keys: list[str], channels: tuple[str, ...], classes: tuple[str, ...], n: int) -> None:
    images = []
    for index in range(n):
        guesses = {
            key: {"class": classes[(index + place % 2) % len(classes)], "probability": 0.5}
            for place, key in enumerate(keys)
        }
        pictures = {name: picture(7 * index + place) for place, name in enumerate(channels)}
        label = classes[index % len(classes)]
        images.append({"path": f"images/{index}.png", "label": label, "png": pictures, "predictions": guesses})
    write(folder / "examples.json", {"channels": list(channels), "images": images})


def write_cost(folder: Path, keys: list[str], gflops: float, run: dict[str, Any]) -> None:
    times = {"1": {"median": 10.06, "p10": 9.61, "p90": 10.39}, "64": {"median": 5.16, "p10": 5.12, "p90": 5.18}}
    row = {"gflops_calflops": gflops, "gflops_with_attention": gflops * 1.25, "latency_ms": times}
    cost = {
        "params": run["params"],
        "batch_size": run["batch_size"],
        "image_size": 42,
        "subsets": dict.fromkeys(keys, row),
    }
    write(folder / "cost.json", cost | {"peak_memory_mb": 2026.4, "device": "cpu (1 threads)", "note": ""})


def write_gap(runs: list[Path], rows: dict[str, tuple[float, float]]) -> None:
    """A comparison with dedicated networks: for each subset the accuracy of the one network, and the difference."""
    seeds = range(len(runs))
    table = [
        {
            "subset": key,
            "adaptive": [accuracy + 0.01 * seed for seed in seeds],
            "dedicated": [accuracy - difference + 0.01 * seed for seed in seeds],
            "difference": difference,
            "low": difference - 0.02,
            "high": difference + 0.02,
            "p_values": [0.25 if seed else 0.0001 for seed in seeds],
            "n": 250,
        }
        for key, (accuracy, difference) in rows.items()
    ]
    found = {"adaptive_epochs": 10, "passes_an_image": 1.0, "networks": len(rows), "n": 250, "confidence": 0.95}
    budgets = {
        "passes": found | {"dedicated_epochs": 10, "rows": table},
        "total": found | {"dedicated_epochs": 1, "rows": table[:1]},
    }
    head = {"runs": [run.name for run in runs], "seeds": list(seeds), "network": "resnet18, completion, split, shared"}
    for run in runs:
        write(run / "gap.json", head | {"full": "R,G,B", "subsets_evaluated": 7, "budgets": budgets})
