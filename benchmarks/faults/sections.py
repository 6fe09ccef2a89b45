"""The sections of the fault measurement, in the order of ``faults.json``, and the modules that hold their cases."""

from __future__ import annotations

from importlib import import_module

from benchmarks.faults.case import Case

SECTIONS = {
    "kill_and_resume": ("kill_and_resume",),
    "torn_checkpoints": ("torn_checkpoints",),
    "bit_flips": ("bit_flips", "bit_flips_cache"),
    "signals": ("signals",),
    "disk": ("disk",),
    "non_finite": ("non_finite",),
    "bad_images": ("bad_images",),
    "bombs": ("bombs",),
    "hostile_models": ("hostile_models", "hostile_runs"),
    "service": ("service",),
    "determinism": ("determinism",),
    "metrics": ("metrics",),
    "silent": ("silent_data", "silent_model", "silent_serve"),
}


def section_cases(section: str) -> list[Case]:
    """The cases of a section."""
    return [case for module in SECTIONS[section] for case in import_module(f"benchmarks.faults.{module}").cases()]
