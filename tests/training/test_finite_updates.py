"""No number that is not finite reaches weights, optimiser, averaged weights or running statistics."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from anychannel.data import Split
from anychannel.models import adapt
from anychannel.nn.stems import STEMS
from anychannel.results.run import read_epochs
from anychannel.runs.execute import summarise
from anychannel.tracking import Track
from anychannel.training import TrainingError, fit
from anychannel.training.finite_updates import IN_A_ROW, FiniteUpdates
from anychannel.training.metrics import read_metrics
from anychannel.training.optim import create_optimizer
from tests.helpers.training import CHANNELS, SETTINGS, Killed, make_model, make_split, states_equal

STEPS = 6
SKIPPED = r"epoch 1: 1 step skipped, because loss or gradients were not finite; the first was epoch 1, batch {} "


def poison(split, rows):
    """The images, some of them NaN."""
    images = split.images.astype(np.float32)
    images[rows] = np.nan
    return Split(images, split.labels, split.paths)


def break_gradients(model, steps):
    """Make the gradient of a layer in the middle NaN at these steps, counted from 1."""
    layer = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)][-2]
    seen = []

    def change(gradient):
        seen.append(1)
        return gradient * torch.nan if len(seen) in steps else gradient

    return layer.weight.register_hook(change)


def break_bfloat16(model):
    """Let a convolution give NaN whenever it computes in bfloat16."""
    layer = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)][-2]
    return layer.register_forward_hook(lambda _, x, y: y * torch.nan if y.dtype == torch.bfloat16 else y)


def all_finite(state):
    if isinstance(state, dict):
        state = list(state.values())
    if isinstance(state, list | tuple):
        return all(map(all_finite, state))
    return not isinstance(state, torch.Tensor) or bool(state.isfinite().all())


@pytest.mark.parametrize(
    ("step", "options"),
    [
        (1, {"ema": 0.9}),
        (STEPS, {"ema": 0.9}),
        (3, {"optimizer": "adamw", "lr": 1e-3}),
        (STEPS, {"optimizer": "adamw", "lr": 1e-3}),
        (1, {"clip_norm": 0.0}),
    ],
)
def test_one_broken_gradient_is_skipped_and_counted_wherever_it_comes(step, options, train, val, tmp_path):
    settings = replace(SETTINGS, epochs=1, sampler="split", **options)
    model, sound = make_model(), make_model()
    break_gradients(model, [step])
    with pytest.warns(UserWarning, match=SKIPPED.format(step)):
        result = fit(model, train, val, settings, folder=tmp_path)
    state = torch.load(tmp_path / "checkpoint" / "state.pt", weights_only=True)
    assert all_finite(model.state_dict())
    assert all_finite({name: state[name] for name in ("model", "average", "optimizer", "best")})
    assert [row["skipped_steps"] for row in result.rows] == [result.skipped_steps] == [1]
    assert np.isfinite(result.rows[0]["train_loss"])
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["skipped_steps"] == 1
    others = fit(sound, train, val, settings)
    assert others.skipped_steps == 0
    assert not states_equal(model.state_dict(), sound.state_dict())


@pytest.mark.filterwarnings("ignore:epoch [13]")
@pytest.mark.parametrize("norm", ["shared", "statistics"])
def test_images_that_are_not_finite_leave_no_trace_in_running_statistics(norm, val):
    train = poison(make_split(96, 1), [11])
    model = make_model("completion", norm=norm)
    with pytest.warns(UserWarning, match=r"epoch 2: 1 step skipped.*batch \d.*channels .*; images .*image_\d+\.png"):
        result = fit(model, train, val, replace(SETTINGS, sampler="split"))
    assert [row["skipped_steps"] for row in result.rows] == [1, 1, 1]
    assert all_finite(model.state_dict())


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("broken", ["gradient", "variance"])
def test_a_skipped_step_changes_no_bit(name, broken):
    """A variance can overflow where loss and gradients are finite: the layer then gives its shift alone."""
    model = make_model("completion")
    optimizer = create_optimizer(model, name)
    updates = FiniteUpdates(model, optimizer, precision="fp32", steps=10)
    images = torch.randint(0, 255, (8, 3, 12, 12), generator=torch.Generator().manual_seed(0)).float()
    norm = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))

    def step(*, sound):
        optimizer.zero_grad()
        logits = model.train()(images)
        logits.square().mean().backward()
        if not sound and broken == "gradient":
            norm.weight.grad[3] = torch.inf
        elif not sound:
            norm.running_var[3] = torch.inf
        before = [norm.running_mean.clone(), *map(torch.clone, model.parameters())]
        norms = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        return updates.step(norms), before

    assert step(sound=True)[0]
    state = [value.clone() for value in updates.statistics]
    moments = [value.clone() for entry in optimizer.state.values() for value in entry.values()]
    happened, before = step(sound=False)
    assert not happened
    assert all(map(torch.equal, before[1:], model.parameters()))
    assert all(map(torch.equal, state, updates.statistics))
    assert all(map(torch.equal, moments, [value for entry in optimizer.state.values() for value in entry.values()]))
    happened, before = step(sound=True)
    assert happened
    assert not all(map(torch.equal, before[1:], model.parameters()))


@pytest.mark.parametrize("stem", STEMS)
def test_fused_updates_are_the_plain_ones(stem):
    plain, fused = make_model(stem), make_model(stem)
    groups = create_optimizer(plain).param_groups
    kept = [{key: group[key] for key in ("params", "weight_decay")} for group in groups]
    optimizers = torch.optim.SGD(kept, lr=0.1, momentum=0.9, nesterov=True), create_optimizer(fused)
    images = torch.randint(0, 255, (8, 3, 12, 12), generator=torch.Generator().manual_seed(0)).float()
    for _ in range(3):
        for model, optimizer in zip((plain, fused), optimizers, strict=True):
            optimizer.zero_grad()
            model.train()(images.contiguous(memory_format=torch.channels_last)).square().mean().backward()
            optimizer.step()
    for mine, theirs in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.filterwarnings("ignore:epoch 1. 6 steps skipped")
@pytest.mark.filterwarnings("ignore:loss or gradients.*computed in bf16; the last was epoch 1, batch 3 .* in fp32$")
def test_a_training_that_stays_broken_ends_with_an_error_that_says_what_was_tried(train, val, tmp_path):
    model = make_model()
    before = {name: value.clone() for name, value in model.named_parameters()}
    with pytest.raises(
        TrainingError,
        match=rf"not finite in {IN_A_ROW} steps in a row, computed in fp32; the last was epoch 1, batch {IN_A_ROW} "
        r"\(channels R,G,B; images image_\d+\.png.*; no weight was changed by them; lower lr",
    ):
        fit(model, poison(train, slice(None)), val, SETTINGS, folder=tmp_path)
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())
    break_gradients(model, range(1000))
    with pytest.raises(TrainingError, match="computed in bf16 and then in fp32; the last was epoch 2, batch 1 "):
        fit(model, train, val, replace(SETTINGS, precision="bf16"))
    with pytest.raises(TrainingError, match="in 1 step in a row"):
        fit(model, make_split(16, 0), val, SETTINGS)


def test_a_format_that_is_broken_is_left_for_float32(train, val):
    model = make_model()
    break_bfloat16(model)
    message = rf"finite in {IN_A_ROW} steps in a row, computed in bf16; .*training goes on in fp32"
    with pytest.warns(UserWarning, match="epoch 1: 4 steps skipped"), pytest.warns(UserWarning, match=message):
        result = fit(model, train, val, replace(SETTINGS, epochs=6, precision="bf16"))
    assert [row["skipped_steps"] for row in result.rows] == [IN_A_ROW + 1, 0, 0, 0, 0, 0]
    assert max(row["val_accuracy"] for row in result.rows) > 0.9


@pytest.mark.filterwarnings("ignore:epoch|loss or gradients")
@pytest.mark.parametrize(
    ("cause", "kill_at"), [(("images", "bfloat16")[step % 2], step) for step in range(1, STEPS + 1)]
)
def test_a_killed_run_with_skipped_steps_resumes_to_bitwise_the_same(kill_at, cause, val, tmp_path, monkeypatch):
    settings = replace(SETTINGS, epochs=2, ema=0.9, checkpoint_seconds=0, precision="bf16", sampler="split")
    train = make_split(96, 1)

    def make():
        model = make_model("completion")
        if cause == "bfloat16":
            break_bfloat16(model)
        return model

    if cause == "images":
        train = poison(train, [5, 60])
    whole, resumed = make(), make()
    rows = fit(whole, train, val, settings, folder=tmp_path / "whole").rows
    from anychannel.training import loop

    calls, original = 0, loop.augment

    def augment_until_killed(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls > kill_at:
            raise Killed
        return original(*arguments, **options)

    monkeypatch.setattr(loop, "augment", augment_until_killed)
    with pytest.raises(Killed):
        fit(make(), train, val, settings, folder=tmp_path / "killed")
    monkeypatch.undo()
    again = fit(resumed, train, val, settings, folder=tmp_path / "killed", resume=True).rows
    assert states_equal(whole.state_dict(), resumed.state_dict())
    figures = [{key: row[key] for key in row if "second" not in key} for row in (*rows, *again)]
    assert figures[:2] == figures[2:]
    assert sum(row["skipped_steps"] for row in again) >= 2


@pytest.mark.filterwarnings("ignore:epoch 1|loss or gradients")
def test_an_epoch_without_a_step_has_no_figures_and_its_files_are_json(val, tmp_path):
    model = make_model()
    break_bfloat16(model)
    result = fit(model, make_split(32, 1), val, replace(SETTINGS, epochs=2, precision="bf16"), folder=tmp_path)
    assert [row["skipped_steps"] for row in result.rows] == [2, 0]
    assert math.isnan(result.rows[0]["train_loss"])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert rows[0]["train_loss"] is None
    assert rows[0]["train_accuracy"] is None
    assert rows[1]["train_loss"] == result.rows[1]["train_loss"]
    assert math.isnan(read_metrics(tmp_path)[0]["train_loss"])
    assert read_epochs(tmp_path / "metrics.jsonl", [])[0].train_loss is None
    assert summarise(replace(result, best_epoch=1))["best"]["train_loss"] is None


def test_trackers_get_finite_figures_alone():
    taken = []
    track = Track()
    track.send = lambda values, step: taken.append((values, step))
    track.log_epoch({"epoch": 3, "train_loss": math.nan, "val_loss": math.inf, "val_accuracy": 0.5, "best": True})
    assert taken == [({"val/accuracy": 0.5}, 3)]


def test_running_statistics_of_instance_norms_are_guarded_too(val):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
    )
    model = adapt(network, channels=CHANNELS, source_channels=CHANNELS, norm="shared")
    with pytest.warns(UserWarning, match="epoch 1: 1 step skipped"):
        fit(model, poison(make_split(96, 1), [11]), val, replace(SETTINGS, epochs=1))
    assert all_finite(model.state_dict())
