from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

from anychannel.channels import ChannelSet
from anychannel.models import create_model
from anychannel.training import EarlyStopping, TrainingSettings
from anychannel.training.optim import OPTIMIZERS, SCHEDULES, create_optimizer, create_schedule, parameter_groups
from anychannel.training.settings import AUGMENTATIONS, MIXING, OFF


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": "sdg"}, "unknown optimizer 'sdg'; use one of sgd, adamw"),
        ({"schedule": "step"}, "unknown schedule 'step'; use one of one_cycle, cosine, constant"),
        ({"monitor": "f1"}, "unknown monitor 'f1'; use one of auto, accuracy, balanced_accuracy, macro_f1"),
        ({"precision": "fp16"}, "unknown precision 'fp16'; use one of auto, bf16, fp32"),
        ({"epochs": 0}, "epochs must be between 1 and 100000, got 0"),
        ({"batch_size": 1}, "batch_size must be between 2"),
        ({"label_smoothing": 1.0}, "label_smoothing must be between 0 and 0.999, got 1.0"),
        ({"ema": 1.0}, "ema is a decay below 1"),
        ({"clip_norm": -1}, "clip_norm must be between 0 and inf, got -1"),
        ({"clip_norm": None}, "clip_norm must be a number, got None"),
        ({"patience": -1}, "patience must be positive or left out, got -1"),
        ({"flip": "False"}, "flip must be true or false, got 'False'"),
        ({"sync_norm": 0}, "sync_norm must be true or false, got 0"),
        ({"epochs": 1.5}, "epochs must be a whole number, got 1.5"),
        ({"crop_padding": True}, "crop_padding must be a whole number, got True"),
        ({"patience": "3"}, "patience must be a whole number or left out, got '3'"),
        ({"momentum": "abc"}, "momentum must be a number, got 'abc'"),
        ({"warmup_epochs": 10**400}, "warmup_epochs must be a number, got 1000"),
        ({"ema": "abc"}, "ema must be a number or left out, got 'abc'"),
        ({"monitor": 3}, "monitor must be text, got 3"),
        ({"sampler_options": 3}, "sampler_options must be a table, got 3"),
        ({"lr": 0}, "lr must be positive and finite, got 0"),
        ({"lr": math.nan}, "lr must be positive and finite, got nan"),
        ({"lr": math.inf}, "lr must be positive and finite, got inf"),
        ({"weight_decay": -1e-4}, "weight_decay must be finite and not negative, got -0.0001"),
        ({"momentum": 1}, r"momentum must be in \[0, 1\), got 1"),
        ({"augment": "heavy"}, "unknown augment 'heavy'; use one of none, default, light, scenes, strong"),
        ({"crop_scale": 0}, "crop_scale must be between 0.01 and 1, got 0"),
        ({"mixup": -1}, "mixup must be between 0 and 100, got -1"),
        ({"rotate90": 1}, "rotate90 must be true or false, got 1"),
        ({"jitter": 1}, r"jitter must be in \[0, 1\), got 1"),
        ({"ema": math.nan}, "ema must be positive or left out, got nan"),
    ],
)
def test_a_wrong_setting_names_itself_and_the_valid_values(values, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**values)


def test_numbers_of_other_types_become_plain_ones():
    settings = TrainingSettings(epochs=2.0, batch_size=np.int64(8), lr=1, jitter=np.float32(0.5), flip=np.bool_(False))
    assert settings == TrainingSettings(epochs=2, batch_size=8, lr=1.0, jitter=0.5, flip=False)
    types = {name: type(getattr(settings, name)) for name in ("epochs", "batch_size", "lr", "jitter", "flip")}
    assert types == {"epochs": int, "batch_size": int, "lr": float, "jitter": float, "flip": bool}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_preset_sets_what_is_not_given_and_survives_being_written_and_read(name):
    preset = TrainingSettings(augment=name)
    assert {key: getattr(preset, key) for key in OFF | MIXING} == OFF | MIXING | AUGMENTATIONS[name]
    assert TrainingSettings(**asdict(preset)) == preset
    own = TrainingSettings(augment=name, erase=0.7, flip=False)
    assert (own.erase, own.flip, own.crop_scale) == (0.7, False, preset.crop_scale)
    assert replace(own, epochs=2) == TrainingSettings(augment=name, erase=0.7, flip=False, epochs=2)


def test_a_preset_without_effect_beside_given_options_is_refused():
    with pytest.raises(ValueError, match=r"augment='scenes' has no effect: crop_padding, vertical_flip, .* are given"):
        replace(TrainingSettings(), augment="scenes")
    again = replace(TrainingSettings(), augment="scenes", **dict.fromkeys(OFF | MIXING))
    assert again == TrainingSettings(augment="scenes")


