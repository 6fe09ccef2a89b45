"""Latency, and the whole cost of a network."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from anychannel.channels import ChannelError, ChannelSet
from anychannel.cost import latency as latency_module
from anychannel.cost import memory as memory_module
from anychannel.cost.latency import measure_latency, repeat
from anychannel.cost.profile import count_parameters, profile
from anychannel.models import create_model

RGB = ChannelSet(("R", "G", "B"), mean=(100.0, 110.0, 120.0), std=(50.0, 60.0, 70.0))


def small_model(stem="static", channels=RGB, **options):
    return create_model("compact_k7", channels=channels, num_classes=5, stem=stem, **options)


def test_running_statistics_are_no_parameters():
    assert count_parameters(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))) == 2 * 3 * 9 + 3 + 6


def test_latency_is_per_image_and_ordered():
    model = small_model().train()
    result = measure_latency(model, batch_size=4, image_size=16, channels="G,R")
    assert set(result) == {"median", "p10", "p90", "repeats"}
    assert 0 < result["p10"] <= result["median"] <= result["p90"]
    assert result["repeats"] == 3
    assert model.training


def test_latency_divides_by_the_batch(monkeypatch):
    # each pass takes as long as the last, whatever the batch: a clock that moves by one second a look
    ticks = iter(range(1000))
    monkeypatch.setattr(latency_module.time, "perf_counter", lambda: float(next(ticks)))
    assert measure_latency(small_model(), batch_size=8, image_size=16)["median"] == pytest.approx(1000 / 8)


@pytest.mark.parametrize(
    ("seconds", "fewest", "most", "expected"), [(0, 3, 100, 3), (1e9, 3, 5, 5), (0, 1, 100, 1), (2.5, 1, 100, 3)]
)
def test_calls_are_repeated_until_the_time_is_spent(monkeypatch, seconds, fewest, most, expected):
    ticks = iter(range(1000))
    monkeypatch.setattr(latency_module.time, "perf_counter", lambda: float(next(ticks)))
    calls = []
    assert len(repeat(lambda: calls.append(1), seconds, fewest, most)) == len(calls) == expected


def test_a_profile_has_a_row_for_every_subset():
    model = small_model()
    result = profile(model, batch_size=2, image_size=16)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert list(result["subsets"]) == ["R,G,B", "R,G", "R,B", "G,B", "R", "G", "B"]
    for row in result["subsets"].values():
        assert set(row) == {"gflops_calflops", "gflops_with_attention", "latency_ms"}
        assert set(row["latency_ms"]) == {"1", "64"}
        assert 0 < row["gflops_calflops"] < row["gflops_with_attention"]
    assert result["params"] == count_parameters(model)
    assert result["peak_memory_mb"] > 0
    assert (result["batch_size"], result["image_size"]) == (2, 16)
    assert result["device"] == f"cpu ({torch.get_num_threads()} threads)"


def test_what_is_not_asked_for_is_not_measured():
    result = profile(small_model(), batch_size=2, image_size=16, subsets=["B"], memory=False, latency=False)
    assert list(result["subsets"]) == ["B"]
    assert set(result["subsets"]["B"]) == {"gflops_calflops", "gflops_with_attention"}
    assert result["peak_memory_mb"] is None


def test_a_subset_that_the_stem_refuses_is_recorded_unless_it_was_named(monkeypatch):
    asked = []
    monkeypatch.setattr(memory_module, "measure_memory", lambda model, **options: asked.append(options) or 12.5)
    model = small_model("masked", stem_options={"trained": [0, 2]})
    result = profile(model, batch_size=2, image_size=16)
    assert "gflops_calflops" in result["subsets"]["R,B"]
    for key in ("R,G,B", "R,G", "G,B", "R", "G", "B"):
        assert "was trained on the channel positions (0, 2)" in result["subsets"][key]["refused"]
    # a training step is measured on what the stem takes
    assert result["peak_memory_mb"] == 12.5
    assert [options["channels"] for options in asked] == [["R", "B"]]
    with pytest.raises(ChannelError, match="was trained on"):
        profile(model, batch_size=2, image_size=16, subsets="R", memory=False)


def test_many_channels_are_profiled_on_a_few_subsets_of_each_size():
    channels = ChannelSet(tuple(f"band{i}" for i in range(40)))
    result = profile(small_model(channels=channels), batch_size=2, image_size=16, memory=False, latency=False)
    assert result["sampled"]
    assert "40 channels have" in result["note"]
    assert len(result["subsets"]) == 16


def test_a_memory_that_cannot_be_measured_is_noted(monkeypatch):
    monkeypatch.setattr(memory_module, "PROGRAM", "raise RuntimeError('no such luck')")
    result = profile(small_model(), batch_size=2, image_size=16, subsets="R", latency=False)
    assert result["peak_memory_mb"] is None
    assert "No memory figure: the memory of a training step at batch size 2" in result["note"]
    assert "no such luck" in result["note"]
