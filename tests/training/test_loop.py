from __future__ import annotations

import csv
import json
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from anychannel.data import Split
from anychannel.evaluation import evaluate
from anychannel.models import ModelFileError, load_model
from anychannel.nn.channel_sampling import SAMPLERS
from anychannel.nn.stems import STEMS
from anychannel.training import TrainingError, fit
from anychannel.training.loop import LAST
from anychannel.training.settings import MIXING, OFF
from anychannel.utils.signals import Interrupted
from tests.helpers.training import SETTINGS, Killed, make_model, make_split, states_equal


def test_a_network_learns_and_keeps_its_best_epoch(train, val, tmp_path):
    model = make_model()
    result = fit(model, train, val, replace(SETTINGS, epochs=6), folder=tmp_path)
    accuracies = [row["val_accuracy"] for row in result.rows]
    assert max(accuracies) > 0.9
    assert accuracies[result.best_epoch - 1] == max(accuracies)
    assert not model.training
    assert evaluate(model, val).subsets["R,G,B"]["accuracy"] == pytest.approx(max(accuracies))
    assert states_equal(load_model(tmp_path).state_dict(), model.state_dict())


@pytest.mark.parametrize(
    ("stem", "sampler"),
    [(stem, "full" if stem == "masked" else "split") for stem in STEMS]
    + [("completion", sampler) for sampler in SAMPLERS if sampler != "split"],
)
def test_every_stem_trains_and_so_does_every_sampler(stem, sampler, train, val):
    model = make_model(stem)
    before = {name: value.clone() for name, value in model.stem.named_parameters()}
    result = fit(model, train, val, replace(SETTINGS, epochs=1, sampler=sampler))
    assert np.isfinite(result.rows[0]["train_loss"])
    moved = [not torch.equal(before[name], value) for name, value in model.stem.named_parameters()]
    assert any(moved)


