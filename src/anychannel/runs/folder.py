"""The folder of a run: its lock, its configuration and its record."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from anychannel.data.sources.source import SPLITS
from anychannel.results.run import RunError, find_unfinished, read_record
from anychannel.runs.config import ConfigError, RunConfig, check_source
from anychannel.training.settings import idle_settings
from anychannel.utils.files import LOCK

FIRST = ("config.toml", "command.txt", "environment.json")
"""Files written before ``run.json``. A folder with only these and a lock belongs to a run killed at its start."""


def acquire(lock: FileLock, home: Path) -> None:
    """Take the lock of a run's folder without waiting."""
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError(
            f"another process is training in {home}; wait until it has finished, or choose another --out"
        ) from error


def prepare_folder(config: RunConfig, home: Path, resume: bool, *, locked: bool = False) -> bool:
    """Check that a run can start or resume in a folder; returns False if it is finished and nothing is left to do.

    ``locked`` says that this process already holds the folder's lock.
    """
    if home.exists() and not home.is_dir():
        raise RunError(f"{home} is a file; give --out a folder")
    if (home / LOCK).is_file() and not locked:
        lock = FileLock(home / LOCK)
        acquire(lock, home)
        lock.release()
    if not (home / "run.json").is_file():
        if home.is_dir() and not is_unbegun(home):
            raise RunError(f"{home} is not empty and not a run; choose a new folder for --out")
        return True
    if not resume:
        raise RunError(f"{home} already holds a run; add --resume to continue it, or choose another --out")
    recorded, record = read_config(home), read_record(home)
    if config.training.lr is None:  # the network decides, which is not known here
        config = replace(config, training=replace(config.training, lr=recorded.training.lr))
    another = begins_cycle(home, config.training.epochs)
    changed = [
        change
        for change in recorded.differences(config)
        if not (another and change.startswith("training.") and not change.startswith("training.sampler"))
    ]
    if changed and another:
        raise RunError(
            f"{home} holds a run with other settings ({'; '.join(changed)}); another cycle of it keeps data, network "
            "and sampler; leave these out, or choose another --out"
        )
    if changed:
        further = ", train it further with more --epochs" if record["status"] == "finished" else ""
        raise RunError(
            f"{home} holds a run with other settings ({'; '.join(changed)}); resume it with its own "
            f"(--config {home / 'config.toml'}){further}, or choose another --out"
        )
    return bool(another or record["status"] != "finished" or record.get("timed_out"))


def begins_cycle(home: Path, epochs: int | None) -> bool:
    """Whether a folder holds a finished run of fewer epochs, which goes on with another cycle of the learning rate."""
    if epochs is None or not (home / "run.json").is_file():
        return False
    record = read_record(home)
    return bool(
        record["status"] == "finished" and not record.get("timed_out") and epochs > read_config(home).training.epochs
    )


def fill_in_rate(config: RunConfig, home: Path, *, tuned: bool) -> RunConfig:
    """The configuration with the learning rate that it trains with: a run that continues keeps its own."""
    if config.training.lr is not None:
        return config
    another = begins_cycle(home, config.training.epochs)
    if (home / "run.json").is_file() and not another:
        return replace(config, training=replace(config.training, lr=read_config(home).training.lr))
    return replace(config, training=config.training.with_rate(trained=tuned or another))


def resumed_recipe(home: Path, typed: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the run in a folder, to which a resumed one's flags are added; empty without a run."""
    if not (home / "config.toml").is_file():
        return {}
    values = read_config(home).to_dict()
    values["training"].pop("time_limit", None)  # it was that of one start
    if begins_cycle(home, typed.get("training", {}).get("epochs")):
        del values["training"]["lr"]
    return values


def check_network(folder: Path) -> None:
    """Refuse a folder without a saved network."""
    if not (folder / "model.json").is_file():
        raise RunError(
            f"{folder / 'model.json'} is missing; {folder} is not a folder written by save_model or by training"
        )


def check_evaluation(folder: str | Path, split: str, data: str | None, *, allow_unfinished: bool) -> RunConfig:
    """The configuration of a run whose images may be evaluated; RunError for test images and a run not finished."""
    if split not in SPLITS:
        raise RunError(f"unknown split {split!r}; use {', '.join(SPLITS[:-1])} or {SPLITS[-1]}")
    config = read_config(folder)
    reason = find_unfinished(folder) if split == "test" and not allow_unfinished else ""
    if reason:
        raise RunError(
            f"{reason}, and test images are for its final weights; finish it first (train --resume), choose --split "
            "val, or add --allow-unfinished"
        )
    check_source(data or config.data)
    return config


def is_unbegun(home: Path) -> bool:
    """Whether a folder without ``run.json`` is empty or was left by a run that was killed at its start."""
    left = {path.name for path in home.iterdir()}
    if LOCK not in left:
        return not left
    temporary = tuple(f".{name}." for name in (*FIRST, "run.json"))
    return all(name in (LOCK, *FIRST) or name.startswith(temporary) for name in left)


def read_config(folder: str | Path) -> RunConfig:
    """Read the configuration of a run, without settings that had no effect, which earlier versions took."""
    path = Path(folder) / "config.toml"
    if not path.is_file():
        raise RunError(f"{folder} is not a run: it has no config.toml; give the folder that `anychannel train` wrote")
    if (Path(folder) / "run.json").is_file():
        read_record(folder)  # reports a newer format as that, not as an unknown setting
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        training = values.get("training", {})
        if isinstance(training, dict):
            values["training"] = {k: v for k, v in training.items() if k not in idle_settings(training)}
        return RunConfig.from_dict(values)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ConfigError) as error:
        raise RunError(f"{path} is damaged: {error}") from error


def read_array(path: Path, shape: Sequence[int | None]) -> np.ndarray | None:
    """Map an array of a run into memory; None if there is none. Raises RunError if it is not of this shape.

    None in ``shape`` accepts any number. A link is not followed.
    """
    if not path.is_file() or path.is_symlink():
        return None
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise RunError(f"{path} is damaged ({error}); remove it to use the run without it") from error
    if len(found.shape) != len(shape) or any(b not in (None, a) for a, b in zip(found.shape, shape, strict=True)):
        raise RunError(f"{path} is damaged: it has shape {found.shape}; remove it to use the run without it")
    return found
