"""The figures of an epoch: counted on the device, read when it ends, and written one row an epoch."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anychannel.training.early_stopping import RENAMED
from anychannel.utils.files import write_text


def new_counts(device: torch.device) -> Tensor:
    """(3,) zeros to add ``count_answers`` to, in float64 where the device has it."""
    return torch.zeros(3, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)


def count_answers(loss: Tensor, logits: Tensor, targets: Tensor, *, several: bool = False) -> Tensor:
    """Sum of the loss, correct answers and rows, as (3,), from the mean loss, logits (N, K) and targets (N,).

    Targets may be (N, K), of mixed images: the class with the largest share is the correct one. Of ``several`` labels
    an image, targets are (N, K), and an answer is correct if all labels are, each at a threshold of 0.5.
    """
    if targets.ndim == 2 and not several:
        targets = targets.argmax(1)
    counts = new_counts(logits.device)
    counts[0] = loss.detach().to(counts.dtype) * len(targets)
    right = ((logits >= 0) == (targets > 0)).all(1) if several else logits.argmax(1) == targets
    counts[1] = right.sum()
    counts[2] = len(targets)
    return counts


def count_by_class(logits: Tensor, targets: Tensor) -> Tensor:
    """Rows of each class, answers of it, and correct ones, as (3, K), from logits (N, K) and targets (N,)."""
    numbers = torch.arange(logits.shape[1], device=logits.device)
    own, answered = targets[:, None] == numbers, logits.argmax(1)[:, None] == numbers
    return torch.stack([own.sum(0), answered.sum(0), (own & answered).sum(0)]).to(new_counts(logits.device).dtype)


def mean_figures(counts: Tensor, prefix: str, *, several: bool = False) -> dict[str, float]:
    """Mean loss and share of correct answers from sums of ``count_answers``; NaN if there was no row.

    Of ``several`` labels an image, the latter is ``exact_match``.
    """
    loss, correct, rows = counts.tolist()
    rows = rows or math.nan
    return {f"{prefix}_loss": loss / rows, f"{prefix}_{'exact_match' if several else 'accuracy'}": correct / rows}


def class_figures(counts: Tensor, prefix: str) -> dict[str, float]:
    """Balanced accuracy and macro F1 from sums of ``count_by_class``, as ``compute_metrics`` defines them."""
    support, answered, right = counts.cpu().double()
    recalls = (right / support)[support > 0]
    scores = torch.nan_to_num(2 * right / (support + answered))
    return {f"{prefix}_balanced_accuracy": float(recalls.mean()), f"{prefix}_macro_f1": float(scores.mean())}


def write_metrics(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write one row an epoch to ``metrics.jsonl`` and ``metrics.csv``; what is not finite becomes null or empty."""
    plain = [plain_row(row) for row in rows]
    write_text(folder / "metrics.jsonl", "".join(json.dumps(row, allow_nan=False) + "\n" for row in plain))
    table = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)  # an earlier version may have written the first rows
    writer = csv.DictWriter(table, fieldnames=list(names))
    writer.writeheader()
    writer.writerows(plain)
    write_text(folder / "metrics.csv", table.getvalue())


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with None for figures that are not finite, since JSON has no NaN."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Read the rows of ``metrics.jsonl``, null as NaN; empty if no epoch has ended yet. Former names become today's."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = ({name: math.nan if v is None else v for name, v in json.loads(line).items()} for line in lines)
    return [rename_figures(row) for row in rows]


def rename_figures(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of an earlier run with today's names."""
    return {RENAMED.get(name, name): value for name, value in row.items()}