@pytest.mark.parametrize(
    ("when", "ema"),
    [("mid-epoch", None), ("mid-epoch", 0.9), ("between epochs", 0.9), ("before the first checkpoint", None)],
)
def test_a_killed_run_resumes_to_bitwise_the_same_weights(when, ema, train, val, tmp_path, monkeypatch):
    settings = replace(
        SETTINGS,
        sampler="dropout",
        sampler_options={"drop": 0.4, "parts": 2},
        **dict.fromkeys(OFF | MIXING),
        augment="strong",
        ema=ema,
        checkpoint_seconds=0,
    )
    whole, resumed = make_model("per_size"), make_model("per_size")
    fit(whole, train, val, settings, folder=tmp_path / "whole")

    from anychannel.training import loop

    steps_before = {"mid-epoch": 6 + 4, "between epochs": 6, "before the first checkpoint": 0}[when]
    calls = 0
    original = loop.augment

    def augment_until_killed(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls > steps_before:
            raise Killed
        return original(*arguments, **options)

    monkeypatch.setattr(loop, "augment", augment_until_killed)
    with pytest.raises(Killed):
        fit(make_model("per_size"), train, val, settings, folder=tmp_path / "killed")
    monkeypatch.undo()
    result = fit(resumed, train, val, settings, folder=tmp_path / "killed", resume=True)

    assert [row["epoch"] for row in result.rows] == [1, 2, 3]
    assert states_equal(whole.state_dict(), resumed.state_dict())
    for name in ("best", "last"):
        a, b = (tmp_path / run / "weights" / f"{name}.safetensors" for run in ("whole", "killed"))
        assert a.read_bytes() == b.read_bytes()
    rows = [
        [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in file.read_text().splitlines()]
        for file in (tmp_path / "whole" / "metrics.jsonl", tmp_path / "killed" / "metrics.jsonl")
    ]
    assert rows[0] == rows[1]


def test_a_finished_run_resumes_to_itself(train, val, tmp_path):
    first, again = make_model(), make_model(seed=1)
    fit(first, train, val, SETTINGS, folder=tmp_path)
    result = fit(again, train, val, SETTINGS, folder=tmp_path, resume=True)
    assert len(result.rows) == 3
    assert states_equal(first.state_dict(), again.state_dict())


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(train, val):
    models = [make_model() for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        fit(model, train, val, replace(SETTINGS, epochs=1, seed=seed))
    assert states_equal(models[0].state_dict(), models[1].state_dict())
    assert not states_equal(models[0].state_dict(), models[2].state_dict())


def test_a_clip_norm_of_zero_does_not_clip(train, val):
    kernels = []
    for clip_norm in (0, 1e9, 1e-3):
        model = make_model()
        fit(model, train, val, replace(SETTINGS, epochs=1, clip_norm=clip_norm))
        kernels.append(model.stem.weight.detach())
    torch.testing.assert_close(kernels[0], kernels[1])
    assert not torch.allclose(kernels[0], kernels[2])


def test_training_leaves_the_callers_random_numbers_alone(train, val):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    fit(make_model(), train, val, replace(SETTINGS, epochs=1))
    torch.set_rng_state(state)
    assert torch.equal(torch.rand(3), expected)


def test_training_stops_early_when_validation_stands_still(train, val):
    constant = Split(val.images, np.zeros(len(val), dtype=np.int64), val.paths)
    settings = replace(SETTINGS, epochs=30, lr=1e-9, schedule="constant", patience=2, monitor="val_loss", min_delta=0.5)
    result = fit(make_model(), train, constant, settings)
    assert result.stopped_early
    assert len(result.rows) == 3


def test_metrics_are_written_one_row_an_epoch(train, val, tmp_path):
    result = fit(make_model(), train, val, SETTINGS, folder=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == result.rows
    with (tmp_path / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["val_accuracy"]) for row in table] == [row["val_accuracy"] for row in rows]
    assert sum(row["best"] for row in rows) >= 1


def test_kernel_attention_is_annealed_while_it_trains(train, val, tmp_path):
    model = make_model("kernel_attention")
    temperatures = []
    fit(
        model,
        train,
        val,
        replace(SETTINGS, epochs=2),
        on_epoch=lambda row: temperatures.append(float(model.stem.temperature)),
    )
    assert temperatures == pytest.approx([30 - 29 * (5 / 6) / 10, 30 - 29 * (11 / 6) / 10], rel=1e-4)


def test_an_average_of_the_weights_is_what_is_kept(train, val):
    averaged, plain = make_model(), make_model()
    fit(averaged, train, val, replace(SETTINGS, ema=0.99))
    fit(plain, train, val, SETTINGS)
    assert not states_equal(averaged.state_dict(), plain.state_dict())


@pytest.mark.parametrize("sizes", [(1, 4), (4, 0)])
def test_too_few_images_are_refused(sizes):
    with pytest.raises(TrainingError, match="training needs at least 2 images and validation 1"):
        fit(make_model(), make_split(sizes[0], 0), make_split(sizes[1], 1), SETTINGS)


@pytest.mark.parametrize(
    ("place", "ema"), [("augment", None), ("augment", 0.9), ("validate", 0.9), ("write_metrics", None)]
)
def test_a_signal_ends_it_with_a_checkpoint_of_the_running_step(place, ema, train, val, tmp_path, monkeypatch):
    from anychannel.training import loop

    settings = replace(SETTINGS, sampler="dropout", ema=ema)
    whole, resumed = make_model("per_size"), make_model("per_size")
    rows = fit(whole, train, val, settings).rows
    original, calls = getattr(loop, place), 0

    def interrupt(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == 2:
            signal.raise_signal(signal.SIGTERM)
        return original(*arguments, **options)

    monkeypatch.setattr(loop, place, interrupt)
    with pytest.raises(Interrupted):
        fit(make_model("per_size"), train, val, settings, folder=tmp_path)
    monkeypatch.undo()
    state = torch.load(tmp_path / "checkpoint" / "state.pt", weights_only=True)
    steps = len(train) // settings.batch_size
    assert (state["epoch"], state["step"]) == {"augment": (0, 2), "validate": (1, steps), "write_metrics": (2, 1)}[
        place
    ]
    result = fit(resumed, train, val, settings, folder=tmp_path, resume=True)
    assert states_equal(whole.state_dict(), resumed.state_dict())
    for mine, theirs in zip(result.rows, rows, strict=True):
        assert {k: v for k, v in mine.items() if "second" not in k} == {
            k: v for k, v in theirs.items() if "second" not in k
        }


def test_damaged_weights_on_the_disk_are_written_again_when_a_run_resumes(train, val, tmp_path):
    fit(make_model(), train, val, SETTINGS, folder=tmp_path)
    best = tmp_path / "weights" / "best.safetensors"
    before = best.read_bytes()
    best.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(ModelFileError, match=r"best\.safetensors is damaged: its tensors do not match the digest"):
        load_model(tmp_path)
    fit(make_model(), train, val, SETTINGS, folder=tmp_path, resume=True)
    assert best.read_bytes() == before


def test_a_damaged_checkpoint_is_named(train, val, tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "state.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"checkpoint .*state\.pt cannot be read.*delete it"):
        fit(make_model(), train, val, SETTINGS, folder=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"epoch": 1},
            r"by an earlier version of anychannel \(format None, this version reads 2\).*run the same command",
        ),
        ([1, 2], "by an earlier version of anychannel"),
        (
            {"format": 3},
            r"by a newer version of anychannel \(format 3, this version reads 2\); go on with that version",
        ),
    ],
)
def test_a_checkpoint_of_another_version_is_refused(state, message, train, val, tmp_path):
    (tmp_path / "checkpoint").mkdir()
    torch.save(state, tmp_path / "checkpoint" / "state.pt")
    with pytest.raises(ValueError, match=rf"checkpoint .*state\.pt was written {message}"):
        fit(make_model(), train, val, SETTINGS, folder=tmp_path, resume=True)


@pytest.fixture(scope="module")
def trained(train, val, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    fit(make_model(), train, val, replace(SETTINGS, epochs=1), folder=folder)
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "constant"}, "schedule: one_cycle -> constant"),
        (
            {"lr": 0.5, "sampler": "dropout", "sampler_options": {"drop": 0.5}},
            r"sampler: full -> dropout; sampler_options: \{\} -> \{'drop': 0\.5\}; lr: 0\.02 -> 0\.5",
        ),
    ],
)
def test_a_training_goes_on_with_its_own_settings_alone(changes, message, trained, train, val):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    settings = replace(SETTINGS, epochs=1)
    with pytest.raises(ValueError, match=rf"checkpoint .*state\.pt is of a training with other settings \({message}\)"):
        fit(make_model(), train, val, replace(settings, **changes), folder=trained, resume=True)
    with pytest.raises(ValueError, match=r"other settings \(training images: \d+ -> 20\); go on with its own"):
        fit(make_model(), make_split(20, 0), val, settings, folder=trained, resume=True)
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before
    assert len(fit(make_model(), train, val, replace(settings, device="auto"), folder=trained, resume=True).rows) == 1


