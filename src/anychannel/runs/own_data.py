"""Whether data are still those that a run was trained on, by what its ``run.json`` says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anychannel.data import SPLITS, ImageDataset, Stream
from anychannel.evaluation.evaluate import describe


def describe_data(dataset: ImageDataset) -> dict[str, Any]:
    """What ``run.json`` says of the data, and ``find_changes`` compares."""
    return {
        "fingerprint": dataset.fingerprint,
        "channels": list(dataset.channels.names),
        "classes": list(dataset.classes),
        **{f"num_{split}": len(getattr(dataset, split)) for split in SPLITS},
    }


def find_changes(record: Mapping[str, Any], dataset: ImageDataset) -> list[str]:
    """In which ways a data set is not the run's own, empty where it is.

    Shards that are read as training goes on are told by their classes, channels and numbers of images alone: their
    fingerprint changes with a copy of the same files. What the record does not say is not compared.

    Args:
        record: the run's ``run.json``.
        dataset: the data as they are now.
    """
    now = describe_data(dataset)
    other = {key for key in now if key in record and record[key] != now[key]}
    changes = [
        f"{key} {describe(record[key])} -> {describe(now[key])}" for key in ("classes", "channels") if key in other
    ]
    for split in SPLITS:
        key = f"num_{split}"
        if key in other:
            changes.append(f"{record[key]:,} -> {now[key]:,} {split} images")
    if not changes and "fingerprint" in other and not isinstance(dataset.train, Stream):
        changes.append("as many images, but other ones, or other labels")
    return changes
