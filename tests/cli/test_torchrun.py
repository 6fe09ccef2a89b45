"""Training as torchrun and accelerate launch start it: real processes, the real program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TRAIN = (
    *("-m", "anychannel", "train", "--data", "bands:3", "--classes", "2", "--size", "12", "--model", "compact_k7"),
    *("--set", "model_options.width=16", "--sampler", "split", "--epochs", "1", "--batch-size", "128"),
    *("--device", "cpu", "--precision", "fp32", "--lr", "0.001", "--no-cost"),
)
LAUNCHERS = {
    "torchrun": ("torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    "accelerate launch": (
        *("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
    ),
}


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, env=environment)


def test_two_processes_train_one_run(tmp_path):
    out = tmp_path / "run"
    done = launch("-m", *LAUNCHERS["torchrun"], *TRAIN, "--out", str(out))
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "run.json").read_text())
    assert (record["status"], record["processes"]) == ("finished", 2)
    result = json.loads((out / "evaluation" / "test.json").read_text())
    assert result["n"] == record["num_test"] == sum(map(sum, result["subsets"]["band_1"]["confusion"]))
    assert done.stderr.count("the run is in") == done.stderr.count("epoch 1/1") == 1
    assert len(Path(out / "command.txt").read_text().splitlines()) == 1


def test_an_error_stops_all_processes_with_one_line_each(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = launch("-m", *LAUNCHERS["accelerate launch"], *TRAIN, "--out", str(tmp_path / "file"))
    assert done.returncode != 0
    assert f"error: {tmp_path / 'file'} is a file; give --out a folder" in done.stderr
    assert f"error: process 0 stopped: {tmp_path / 'file'} is a file" in done.stderr
