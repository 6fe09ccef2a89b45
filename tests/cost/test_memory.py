"""Peak memory of a training step in a process of its own."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from anychannel.channels import ChannelError, ChannelSet
from anychannel.cost.memory import MemoryMeasurementError, forget_peak, measure_memory, resident
from anychannel.models import create_model

RGB = ChannelSet(("R", "G", "B"))
BATCH, SIZE = 16, 64


def test_peak_memory_holds_weights_and_activations_and_little_more(tmp_path, monkeypatch):
    # a file that shadows torch, should the worker look into the working directory
    (tmp_path / "torch.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    model = create_model("resnet18", channels=RGB, num_classes=5)
    peak = measure_memory(model, batch_size=BATCH, image_size=SIZE)
    # weights, gradients and momentum; then what backward needs of the first block row alone, in float32
    fixed = 3 * 4 * sum(parameter.numel() for parameter in model.parameters())
    first = 4 * BATCH * 64 * (SIZE**2 + 8 * (SIZE // 2) ** 2)
    assert (fixed + first) / 1e6 < peak < 4 * (fixed + first) / 1e6


def test_a_larger_batch_takes_more_memory():
    model = create_model("compact_k7", channels=RGB, num_classes=5)
    small, large = (measure_memory(model, batch_size=size, image_size=64, channels="R,B") for size in (4, 36))
    # one activation of the first convolution is 64 x 32 x 32 floats an image, and backward needs more than three
    assert large - small > 32 * 3 * 4 * 64 * 32 * 32 / 1e6


def test_a_network_that_cannot_be_trained_so_is_an_error_that_says_why():
    model = create_model("compact_k7", channels=RGB, num_classes=5, stem="masked", stem_options={"trained": [0, 1, 2]})
    with pytest.raises(
        MemoryMeasurementError,
        match=r"batch size 2 and 16 x 16 pixels cannot be measured: .*ChannelError: the masked",
    ):
        measure_memory(model, batch_size=2, image_size=16, channels="R")


def test_an_unknown_channel_is_named_before_a_process_starts():
    with pytest.raises(ChannelError, match="unknown channel 'X'"):
        measure_memory(
            create_model("compact_k7", channels=RGB, num_classes=5), batch_size=2, image_size=16, channels="X"
        )


def test_a_device_whose_memory_cannot_be_read_is_named():
    model = create_model("compact_k7", channels=RGB, num_classes=5).to(torch.device("meta"))
    with pytest.raises(MemoryMeasurementError, match="can be measured on cpu and cuda, not on meta"):
        measure_memory(model, batch_size=2, image_size=16)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the kernel does not reset the peak")
def test_a_peak_from_before_the_network_is_forgotten():
    np.ones(200_000_000, dtype=np.uint8)
    assert resident("VmHWM") - resident("VmRSS") > 150e6
    forget_peak()
    assert resident("VmHWM") - resident("VmRSS") < 50e6
