"""Commands that use a trained network import nothing that takes seconds and is not needed."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch

import anychannel as ac
from anychannel.models.registry import TWINS, create_backbone
from anychannel.models.saving import read_model
from anychannel.nn.stems import STEMS
from tests.helpers.image_files import bright_halves, write_class_folders

SLOW = ("timm", "torchvision", "sklearn", "torch._dynamo", "huggingface_hub", "accelerate", "transformers", "calflops")
PROGRAM = """
import json, sys
from typer.testing import CliRunner
from anychannel.cli import app
for line in sys.stdin:
    done = CliRunner().invoke(app, json.loads(line))
    print(json.dumps([done.exit_code, done.output, [name for name in %r if name in sys.modules]]))
"""


def call(commands, folder):
    lines = "".join(json.dumps(command) + "\n" for command in commands)
    command = [sys.executable, "-c", PROGRAM % (SLOW,)]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, cwd=folder)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_predict_and_evaluate_import_nothing_slow(tmp_path):
    """Of networks of ours, with each stem, and of timm's that are built without timm."""
    draw = bright_halves(np.random.default_rng(0), 16, 16)
    photos = write_class_folders(tmp_path / "photos", {"train": 2, "val": 2, "test": 2}, ("left", "right"), draw)
    recipe = ac.RunConfig(
        data=str(photos),
        channels="R,G,B",
        model="compact_k7",
        model_options={"width": 16},
        training=ac.TrainingSettings(epochs=1, batch_size=2),
    )
    ac.train_run(recipe, tmp_path / "run", cost=False)
    for model in ("resnet18", "compact_rrdb", "timm/resnet34"):
        ac.save_model(ac.create_model(model, channels="R,G,B", num_classes=2), tmp_path / model)
    options = {"width": 16}
    for stem in STEMS:
        small = ac.create_model("compact_k7", channels="R,G,B", num_classes=2, stem=stem, model_options=options)
        ac.save_model(small, tmp_path / stem)
    image = "photos/test/left/0.png"
    commands = [("predict", name, image) for name in ("run", "resnet18", "compact_rrdb", "timm/resnet34", *STEMS)]
    commands += [("evaluate", "run"), ("predict", "run", "photos", "--out", "a.csv"), ("evaluate", "run", "--use", "X")]
    answers = call(commands, tmp_path)
    for command, (status, output, found) in zip(commands, answers, strict=True):
        assert found == [], command
        assert status == (2 if "X" in command else 0), (command, output)


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_is_timms_network_to_the_last_bit(name, tmp_path):
    torch.manual_seed(0)
    theirs = timm.create_model(name.removeprefix("timm/"), in_chans=4, num_classes=7)
    torch.manual_seed(0)
    ours = TWINS[name](in_chans=4, num_classes=7, zero_init_last=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [key for key, _ in ours.named_parameters()] == [key for key, _ in theirs.named_parameters()]
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(3, 4, 40, 56, requires_grad=True)
    answers = [network(images) for network in (ours, theirs)]
    assert torch.equal(*answers)
    assert torch.equal(*(torch.autograd.grad(answer.square().sum(), images)[0] for answer in answers))
    assert type(create_backbone(name, 3, 7, {})) is type(theirs)
    assert type(create_backbone(name, 3, 7, {"drop_rate": 0.1}, twin=True)) is type(theirs)


@pytest.mark.parametrize("name", TWINS)
def test_a_saved_model_answers_alike_with_a_twin(name, tmp_path):
    model = ac.create_model(name, channels="R,G,B", num_classes=3, norm="statistics")
    images = torch.rand(4, 3, 32, 32)
    model.train()(images)
    ac.save_model(model.eval(), tmp_path)
    twin, usual = read_model(tmp_path, twin=True), read_model(tmp_path)
    for names in ("R,G,B", "R,B"):
        planes = images[:, ["RGB".index(channel) for channel in names.split(",")]]
        assert torch.equal(twin(planes, channels=names), usual(planes, channels=names))


def test_loading_draws_no_random_numbers(tmp_path):
    ac.save_model(ac.create_model("compact_k7", channels="R,G,B", num_classes=2), tmp_path)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    ac.load_model(tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())
