"""The demonstration: a plain and a channel-adaptive network on the embedded bands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anychannel.runs.config import RunConfig, merge
from anychannel.runs.execute import train_run

SHARED: dict[str, Any] = {
    "data": "bands:4",
    "model": "compact_k3",
    "model_options": {"width": 32},
    "training": {"epochs": 8, "batch_size": 64, "lr": 0.1, "crop_padding": 2, "flip": False},
}
NETWORKS: dict[str, Mapping[str, Any]] = {
    "plain": {},
    "adaptive": {"training": {"sampler": "dropout", "sampler_options": {"drop": 0.4, "parts": 4}}},
}


def run_demo(folder: str | Path, *, seed: int = 0, epochs: int | None = None, progress: bool = False) -> list[Path]:
    """Train and evaluate both networks; finished ones are left as they are.

    Args:
        folder: where the runs go, each in a folder of its own.
        seed: of everything random.
        epochs: of each run; None takes the demonstration's own.
        progress: show progress on standard error.

    Returns:
        The runs' folders.
    """
    chosen = {"seed": seed} | ({} if epochs is None else {"epochs": epochs})
    runs = []
    for name, values in NETWORKS.items():
        config = RunConfig.from_dict(merge(merge(SHARED, values), {"name": name, "training": chosen}))
        runs.append(train_run(config, Path(folder) / name, resume=True, progress=progress))
    return runs