def test_settings_of_numpy_are_those_of_python(train, val, tmp_path):
    numpy = replace(SETTINGS, epochs=1, lr=np.float64(0.02), seed=np.int64(0))
    fit(make_model(), train, val, numpy, folder=tmp_path)
    assert len(fit(make_model(), train, val, replace(SETTINGS, epochs=1), folder=tmp_path, resume=True).rows) == 1


def test_bfloat16_trains_where_the_processor_has_it(train, val):
    result = fit(make_model(), train, val, replace(SETTINGS, epochs=6, precision="bf16"))
    assert max(row["val_accuracy"] for row in result.rows) > 0.8


def test_each_training_of_a_program_has_its_own_number_format_and_gives_the_network_back(train, val):
    model, seen = make_model(), []
    layer = next(module for module in model.backbone.modules() if isinstance(module, torch.nn.Conv2d))
    watch = layer.register_forward_hook(lambda _, inputs, output: seen.append((model.training, output.dtype)))
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32), ("bf16", torch.bfloat16)):
        seen.clear()
        fit(model, train, val, replace(SETTINGS, epochs=1, precision=precision))
        assert {training for training, _ in seen} == {True, False}
        assert {kind for _, kind in seen} == {dtype}
        assert "forward" not in vars(model)
        assert all(value.dtype == torch.float32 for value in model.state_dict().values() if value.is_floating_point())
    watch.remove()


def test_an_average_of_the_weights_knows_what_its_stem_was_trained_on(train, val, tmp_path):
    settings = replace(SETTINGS, epochs=2, ema=0.9)
    masked, attentive = make_model("masked"), make_model("kernel_attention")
    attentive.stem.anneal_epochs = 1.0
    for model in (masked, attentive):
        fit(model, train, val, settings, folder=tmp_path / model.spec.stem)
    assert load_model(tmp_path / "masked").stem.trained == (0, 1, 2)
    assert float(load_model(tmp_path / "kernel_attention", weights=LAST).stem.temperature) == 1
