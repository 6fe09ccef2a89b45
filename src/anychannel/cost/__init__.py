"""Cost: parameters, operations by two conventions, memory of a training step, latency."""

from __future__ import annotations

from anychannel.cost.flops import CountError, Flops, count_flops, count_forward
from anychannel.cost.latency import measure_latency
from anychannel.cost.memory import MemoryMeasurementError, measure_memory
from anychannel.cost.profile import count_parameters, profile
from anychannel.cost.report_networks import profile_report_networks

__all__ = [
    "CountError",
    "Flops",
    "MemoryMeasurementError",
    "count_flops",
    "count_forward",
    "count_parameters",
    "measure_latency",
    "measure_memory",
    "profile",
    "profile_report_networks",
]
