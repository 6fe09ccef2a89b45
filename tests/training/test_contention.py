"""A training that other programs hold up says so."""

from __future__ import annotations

import os
import time
import warnings

import pytest
import torch

from anychannel.training.contention import SECONDS, Contention


@pytest.fixture
def machine(monkeypatch):
    """A machine of four cores whose clocks the test sets; training has four threads."""
    clocks = {"wall": 0.0, "used": 0.0, "load": 4.0}
    monkeypatch.setattr(time, "monotonic", lambda: clocks["wall"])
    monkeypatch.setattr(time, "process_time", lambda: clocks["used"])
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (clocks["load"], 0.0, 0.0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    return clocks


def test_it_is_said_once_and_names_the_remedy(machine):
    watch = Contention()
    machine.update(wall=SECONDS + 1.0, used=2.0 * (SECONDS + 1), load=7.8)
    message = r"4 threads get 2\.0 of this machine's 4 cores.* \(load 7\.8\).*OMP_NUM_THREADS=1"
    with pytest.warns(UserWarning, match=message):
        watch.check()
    machine.update(wall=9.0 * SECONDS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.check()


@pytest.mark.parametrize(
    "state",
    [
        {"used": 3.8 * SECONDS, "load": 7.8},  # it gets its share
        {"used": 2.0 * SECONDS, "load": 4.1},  # it waits for something else, a disk say
        {"used": 0.0, "load": 7.8, "wall": SECONDS - 1.0},  # too early to tell
    ],
)
def test_nothing_is_said_where_nothing_is_wrong(machine, state):
    watch = Contention()
    machine.update({"wall": float(SECONDS)} | state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.check()


def test_one_thread_has_nobody_to_wait_for(machine, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    watch = Contention()
    machine.update(wall=float(SECONDS), used=0.3 * SECONDS, load=7.8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.check()


def test_an_earlier_wait_is_not_held_against_what_follows(machine):
    watch = Contention()
    machine.update(wall=float(SECONDS), used=0.5 * SECONDS, load=4.0)
    watch.check()
    machine.update(wall=2.0 * SECONDS, used=4.4 * SECONDS, load=7.8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.check()
