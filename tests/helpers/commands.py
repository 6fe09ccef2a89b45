"""Run ``anychannel`` in a process of its own, forked from one that has imported the libraries already."""

from __future__ import annotations

import multiprocessing
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import tests.helpers.quick  # noqa: F401

ROOMS = (
    *("cli", "data.load", "runs.execute", "runs.predict", "evaluation.compare", "evaluation.evaluate", "cost.profile"),
    "report",
)
LIBRARIES = ("calflops", "optuna", "sklearn.datasets", "sklearn.metrics", "timm", "typer._adapters", "typer.rich_utils")
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([*(f"anychannel.{room}" for room in ROOMS), *LIBRARIES, "tests.helpers.freeze"])


class Command:
    """A command that runs. ``process`` is its process, and ``finish`` waits for it.

    Args:
        arguments: of ``anychannel``, or of ``script``.
        cwd: the working directory.
        script: a Python file that runs in place of ``anychannel``.
        first: what the process calls before, found by import.
        environment: changes of the variables of this process.
    """

    def __init__(
        self,
        *arguments: object,
        cwd: Path | None = None,
        script: Path | None = None,
        first: Callable[[], object] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.arguments = [*map(str, arguments)]
        self.folder = tempfile.TemporaryDirectory()
        self.files = Path(self.folder.name, "stdout"), Path(self.folder.name, "stderr")
        variables = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **(environment or {})}
        self.process = SERVER.Process(target=call, args=(self.arguments, *self.files, cwd, script, first, variables))
        self.process.start()

    def finish(self, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """What the command printed and its exit status; TimeoutError if it runs on."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"{self.arguments} runs for more than {seconds} s")
        texts = [file.read_text() if file.exists() else "" for file in self.files]
        self.folder.cleanup()
        return subprocess.CompletedProcess(self.arguments, self.process.exitcode, *texts)

    def wait_for(self, pattern: str, seconds: float = 300) -> re.Match[str]:
        """Wait until the command has written this to standard error."""
        deadline = time.monotonic() + seconds
        while True:
            alive = self.process.is_alive()
            text = self.files[1].read_text() if self.files[1].exists() else ""
            if found := re.search(pattern, text):
                return found
            assert alive, f"{self.arguments} ended: {text}"
            assert time.monotonic() < deadline, f"{self.arguments} has not written {pattern}: {text}"
            time.sleep(0.02)


def anychannel(*arguments: object, check: bool = True, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command; ``check`` asserts that its exit status is 0."""
    done = Command(*arguments, cwd=cwd).finish()
    if check:
        assert done.returncode == 0, done.stderr
    return done


def die_after(epoch: int, where: str = "") -> None:
    """Have this process killed once it has saved its state behind an epoch, in a folder whose path has ``where``."""
    from anychannel.training import loop

    save = loop.save_checkpoint

    def save_and_die(folder: Path, state: dict[str, object]) -> None:
        save(folder, state)
        if state["epoch"] == epoch and where in str(folder):
            os.kill(os.getpid(), signal.SIGKILL)

    loop.save_checkpoint = save_and_die


def fork_in(folder: Path) -> None:
    """Have this process import what a folder has first, and fork the processes that it would start afresh."""
    sys.path.insert(0, str(folder))
    fork = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: fork


def call(
    arguments: list[str],
    printed: Path,
    said: Path,
    cwd: Path | None,
    script: Path | None,
    first: Callable[[], object] | None,
    environment: dict[str, str],
) -> None:
    """Be the program."""
    for handle, path in ((1, printed), (2, said)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), handle)
    os.environ.update(environment)
    if cwd is not None:
        os.chdir(cwd)
    sys.argv = [str(script or "anychannel"), *arguments]
    import torch

    torch.set_num_threads(1)
    if first is not None:
        first()
    if script is not None:
        runpy.run_path(str(script), run_name="__main__")
        return
    from anychannel.cli import app

    app()
