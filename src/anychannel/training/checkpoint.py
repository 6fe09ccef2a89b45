"""A training run's state on disk: what it needs to go on where it was killed."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from anychannel.training.settings import TrainingSettings
from anychannel.utils.files import write_atomically, write_text

CHECKPOINT = Path("checkpoint/state.pt")
ENTRIES = ("epoch", "step", "tally", "spent", "rows", "model", "ema", "optimizer", "schedule", "stopping", "best")
"""What every state holds; those of earlier versions hold no ``settings``."""
FREE = ("device", "checkpoint_seconds")
"""Settings that may change when a training goes on, since they do not decide its result."""


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write the state, whole or not at all."""
    write_atomically(folder / CHECKPOINT, lambda temporary: torch.save(state, temporary))


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The last state, None where there is none.

    Raises:
        ValueError: the file cannot be read, or is no state of a training.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise several kinds
        raise ValueError(f"checkpoint {path} cannot be read; delete it to start the run again") from error
    lacking = [entry for entry in ENTRIES if entry not in state] if isinstance(state, dict) else list(ENTRIES)
    if lacking:
        raise ValueError(f"checkpoint {path} lacks {', '.join(lacking)}; delete it to start the run again")
    return state


def describe_settings(settings: TrainingSettings, images: int) -> dict[str, Any]:
    """What a training may not go on without: its settings, as JSON knows them, and its number of training images."""
    kept = {name: value for name, value in asdict(settings).items() if name not in FREE}
    plain: dict[str, Any] = json.loads(json.dumps(kept | {"training images": images}, default=as_plain))
    return plain


def as_plain(value: Any) -> Any:
    """A number or array of numpy or torch as Python's own; anything else as text."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def check_settings(folder: Path, state: dict[str, Any], settings: dict[str, Any]) -> None:
    """Refuse to go on with other settings than a training began with; a state that holds none is taken as it is.

    Args:
        folder: where the state was read.
        state: what ``load_checkpoint`` gave.
        settings: what ``describe_settings`` gives now.

    Raises:
        ValueError: names the settings that differ.
    """
    kept = state.get("settings", settings)
    changed = [
        f"{name}: {kept.get(name)} -> {settings.get(name)}"
        for name in kept | settings
        if kept.get(name) != settings.get(name)
    ]
    if changed:
        raise ValueError(
            f"checkpoint {folder / CHECKPOINT} is of a training with other settings ({'; '.join(changed)}); go on with "
            "its own, or train in another folder"
        )


def write_metrics(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write one row an epoch to ``metrics.jsonl`` and ``metrics.csv``."""
    write_text(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "metrics.csv", table.getvalue())
