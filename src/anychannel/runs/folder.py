"""A run's folder: who may work in it, and what it says of the run."""

from __future__ import annotations

import tomllib
from pathlib import Path

from filelock import FileLock, Timeout

from anychannel.results.run import RunError as RunError
from anychannel.results.run import read_record as read_record
from anychannel.runs.config import ConfigError, RunConfig
from anychannel.runs.environment import command_line
from anychannel.utils.files import LOCK, write_text

FIRST = ("config.toml", "command.txt", "environment.json")
"""What is written before ``run.json``: a folder with a lock and these alone is left of a run killed at its start."""


def take(lock: FileLock, home: Path) -> None:
    """Hold a run's folder against other processes.

    Raises:
        RunError: one of them holds it.
    """
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError(
            f"another process is training in {home}; wait until it has finished, or choose another --out"
        ) from error


def prepare_folder(config: RunConfig, home: Path, resume: bool, *, held: bool = False) -> bool:
    """Whether there is anything to do in the folder; ``held`` says that its lock is this process's."""
    if home.exists() and not home.is_dir():
        raise RunError(f"{home} is a file; give --out a folder")
    if (home / LOCK).is_file() and not held:
        lock = FileLock(home / LOCK)
        take(lock, home)
        lock.release()
    if not (home / "run.json").is_file():
        if home.is_dir() and not is_unbegun(home):
            raise RunError(f"{home} is not empty and not a run; choose a new folder for --out")
        return True
    if not resume:
        raise RunError(f"{home} already holds a run; add --resume to go on with it, or choose another --out")
    changed = read_config(home).differences(config)
    if changed:
        raise RunError(
            f"{home} holds a run with other settings ({'; '.join(changed)}); resume it with its own "
            f"(--config {home / 'config.toml'}), or choose another --out"
        )
    return bool(read_record(home)["status"] != "finished")


def is_unbegun(home: Path) -> bool:
    """Whether a folder without ``run.json`` is empty, or holds what a run killed at its very start leaves."""
    left = {path.name for path in home.iterdir()}
    if LOCK not in left:
        return not left
    temporary = tuple(f".{name}." for name in (*FIRST, "run.json"))
    return all(name in (LOCK, *FIRST) or name.startswith(temporary) for name in left)


def append_command(home: Path) -> None:
    """Keep the command, one line for each time the run was started."""
    path = home / "command.txt"
    earlier = path.read_text(encoding="utf-8") if path.is_file() else ""
    write_text(path, earlier + command_line() + "\n")


def read_config(folder: str | Path) -> RunConfig:
    """The configuration of a run.

    Raises:
        RunError: the folder is not a run.
    """
    path = Path(folder) / "config.toml"
    if not path.is_file():
        raise RunError(f"{folder} is not a run: it has no config.toml; give the folder that `anychannel train` wrote")
    try:
        return RunConfig.from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ConfigError) as error:
        raise RunError(f"{path} is damaged: {error}") from error
