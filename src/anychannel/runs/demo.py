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
    """Train and evaluate both networks. Finished runs are left as they are.

    Args:
        folder: parent folder of the two runs.
        seed: random seed.
        epochs: number of epochs of each run. None uses the demo's default.
        classes: train on the first so many classes only. None uses all ten.
        progress: show progress on standard error.

    Returns:
        The runs' folders.
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
