"""``anychannel train`` from a checkpoint and from another run."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from anychannel.cli import app
from anychannel.models import create_model, save_model

SETTINGS = ("train", "--data", "bands:3", "--channels", "R,G,B", "--epochs", "1", "--batch-size", "512", "--lr", "1e-9")
QUICK = (*SETTINGS, "--stem", "static", "--no-cost", "--quiet", "--set", "training.momentum=0")


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr("anychannel.data.sources.bands.COPIES", {"train": 1, "val": 1, "test": 1})


def test_training_starts_from_a_checkpoints_weights_and_keeps_its_normalisation(tmp_path):
    weights = timm.create_model("resnet10t", num_classes=7, stem_width=8).state_dict()
    torch.save(weights, tmp_path / "timm.pth")
    done = run(
        *(*QUICK, "--model", "timm/resnet10t", "--checkpoint", tmp_path / "timm.pth", "--source-channels", "R,G,B"),
        *("--model-option", "stem_width=8", "--out", tmp_path / "tuned"),
    )
    assert done.exit_code == 0, done.output
    tuned = load_file(tmp_path / "tuned" / "weights" / "best.safetensors")
    torch.testing.assert_close(tuned["backbone.conv1.0.stem.weight"], weights["conv1.0.weight"], rtol=1e-3, atol=1e-5)
    assert len(tuned["backbone.fc.weight"]) == 10
    described = json.loads((tmp_path / "tuned" / "model.json").read_text())
    assert described["model"] == "timm/resnet10t"
    assert described["normalisation"]["mean"] == pytest.approx([255 * 0.485, 255 * 0.456, 255 * 0.406])
    assert described["channels"]["mean"] != described["normalisation"]["mean"]


def test_training_goes_on_from_another_runs_network(tmp_path):
    before = create_model(
        "compact_k7", channels="B,G,R", num_classes=10, classes=[*"0123456789"], model_options={"width": 16}
    )
    save_model(before, tmp_path / "first")
    done = run(*QUICK, "--model", tmp_path / "first", "--adapt-option", "normalise=data", "--out", tmp_path / "second")
    assert done.exit_code == 0, done.output
    after = load_file(tmp_path / "second" / "weights" / "best.safetensors")
    torch.testing.assert_close(after["backbone.fc.weight"], before.backbone.fc.weight.data, rtol=1e-3, atol=1e-5)
    first = before.stem.weight.data[:, [2, 1, 0]]
    torch.testing.assert_close(after["backbone.conv1.stem.weight"], first, rtol=1e-3, atol=1e-5)
    assert json.loads((tmp_path / "second" / "run.json").read_text())["model"] == "compact_k7"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--source-channels", "R,G,B"), "apply to trained weights; add --pretrained or --checkpoint FILE"),
        (("--model", "timm/resnet10t", "--checkpoint", "none.pth"), "none.pth' is not a file"),
        (("--pretrained",), "'resnet18' is a network of ours"),
        (
            ("--pretrained", "--adapt-option", "fil=zero"),
            "unknown setting 'adapt_options.fil' (did you mean 'adapt_options.fill'?)",
        ),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(flags, message, tmp_path):
    done = run(*QUICK, *flags, "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "run").exists()
