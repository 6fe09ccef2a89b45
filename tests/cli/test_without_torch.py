"""Errors in paths and settings come at once: torch, which takes seconds to import, is not imported for them."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.helpers.run_folders import make_run

PROGRAM = """
import json, sys
from typer.testing import CliRunner
from anychannel.cli import app
for line in sys.stdin:
    done = CliRunner().invoke(app, json.loads(line))
    print(json.dumps([done.stderr, done.exit_code, "torch" in sys.modules]))
"""
TRAIN = ("train", "--data", "bands", "--out", "new")


MISTAKES = [
    (("train", "--out", "new"), "data is missing"),
    (("train", "--data", "nowhere", "--out", "new"), "nowhere"),
    ((*TRAIN, "--config", "none.toml"), "recipe none.toml does not exist"),
    ((*TRAIN, "--lr", "-1"), "lr must be positive"),
    ((*TRAIN, "--set", "training.optimizer=sdg"), "unknown optimizer 'sdg'"),
    ((*TRAIN, "--precision", "fp8"), "unknown precision 'fp8'"),
    ((*TRAIN, "--set", "training.epoch=1"), "did you mean 'training.epochs'"),
    (("train", "--data", "bands", "--out", "run"), "already holds a run; add --resume"),
    (("train", "--data", "bands", "--out", "file"), "file is a file"),
    (("sweep", "none.toml", "--space", "none.toml", "--trials", "2", "--out", "new"), "recipe none.toml"),
    (("evaluate", "nowhere"), "nowhere is not a run"),
    (("evaluate", "run", "--split", "tset"), "unknown split 'tset'"),
    (("evaluate", "run", "--data", "nowhere"), "nowhere"),
    (("evaluate", "unfinished"), "unfinished was interrupted, and test images are for its final weights"),
    (("predict", "nowhere", "x.png"), "nowhere/model.json is missing"),
    (("predict", "network", "x.png"), "x.png cannot be read or written: No such file"),
    (("export", "nowhere", "--out", "x.onnx"), "nowhere/model.json is missing"),
    (("export", "run", "--out", "x.onnx", "--size", "big"), "big"),
    (("profile", "nowhere"), "nowhere/model.json is missing"),
    (("profile", "run", "--model", "resnet18"), "run says what its network is"),
    (("serve", "nowhere"), "nowhere/model.json is missing"),
    (("compare", "nowhere", "run"), "nowhere is not a run"),
    (("compare", "run", "run", "--sample", "2"), "without --dedicated no network is trained"),
    (("report", "nowhere"), "nowhere is not a run"),
    (("list", "stem"), "unknown kind 'stem'"),
    (("demo", "--epochs", "0"), "Invalid value for '--epochs'"),
]


def test_a_mistake_is_named_without_torch(tmp_path):
    make_run(tmp_path / "run")
    make_run(tmp_path / "unfinished", status="interrupted")
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "model.json").write_text("{}")
    (tmp_path / "file").write_text("")
    lines = "".join(json.dumps(arguments) + "\n" for arguments, _ in MISTAKES)
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, cwd=tmp_path)
    for (arguments, message), answer in zip(MISTAKES, map(json.loads, done.stdout.splitlines()), strict=True):
        assert message in answer[0], arguments
        assert answer[1:] == [2, False], arguments
