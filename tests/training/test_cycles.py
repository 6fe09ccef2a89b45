"""Training that goes on: after a time limit, and with another cycle after it has finished."""

from __future__ import annotations

from dataclasses import replace
from shutil import copytree

import pytest
import torch

from anychannel.training import TrainingSettings, fit
from anychannel.training.metrics import read_metrics
from anychannel.training.state import CHECKPOINT, read_checkpoint
from anychannel.utils.durations import parse_duration
from tests.helpers.training import SETTINGS, Killed, make_model, make_split, states_equal

ONE = replace(SETTINGS, epochs=1)


@pytest.fixture(scope="module")
def train():
    return make_split(32, 1)


@pytest.fixture(scope="module")
def val():
    return make_split(16, 2)


def test_a_finished_training_goes_on_from_its_best_weights_at_the_rate_for_trained_ones(train, val, tmp_path):
    model, again = make_model(), make_model(seed=1)
    first = fit(model, train, val, ONE, folder=tmp_path)
    best = read_checkpoint(tmp_path / CHECKPOINT)["best"]
    seen = []
    still = replace(ONE, epochs=2, lr=1e-9, crop_padding=2)  # so low that the weights are those of the start
    result = fit(again, train, val, still, folder=tmp_path, resume=True, on_epoch=seen.append)
    assert [row["epoch"] for row in seen] == [2]
    assert [row["epoch"] for row in result.rows] == [1, 2]
    assert result.rows[0]["train_loss"] == first.rows[0]["train_loss"]
    assert [(each["first_epoch"], each["lr"]) for each in result.cycles] == [(1, 0.02), (2, 1e-9)]
    assert [row["epoch"] for row in read_metrics(tmp_path)] == [1, 2]
    for name, value in again.named_parameters():
        torch.testing.assert_close(value.cpu(), best[name], atol=1e-5, rtol=1e-5)
    third = fit(make_model(), train, val, replace(still, epochs=3, lr=None), folder=tmp_path, resume=True)
    assert [(each["first_epoch"], each["lr"]) for each in third.cycles][-1] == (3, pytest.approx(0.01))


def test_another_cycle_keeps_the_best_epoch_of_the_first_if_it_finds_no_better(train, val, tmp_path):
    model, again = make_model(), make_model()
    first = fit(model, train, val, replace(ONE, monitor="val_loss"), folder=tmp_path)
    result = fit(again, train, val, replace(ONE, monitor="val_loss", epochs=2, lr=30.0), folder=tmp_path, resume=True)
    assert result.best_epoch == first.best_epoch
    assert states_equal(dict(model.named_parameters()), dict(again.named_parameters()))


def test_another_cycle_that_is_killed_resumes_to_bitwise_the_same_weights(train, val, tmp_path, monkeypatch):
    longer = replace(ONE, epochs=2, lr=None, schedule="cosine", ema=0.9, checkpoint_seconds=0)
    fit(make_model(), train, val, replace(longer, epochs=1), folder=tmp_path / "whole")
    copytree(tmp_path / "whole", tmp_path / "killed")
    models = {"whole": make_model()}
    whole = fit(models["whole"], train, val, longer, folder=tmp_path / "whole", resume=True)

    from anychannel.training import loop

    original, calls = loop.augment, []

    def augment_until_killed(*arguments, **options):
        calls.append(1)
        if len(calls) > 1:
            raise Killed
        return original(*arguments, **options)

    monkeypatch.setattr(loop, "augment", augment_until_killed)
    with pytest.raises(Killed):
        fit(make_model(), train, val, longer, folder=tmp_path / "killed", resume=True)
    monkeypatch.undo()
    models["killed"] = make_model()
    resumed = fit(models["killed"], train, val, longer, folder=tmp_path / "killed", resume=True)
    assert states_equal(models["whole"].state_dict(), models["killed"].state_dict())
    assert [row["lr"] for row in whole.rows] == [row["lr"] for row in resumed.rows]
    assert whole.cycles == resumed.cycles


def test_other_settings_without_more_epochs_and_another_sampler_are_refused(train, val, tmp_path):
    fit(make_model(), train, val, replace(ONE, epochs=2), folder=tmp_path)
    for change in ({"lr": 0.5}, {"epochs": 1}, {"epochs": 3, "sampler": "split"}):
        with pytest.raises(ValueError, match="is of a training with other settings"):
            fit(make_model(), train, val, replace(ONE, **{"epochs": 2} | change), folder=tmp_path, resume=True)


def test_a_time_limit_ends_training_after_an_epoch_and_the_rest_resumes_bitwise(train, val, tmp_path):
    whole, limited = make_model(), make_model()
    complete = fit(whole, train, val, SETTINGS, folder=tmp_path / "whole")
    cut = fit(make_model(), train, val, replace(SETTINGS, time_limit=1e-6), folder=tmp_path / "cut")
    assert cut.timed_out
    assert not cut.stopped_early
    assert len(cut.rows) == 1
    second = fit(make_model(), train, val, replace(SETTINGS, time_limit="1s"), folder=tmp_path / "cut", resume=True)
    assert len(second.rows) >= 2
    result = fit(limited, train, val, replace(SETTINGS, time_limit="2h"), folder=tmp_path / "cut", resume=True)
    assert not result.timed_out
    assert states_equal(whole.state_dict(), limited.state_dict())
    assert result.best_epoch == complete.best_epoch


@pytest.mark.parametrize(
    ("text", "seconds"), [("20m", 1200), ("1h30m", 5400), ("90s", 90), ("1.5h", 5400), (45, 45), ("2h 5s", 7205)]
)
def test_a_duration_is_text_with_units_or_a_number_of_seconds(text, seconds):
    assert parse_duration(text) == seconds
    assert TrainingSettings(time_limit=text).time_limit == seconds


@pytest.mark.parametrize("text", ["", "soon", "20 parsecs", "-5m", "0", "m", "1m1h", float("inf")])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="time_limit: a duration is positive and has a form such as 20m"):
        TrainingSettings(time_limit=text)
