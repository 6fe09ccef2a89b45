"""Whether data are those that a run was trained on, by what its ``run.json`` says of them, and how to read others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anychannel.data import SPLITS, ImageDataset
from anychannel.data.sources.list_files import read_names
from anychannel.evaluation.evaluate import describe
from anychannel.runs.config import RunConfig


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
    if not changes and "fingerprint" in other and dataset.train.random_access:
        changes.append("as many images, but other ones, or other labels")
    return changes


def point_at(config: RunConfig, data: str, channels: str | Sequence[str] | None) -> RunConfig:
    """The configuration of a run, for reading other data as its own.

    Args:
        config: the run's.
        data: the other data.
        channels: names of their channels in their files' order; None takes the folder's ``channels.txt``, else the
            run's names.

    Raises:
        DataError: ``channels.txt`` cannot be used.
    """
    named = read_names(Path(data).expanduser() / "channels.txt") if channels is None else channels
    return RunConfig.from_dict(config.to_dict() | {"data": data} | ({} if named is None else {"channels": named}))
