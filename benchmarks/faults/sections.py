"""The sections of the fault measurement, in the order of ``faults.json``."""

from __future__ import annotations

from importlib import import_module

from benchmarks.faults.case import Case

SECTIONS = (
    "kill_and_resume",
    "torn_checkpoints",
    "bit_flips",
    "signals",
    "disk",
    "non_finite",
    "bad_images",
    "bombs",
    "hostile_models",
    "service",
    "determinism",
    "metrics",
    "silent",
)


def section_cases(section: str) -> list[Case]:
    """The cases of a section. A section whose module does not exist raises ``ModuleNotFoundError``."""
    module = import_module(f"benchmarks.faults.{section}")
    cases: list[Case] = module.cases()
    return cases
