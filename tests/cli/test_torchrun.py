"""Training in several processes: started by accelerate launch, whose launcher is torchrun's, and one that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.commands import Command
from tests.helpers.image_files import bright_halves, write_class_folders
from tests.helpers.team import torchrun_variables

LAUNCH = (
    *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
)


@pytest.fixture
def train(tmp_path):
    """Arguments of ``anychannel``."""
    draw = bright_halves(np.random.default_rng(0), 12, 12)
    photos = write_class_folders(tmp_path / "photos", {"train": 16, "val": 5, "test": 5}, ("left", "right"), draw)
    return (
        *("train", "--data", str(photos), "--channels", "R,G,B", "--model", "compact_k7"),
        *("--set", "model_options.width=16", "--sampler", "split", "--epochs", "1", "--batch-size", "16"),
        *("--device", "cpu", "--precision", "fp32", "--lr", "0.001", "--no-cost"),
    )


def test_two_processes_train_one_run(train, tmp_path):
    out = tmp_path / "run"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}
    command = [sys.executable, *LAUNCH, "-m", "anychannel", *train, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, env=environment)
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "run.json").read_text())
    assert (record["status"], record["processes"]) == ("finished", 2)
    result = json.loads((out / "evaluation" / "test.json").read_text())
    assert result["n"] == record["num_test"] == sum(map(sum, result["subsets"]["R"]["confusion"]))
    assert done.stderr.count("the run is in") == done.stderr.count("epoch 1/1") == 1
    assert len(Path(out / "command.txt").read_text().splitlines()) == 1


def test_an_error_stops_all_processes_with_one_line_each(train, tmp_path):
    (tmp_path / "file").write_text("in the way")
    commands = [
        Command(*train, "--out", tmp_path / "file", environment=variables) for variables in torchrun_variables(2)
    ]
    first, second = [command.finish() for command in commands]
    assert first.returncode != 0
    assert second.returncode != 0
    assert f"error: {tmp_path / 'file'} is a file; give --out a folder" in first.stderr
    assert f"error: process 0 stopped: {tmp_path / 'file'} is a file" in second.stderr
