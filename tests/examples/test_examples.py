"""The loops of ``examples/`` run with the real libraries, and their networks learn from any of their channels."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.helpers.commands import Command
from tests.helpers.team import torchrun_variables

EXAMPLES = Path(__file__).parents[2] / "examples"
LOOPS = sorted(path.stem for path in EXAMPLES.glob("*.py"))
ADDED = re.compile(r"^.*  # added$", re.MULTILINE)
SCORES = re.compile(r"^(?:\w+,?)+: (\d+)%", re.MULTILINE)


@pytest.mark.parametrize("name", LOOPS)
def test_two_lines_are_added_and_no_other_of_ours(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert len(ADDED.findall(text)) == 2
    assert [line for line in text.splitlines() if re.search(r"\bac\b", line)] == ADDED.findall(text)
    code = [line for line in text.split('"""', 2)[2].splitlines() if line.strip()]
    assert len(code) <= 40


def start(name: str, home: Path, **variables: str) -> Command:
    home.mkdir(exist_ok=True)
    return Command(script=EXAMPLES / f"{name}.py", cwd=home, environment=variables)


@pytest.mark.parametrize("name", [name for name in LOOPS if name != "distributed"])
def test_it_learns_from_all_and_from_some_channels(name, tmp_path):
    done = start(name, tmp_path).finish()
    assert done.returncode == 0, done.stderr[-3000:]
    scores = [int(score) for score in SCORES.findall(done.stdout)]
    assert len(scores) == 3
    assert min(scores) >= 50, "a third is chance, or a half of the pixels"


def test_two_processes_train_the_weights_of_one(tmp_path):
    states = []
    for count in (1, 2):
        home = tmp_path / str(count)
        started = [start("distributed", home, **variables) for variables in torchrun_variables(count)]
        for done in [process.finish() for process in started]:
            assert done.returncode == 0, done.stderr[-3000:]
        states.append(torch.load(home / "distributed.pt"))
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-5, msg=name)
