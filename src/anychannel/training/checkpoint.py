"""A training run's state on disk: what it needs to go on where it was killed."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import torch

from anychannel.files import write_atomically, write_text

CHECKPOINT = Path("checkpoint/state.pt")


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write the state, whole or not at all."""
    write_atomically(folder / CHECKPOINT, lambda temporary: torch.save(state, temporary))


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The last state, None where there is none.

    Raises:
        ValueError: the file cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise several kinds
        raise ValueError(f"checkpoint {path} cannot be read; delete it to start the run again") from error
    return state


def write_metrics(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write one row an epoch to ``metrics.jsonl`` and ``metrics.csv``."""
    write_text(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "metrics.csv", table.getvalue())
