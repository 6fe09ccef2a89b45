"""The loops of ``examples/`` run with the real libraries, and their networks learn from any of their channels."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"
LOOPS = sorted(path.stem for path in EXAMPLES.glob("*.py"))
ADDED = re.compile(r"^.*  # added$", re.MULTILINE)
SCORES = re.compile(r"^(?:\w+,?)+: (\d+)%", re.MULTILINE)


def run(*command: object, cwd: Path) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, check=False, cwd=cwd, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", LOOPS)
def test_two_lines_are_added_and_no_other_of_ours(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert len(ADDED.findall(text)) == 2
    assert [line for line in text.splitlines() if re.search(r"\bac\b", line)] == ADDED.findall(text)
    code = [line for line in text.split('"""', 2)[2].splitlines() if line.strip()]
    assert len(code) <= 40


@pytest.mark.parametrize("name", [name for name in LOOPS if name != "distributed"])
def test_it_learns_from_all_and_from_some_channels(name, tmp_path):
    scores = [int(score) for score in SCORES.findall(run(EXAMPLES / f"{name}.py", cwd=tmp_path))]
    assert len(scores) == 3
    assert min(scores) >= 50, "a third is chance, or a half of the pixels"


def test_two_processes_train_the_weights_of_one(tmp_path):
    states = []
    for count in (1, 2):
        home = tmp_path / str(count)
        home.mkdir()
        run(
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            count,
            EXAMPLES / "distributed.py",
            cwd=home,
        )
        states.append(torch.load(home / "distributed.pt"))
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-5, msg=name)
