"""A training's state on disk, from which it goes on if it was killed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from anychannel.training.settings import TrainingSettings
from anychannel.utils.files import write_atomically

CHECKPOINT = Path("checkpoint/state.pt")
FORMAT = 2
"""What a checkpoint holds; raised whenever that changes. Those without a number are of versions before 0.2."""
FREE = ("device", "checkpoint_seconds")
"""Settings that may change when a training goes on, since they do not decide its result."""


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write a state, whole or not at all."""
    write_atomically(folder / CHECKPOINT, lambda temporary: torch.save({"format": FORMAT, **state}, temporary))


def load_checkpoint(folder: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The last state that was saved, None if there is none.

    Args:
        folder: where ``save_checkpoint`` wrote.
        settings: what ``describe_settings`` gives now.

    Raises:
        ValueError: the file cannot be read, is of another format, or is of a training with other settings.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise several kinds
        raise ValueError(f"checkpoint {path} cannot be read; delete it to start the run again") from error
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        raise ValueError(
            f"checkpoint {path} was written by {'a newer' if newer else 'an earlier'} version of anychannel (format "
            f"{found}, this version reads {FORMAT}); go on with that version, or delete the file and run the same "
            "command again, which starts the training anew"
        )
    kept = state["settings"]
    changed = [
        f"{name}: {kept.get(name)} -> {settings.get(name)}"
        for name in kept | settings
        if kept.get(name) != settings.get(name)
    ]
    if changed:
        raise ValueError(
            f"checkpoint {path} is of a training with other settings ({'; '.join(changed)}); go on with its own, or "
            "train in another folder"
        )
    return state


def describe_settings(settings: TrainingSettings, images: int) -> dict[str, Any]:
    """What must stay the same when a training goes on, as JSON: its settings and its number of training images."""
    kept = {name: value for name, value in asdict(settings).items() if name not in FREE}
    values = kept | {"training images": images}
    known = json.dumps(values, default=lambda value: value.tolist() if hasattr(value, "tolist") else repr(value))
    plain: dict[str, Any] = json.loads(known)
    return plain
