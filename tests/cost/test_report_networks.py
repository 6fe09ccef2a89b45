"""The report's table of computational costs, to its last printed digit."""

from __future__ import annotations

import pytest

from anychannel.cost import memory
from anychannel.cost.profile import profile_report_networks
from anychannel.models import REFERENCE_NETWORKS, create_reference
from anychannel.nn.stems import KernelAttentionStem

# parameters, GFLOPs of a batch, batch size: as printed in the report
PRINTED = {
    "task_1/resnet18": (11_194_482, "135.887", 64),
    "task_1/v1": (11_199_730, "502.252", 64),
    "task_1/v2": (11_204_274, "135.889", 64),
    "task_1/v4": (11_204_274, "135.889", 64),
    "task_2/resnet34": (21_302_642, "70.1987", 16),
    "task_2/v1": (205_204, "46.0907", 16),
    "task_2/v2": (212_884, "11.6577", 16),
}


@pytest.fixture(scope="module")
def table():
    return profile_report_networks(memory=False)


def test_the_table_has_the_reports_eight_networks(table):
    assert list(table) == list(REFERENCE_NETWORKS)
    assert set(table) == {*PRINTED, "task_1/v3"}


@pytest.mark.parametrize("name", PRINTED)
def test_parameters_and_operations_equal_the_printed_ones(table, name):
    params, gflops, batch_size = PRINTED[name]
    row = table[name]
    assert row["params"] == params
    assert format(row["gflops_calflops"], f".{len(gflops.split('.')[1])}f") == gflops
    assert row["batch_size"] == batch_size
    assert row["peak_memory_mb"] is None


def test_the_kernels_that_the_report_left_out_are_counted_and_said_to_be(table):
    row = table["task_1/v3"]
    stem = create_reference("task_1/v3").stem
    assert isinstance(stem, KernelAttentionStem)
    without_stem = 11_194_482 - 64 * 3 * 9
    assert row["params"] == without_stem + sum(parameter.numel() for parameter in stem.parameters())
    assert row["params"] > stem.kernels.numel() + without_stem > 11_192_700
    assert "11,192,700" in row["note"]


def test_attention_products_are_counted_in_the_second_convention(table):
    for name, positions in (("task_2/v1", 84 * 84), ("task_2/v2", 42 * 42)):
        added = table[name]["gflops_with_attention"] - table[name]["gflops_calflops"]
        assert added == pytest.approx(2 * 2 * 16 * positions**2 * (8 + 64) / 1e9, rel=1e-9)
    for name in ("task_1/resnet18", "task_1/v1", "task_1/v2", "task_2/resnet34"):
        assert table[name]["gflops_with_attention"] == table[name]["gflops_calflops"]


def test_a_sampler_changes_no_network_so_its_memory_is_measured_once(monkeypatch):
    asked = []

    def measure(model, *, batch_size, image_size, device):
        asked.append((model.spec.model, model.spec.stem, batch_size, image_size, device))
        return float(len(asked))

    monkeypatch.setattr(memory, "measure_memory", measure)
    rows = profile_report_networks()
    assert len(asked) == len(set(asked)) == 7
    assert rows["task_1/v4"]["peak_memory_mb"] == rows["task_1/v2"]["peak_memory_mb"]
    assert "same network as task_1/v2" in rows["task_1/v4"]["note"]


def test_a_memory_that_cannot_be_measured_is_left_out_with_its_reason(monkeypatch):
    def fail(*_, **__):
        raise memory.MemoryMeasurementError("too small a machine")

    monkeypatch.setattr(memory, "measure_memory", fail)
    row = profile_report_networks()["task_1/resnet18"]
    assert row["peak_memory_mb"] is None
    assert row["note"] == "No memory figure: too small a machine."
