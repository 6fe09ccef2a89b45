"""Run ``anychannel`` in a process of its own, forked from one that has imported the libraries already."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOMS = ("data.load", "runs.execute", "runs.predict", "evaluation.compare", "evaluation.evaluate", "cost.profile")
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["tests.helpers.commands", *(f"anychannel.{room}" for room in ROOMS), "calflops", "sklearn.metrics", "timm"]
)


def anychannel(*arguments: object, check: bool = True, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What the command prints and its exit status; ``check`` asserts that it is 0."""
    command = [*map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        printed, said = Path(folder, "stdout"), Path(folder, "stderr")
        process = SERVER.Process(target=call, args=(command, printed, said, cwd, dict(os.environ)))
        process.start()
        process.join(300)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{command} runs for more than 300 s")
        done = subprocess.CompletedProcess(command, process.exitcode, printed.read_text(), said.read_text())
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
