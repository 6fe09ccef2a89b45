"""Cross-validation: one run for each fold of a column, in one folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from anychannel.data.sources.registry import find_folds
from anychannel.data.sources.source import Request
from anychannel.results.run import RunError
from anychannel.runs.config import ConfigError, RunConfig
from anychannel.runs.execute import train_run


def fold_runs(config: RunConfig, folder: str | Path) -> dict[Path, RunConfig]:
    """The folder and the configuration of each fold's run, in the folds' order.

    Raises:
        ConfigError: ``data_options`` names no ``fold_by``, or one fold.
        DataError: the data have no such column, or fewer than 3 folds.
    """
    options = config.data_options
    column = options.get("fold_by")
    if column is None or options.get("fold") is not None:
        raise ConfigError("cross-validation needs fold_by, the column of folds, and no fold; see load_dataset")
    home = Path(folder)
    name = config.name or home.resolve().name
    found = {}
    request = Request(config.channels, config.classes, split_by=options.get("split_by"), fold_by=column)
    for fold in find_folds(config.data, request, options):
        place = home / ("fold-" + re.sub(r"[^\w.+-]+", "_", fold))
        found[place] = replace(config, data_options=options | {"fold": fold}, name=f"{name}, fold {fold}")
    if len(found) < 3:
        raise ConfigError(f"the column {column!r} has {len(found)} folds, and cross-validation needs 3 or more")
    return found


def cross_validate(
    config: RunConfig,
    folder: str | Path,
    *,
    resume: bool = False,
    cost: bool | None = None,
    on_fold: Callable[[Path], None] | None = None,
    **options: Any,
) -> list[Path]:
    """Train and evaluate one network for each fold, which is its test split.

    Args:
        config: the settings of each run; ``data_options["fold_by"]`` names the column of folds.
        folder: gets a run for each fold, as ``fold-0``; it must be new or empty unless ``resume`` is set.
        resume: keep finished folds, and continue an unfinished one.
        cost: also measure FLOPs, memory and latency, of the first fold's network; see ``train_run``.
        on_fold: called with each finished run.
        options: further options of ``train_run``.

    Returns:
        The runs' folders. A report of all of them shows the mean and the spread over the folds.

    Raises:
        RunError: the folder holds something else; see also ``fold_runs`` and ``train_run``.
    """
    home, runs = Path(folder), fold_runs(config, folder)
    if home.is_dir() and not resume and any(home.iterdir()):
        raise RunError(f"{home} is not empty; add --resume to continue its folds, or choose a new folder for --out")
    for number, (place, settings) in enumerate(runs.items()):
        train_run(settings, place, resume=resume, cost=False if number else cost, **options)
        if on_fold is not None:
            on_fold(place)
    return list(runs)
