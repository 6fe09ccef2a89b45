"""The demo: a plain and a channel-adaptive network on the embedded bands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anychannel.cost.profile import profile
from anychannel.models import load_model
from anychannel.runs.config import RunConfig, merge
from anychannel.runs.execute import train_run
from anychannel.utils.files import write_json

SHARED: dict[str, Any] = {
    "data": "bands:4",
    "model": "timm/resnet10t",
    "training": {"epochs": 6, "batch_size": 64, "lr": 0.05, "crop_padding": 2, "flip": False},
}
NETWORKS: dict[str, Mapping[str, Any]] = {
    "plain": {"stem": "static", "training": {"sampler": "full"}},
    "adaptive": {},
}
MEASURED = ("band_1,band_2,band_3,band_4", "band_1")
"""The only subsets whose cost is measured, to keep the demo short."""


def run_demo(
    folder: str | Path,
    *,
    seed: int = 0,
    epochs: int | None = None,
    classes: int | None = None,
    progress: bool = False,
) -> list[Path]:
    """Train and evaluate both networks in subfolders of ``folder``; returns these. Finished runs stay as they are.

    ``epochs`` counts those of each run. ``classes`` uses only the first so many of the ten.
    """
    chosen = {"seed": seed} | ({} if epochs is None else {"epochs": epochs})
    shared = SHARED | ({} if classes is None else {"classes": classes})
    runs = []
    for name, values in NETWORKS.items():
        config = RunConfig.from_dict(merge(merge(shared, values), {"name": name, "training": chosen}))
        home = train_run(config, Path(folder) / name, resume=True, progress=progress, cost=False)
        if not (home / "cost.json").is_file():
            cost = profile(load_model(home), batch_size=64, image_size=24, subsets=MEASURED)
            write_json(home / "cost.json", cost)
        runs.append(home)
    return runs
