"""An option without effect is refused where it has another value than its default, wherever options are taken."""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch

import anychannel as ac
from anychannel.channels import ChannelSet
from anychannel.models import create_model, save_model
from anychannel.nn.channel_sampling import SAMPLERS, create_sampler
from anychannel.nn.stems import STEMS
from anychannel.runs import RunConfig
from anychannel.runs.config import ConfigError
from anychannel.runs.execute import build_model
from anychannel.runs.folder import read_config
from anychannel.training import TrainingSettings, fit
from anychannel.training.settings import MIXING, OFF, idle_settings
from tests.helpers.splits import make_dataset, noise
from tests.helpers.training import SETTINGS, make_model, make_split

ROOT = Path(__file__).parents[2]

IDLE = {
    "momentum": [
        ({"momentum": 0.8}, "momentum=0.8 has no effect: schedule 'one_cycle' moves it between 0.95 and 0.85"),
        (
            {"momentum": 0.8, "optimizer": "adamw"},
            "momentum=0.8 has no effect: optimizer 'adamw' has none",
        ),
        ({"momentum": 0.0, "optimizer": "adamw", "schedule": "cosine"}, "momentum=0 has no effect"),
    ],
    "warmup_epochs": [({"warmup_epochs": 2}, "warmup_epochs=2 has no effect: schedule 'one_cycle' rises over its")],
    "distill_temperature": [({"distill_temperature": 4}, "distill_temperature=4 has no effect: distill is 0")],
    "min_delta": [({"min_delta": 0.01}, "min_delta=0.01 has no effect: patience is not set")],
    "monitor": [({"monitor": "val_reduced_accuracy", "sampler": "full"}, "which sampler 'full' never shows")],
    "sampler_options": [({"sampler_options": {"parts": 2}}, "sampler 'split' does not take these options: .*parts")],
}
"""Settings of a training that others can make idle, with the refusal."""
ALWAYS = {
    "epochs", "batch_size", "sampler", "optimizer", "lr", "weight_decay", "schedule", "distill", "label_smoothing",
    "accumulate", "balance", "clip_norm", "ema", "patience", "precision", "seed",
    "augment", *OFF, *MIXING,
}  # fmt: skip
"""Settings that have an effect whatever the others are."""
OF_THE_PROGRAM = {"device", "time_limit", "sync_norm", "checkpoint_seconds"}
"""Settings whose effect depends on where the same recipe runs: device, number of processes, a folder."""


def test_every_setting_is_on_one_of_the_lists():
    assert {part.name for part in fields(TrainingSettings)} == {*IDLE, *ALWAYS, *OF_THE_PROGRAM}


@pytest.mark.parametrize(("values", "message"), [case for cases in IDLE.values() for case in cases])
def test_a_setting_without_effect_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        fit(make_model(), make_split(16, 0), make_split(8, 1), TrainingSettings(**values))
    if "sampler_options" not in values:
        with pytest.raises(ConfigError, match=message):
            RunConfig.from_dict({"data": "bands:3", "training": values})


@pytest.mark.parametrize(
    "values",
    [
        {"momentum": 0.0},
        {"momentum": 0.8, "schedule": "cosine", "warmup_epochs": 2},
        {"distill": 0.5, "distill_temperature": 4},
        {"patience": 3, "min_delta": 0.01},
        {"momentum": 0.9, "warmup_epochs": 0.0, "distill_temperature": 2.0, "min_delta": 0.0, "optimizer": "adamw"},
    ],
)
def test_a_setting_with_an_effect_or_its_default_is_taken(values):
    assert not idle_settings(values)
    TrainingSettings(**values)


SAMPLER_CASES = [
    ("dropout", 3, {"drop": 0.0, "parts": 2}, "parts=2 has no effect: drop is 0"),
    ("split", 3, {"ranges": 3}, "ranges must be between 1 and 2, the number of sizes below all 3 channels, got 3"),
    ("split", 3, {"full": 1.0, "paired": True}, "no effect: full is 1"),
    ("split", 3, {"fewest": 0}, "fewest must be at least 1, got 0"),
    ("split", 3, {"full": 1.0, "ranges": 1}, "no effect: full is 1"),
    ("split", 3, {"full": 0.5, "fractions": [0.5, 0.3, 0.2]}, "leave full and ranges out"),
    ("dropout", 1, {"drop": 0.5}, "drop have no effect: a single channel is never dropped"),
    ("uniform_size", 1, {"parts": 4}, "a single channel is never dropped"),
    ("split", 1, {"paired": True}, "a single channel is never dropped"),
    *((name, 3, {"code": 1}, f"sampler '{name}' does not take these options") for name in SAMPLERS),
]