def test_norms_and_biases_have_no_weight_decay():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    decayed, free = parameter_groups(model, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0
    assert len(decayed["params"]) == 2
    assert len(free["params"]) == 4


def test_biases_of_channels_and_what_a_network_names_have_no_weight_decay():
    channels = ChannelSet(tuple(f"band_{i}" for i in range(8)))
    model = create_model("resnet18", channels=channels, num_classes=2)
    assert model.stem.presence.ndim == 2
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, free = ({named[id(p)] for p in group["params"]} for group in parameter_groups(model, 0.1))
    assert "backbone.conv1.stem.presence" in free
    assert {name for name in free if model.get_parameter(name).ndim > 1} == {"backbone.conv1.stem.presence"}
    assert decayed | free == set(named.values())
    vit = create_model("timm/vit_tiny_patch16_224", channels="R,G,B", num_classes=2, model_options={"img_size": 32})
    free = {id(p) for p in parameter_groups(vit, 0.1)[1]["params"]}
    assert {id(vit.backbone.pos_embed), id(vit.backbone.cls_token)} <= free


def rates(schedule: str, steps: int, warmup: int = 0) -> list[float]:
    optimizer = create_optimizer(nn.Linear(2, 2), lr=0.5)
    course = create_schedule(optimizer, schedule, total_steps=steps, warmup_steps=warmup)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        course.step()
    return seen


def test_one_cycle_rises_and_falls():
    course = rates("one_cycle", 100)
    assert course[0] == pytest.approx(0.5 / 25)
    assert max(course) == pytest.approx(0.5, rel=1e-3)
    assert course.index(max(course)) == pytest.approx(29, abs=1)
    assert course[-1] < 1e-4


def test_cosine_falls_to_zero_after_its_warm_up():
    course = rates("cosine", 50, warmup=4)
    assert course[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    expected = [0.25 * (1 + math.cos(math.pi * step / 46)) for step in range(46)]
    assert course[4:] == pytest.approx(expected)


def test_constant_stays():
    assert rates("constant", 5) == pytest.approx([0.5] * 5)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_optimizer_with_every_schedule_makes_a_step(name, schedule):
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    before = model.weight.detach().clone()
    optimizer = create_optimizer(model, name, lr=0.1)
    course = create_schedule(optimizer, schedule, total_steps=4)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    course.step()
    assert not torch.equal(model.weight, before)


def test_a_wrong_optimizer_is_refused():
    with pytest.raises(ValueError, match="unknown optimizer 'adam'"):
        create_optimizer(nn.Linear(2, 2), name="adam")
    with pytest.raises(ValueError, match="unknown schedule 'linear'"):
        create_schedule(create_optimizer(nn.Linear(2, 2)), "linear", total_steps=3)


def test_early_stopping_waits_for_patience_and_keeps_the_best_figure():
    stopping = EarlyStopping("val_accuracy", patience=2, min_delta=0.01)
    best = [stopping.update(epoch, {"val_accuracy": a}) for epoch, a in enumerate([0.5, 0.505, 0.6, 0.6, 0.59], 1)]
    assert best == [True, True, True, False, False]
    assert stopping.best_epoch == 3
    assert stopping.should_stop


def test_early_stopping_on_loss_takes_less_as_better_and_survives_a_restart():
    stopping = EarlyStopping("val_loss", patience=3)
    for epoch, loss in enumerate([2.0, 1.0, 1.5], 1):
        stopping.update(epoch, {"val_loss": loss})
    other = EarlyStopping("val_loss", patience=3)
    other.load_state_dict(stopping.state_dict())
    for epoch in (4, 5):
        assert not other.update(epoch, {"val_loss": 1.2})
    assert other.best_epoch == 2
    assert other.should_stop


def test_a_figure_that_is_no_number_is_the_best_only_until_there_is_another():
    stopping = EarlyStopping("val_loss", patience=2)
    losses = [float("nan"), float("nan"), 3.0, float("nan"), 2.0]
    assert [stopping.update(epoch, {"val_loss": loss}) for epoch, loss in enumerate(losses, 1)] == [
        True, False, True, False, True,
    ]  # fmt: skip
    assert (stopping.best_epoch, stopping.waited) == (5, 0)


@pytest.mark.parametrize("values", [{"monitor": "loss"}, {"patience": 0}, {"min_delta": -1}])
def test_early_stopping_refuses_wrong_settings(values):
    with pytest.raises(ValueError, match=r"unknown monitor|patience must be at least 1"):
        EarlyStopping(**values)
