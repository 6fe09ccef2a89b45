"""The data of a run: loading them, and recognising that they have changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anychannel.data import SPLITS, ImageDataset, load_dataset
from anychannel.data.sources.registry import SOURCES, split_address
from anychannel.runs.config import RunConfig
from anychannel.training.matching import describe
from anychannel.utils.options import check_options

RESERVED = ("source", "channels", "groups", "size", "classes", "cache_dir", "progress", "allow_pipe")
"""Parameters of ``load_dataset`` that other settings give, so ``data_options`` may not."""


def load_data(
    config: RunConfig, *, cache_dir: str | Path | None = None, progress: bool = False, allow_pipe: bool = False
) -> ImageDataset:
    """Load the data set that a configuration names; ``allow_pipe`` lets it run the commands that it names."""
    name, _ = split_address(config.data)
    kinds = [SOURCES[name]] if name else [kind for kind in SOURCES.values() if kind.looks_like is not None]
    names = sorted(set(config.data_options).difference(*(kind.options for kind in kinds)))
    check_options(load_dataset, names, "data_options.", reserved=RESERVED)
    dataset = load_dataset(
        config.data,
        channels=config.channels,
        groups=config.groups,
        size=config.size,
        classes=config.classes,
        cache_dir=cache_dir,
        progress=progress,
        allow_pipe=allow_pipe,
        **config.data_options,
    )
    return dataset if config.only_channels is None else dataset.select(config.only_channels)


def describe_data(dataset: ImageDataset) -> dict[str, Any]:
    """The entries of ``run.json`` that identify the data; ``find_changes`` compares them."""
    return {
        "fingerprint": dataset.fingerprint,
        "channels": list(dataset.channels.names),
        "classes": list(dataset.classes),
        **{f"num_{split}": len(getattr(dataset, split)) for split in SPLITS},
    }


def find_changes(record: Mapping[str, Any], dataset: ImageDataset) -> list[str]:
    """List the differences between the data of a ``run.json`` and a data set; empty if they are the same data.

    Streamed shards are compared by classes, channels and numbers of images only, because a copy of the same shards has
    another fingerprint. Entries that the record lacks are not compared.
    """
    now = describe_data(dataset)
    other = {key for key in now if key in record and record[key] != now[key]}
    changes = [
        f"{key} {describe(record[key])} -> {describe(now[key])}" for key in ("classes", "channels") if key in other
    ]
    changes += [
        f"{record[key]:,} -> {now[key]:,} {split} images" for split in SPLITS if (key := f"num_{split}") in other
    ]
    if not changes and "fingerprint" in other and dataset.train.random_access:
        changes.append("as many images, but other ones, or other labels")
    return changes


def describe_fold(config: RunConfig) -> dict[str, Any]:
    """The entries of ``run.json`` about the fold; empty without folds.

    ``folds`` is the same for all runs of a cross-validation: a digest of their settings but fold and name.
    """
    options = config.data_options
    if options.get("fold_by") is None:
        return {}
    others = {key: value for key, value in config.to_dict().items() if key != "name"}
    others["data_options"] = {key: value for key, value in options.items() if key != "fold"}
    digest = hashlib.blake2b(json.dumps(others, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()
    return {"fold_by": options["fold_by"], "fold": str(options["fold"]), "folds": digest}