@pytest.mark.parametrize(("name", "channels", "options", "message"), SAMPLER_CASES)
def test_an_option_of_a_sampler_without_effect_is_refused(name, channels, options, message):
    with pytest.raises(ValueError, match=message):
        create_sampler(name, channels, **options)


def test_every_option_of_a_sampler_is_tried():
    options = {(name, key) for name, kind in SAMPLERS.items() for key in signature(kind).parameters}
    tried = {(name, key) for name, _, chosen, _ in SAMPLER_CASES for key in chosen}
    assert options - tried == {(name, "num_channels") for name in SAMPLERS}


@pytest.mark.parametrize(
    ("stem", "options", "message"),
    [
        ("kernel_attention", {"temperature": 1.0, "anneal_epochs": 5}, "anneal_epochs=5 has no effect"),
        ("descriptor", {"embedding": np.eye(3).tolist(), "frequencies": 8}, "frequencies=8 has no effect"),
        ("dofa", {"embedding": np.eye(3).tolist(), "frequencies": 8}, "frequencies=8 has no effect"),
        *((name, {"code": 1}, f"stem '{name}' does not take these options") for name in STEMS),
    ],
)
def test_an_option_of_a_stem_without_effect_is_refused(stem, options, message):
    with pytest.raises(ValueError, match=message):
        create_model("compact_k7", channels="R,G,B", num_classes=2, stem=stem, stem_options=options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source_channels": "B,G,R"}, "source_channels has no effect: a classifier knows its channels"),
        ({"first_conv": "conv"}, "first_conv has no effect: a classifier's first convolution is its stem"),
        ({"source_range": 1.0}, "source_range has no effect: a classifier knows its statistics"),
        ({"pretrained": False}, "pretrained has no effect: the network has its weights"),
    ],
)
def test_an_option_of_adapt_without_effect_is_refused(options, message, tmp_path):
    model = make_model()
    save_model(model, tmp_path)
    for source in (model, tmp_path):
        with pytest.raises(ValueError, match=message):
            ac.adapt(source, channels="R,G", **options)


@pytest.mark.parametrize("options", [{"normalise": "data"}, {"source_channels": ChannelSet(tuple("RGB"), (9.0,) * 3)}])
def test_a_source_range_that_nothing_is_scaled_by_is_refused(options):
    with pytest.raises(ValueError, match="source_range has no effect: the statistics are in the files' units"):
        ac.adapt("timm/test_resnet", channels="R,G,B", pretrained=False, source_range=1.0, **options)


def test_a_vector_that_makes_no_kernel_is_refused():
    channels = ChannelSet(("R", "G", "B", "N"), (9.0,) * 4)
    with pytest.raises(ValueError, match="embedding has no effect: new='zero' makes no kernel from it"):
        ac.with_channels(make_model(), channels, new="zero", embedding=np.eye(4).tolist())


@pytest.mark.parametrize("values", [{"checkpoint": "weights.pt"}, {"model": "saved"}])
def test_published_weights_beside_others_are_refused(values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(make_model(), tmp_path / "saved")
    config = RunConfig.from_dict({"data": "x", "pretrained": True} | values)
    with pytest.raises(ConfigError, match="pretrained has no effect"):
        build_model(config, make_dataset(noise()))


def test_recipes_hold_no_setting_without_effect():
    recipes = {path.name: tomllib.loads(path.read_text()) for path in (ROOT / "recipes").glob("*.toml")}
    assert len(recipes) >= 4
    for recipe in recipes.values():
        RunConfig.from_dict(recipe | {"data": "bands:3"})


def test_the_configuration_of_an_older_run_is_read_without_them(tmp_path):
    values = "[training]\nmomentum = 0.8\nwarmup_epochs = 1.0\nlr = 0.02\n"
    (tmp_path / "config.toml").write_text('data = "bands:3"\n' + values)
    training = read_config(tmp_path).training
    assert (training.momentum, training.warmup_epochs, training.lr) == (0.9, 0.0, 0.02)


def test_sweeps_over_a_setting_without_effect_are_refused(tmp_path):
    with pytest.raises(ac.SweepError, match=r"momentum=0.5 has no effect"):
        ac.sweep({"data": "bands:3"}, {"training.momentum": {"low": 0.5, "high": 0.9}}, tmp_path / "sweep", trials=2)


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_momentum_has_an_effect_where_it_is_taken(momentum):
    model = make_model()
    fit(model, make_split(32, 0), make_split(8, 1), replace(SETTINGS, epochs=1, schedule="cosine", momentum=momentum))
    other = make_model()
    fit(other, make_split(32, 0), make_split(8, 1), replace(SETTINGS, epochs=1, schedule="cosine", momentum=0.7))
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
