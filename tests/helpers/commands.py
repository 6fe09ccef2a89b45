"""Run ``anychannel`` in a process of its own, forked from one that has imported the libraries already."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import tests.helpers.quick  # noqa: F401

ROOMS = ("data.load", "runs.execute", "runs.predict", "evaluation.compare", "evaluation.evaluate", "cost.profile")
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [*(f"anychannel.{room}" for room in ROOMS), "calflops", "optuna", "sklearn.metrics", "timm"]
)


class Command:
    """A command that runs. ``process`` is its process, and ``finish`` waits for it."""

    def __init__(self, *arguments: object, cwd: Path | None = None) -> None:
        self.arguments = [*map(str, arguments)]
        self.folder = tempfile.TemporaryDirectory()
        self.files = Path(self.folder.name, "stdout"), Path(self.folder.name, "stderr")
        self.process = SERVER.Process(target=call, args=(self.arguments, *self.files, cwd, dict(os.environ)))
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


def anychannel(*arguments: object, check: bool = True, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command; ``check`` asserts that its exit status is 0."""
    done = Command(*arguments, cwd=cwd).finish()
    if check:
        assert done.returncode == 0, done.stderr
    return done


def call(arguments: list[str], printed: Path, said: Path, cwd: Path | None, environment: dict[str, str]) -> None:
    """Be the program."""
    for handle, path in ((1, printed), (2, said)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), handle)
    os.environ.update(environment | {"COLUMNS": "200", "NO_COLOR": "1"})
    if cwd is not None:
        os.chdir(cwd)
    sys.argv = ["anychannel", *arguments]
    import torch

    from anychannel.cli import app

    torch.set_num_threads(1)
    app()
