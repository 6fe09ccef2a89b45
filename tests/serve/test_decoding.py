"""Decoding in processes that can be ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from io import BytesIO

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from anychannel.data import DataError
from anychannel.serve import decoding
from anychannel.serve.decoding import DECODER
from anychannel.serve.service import Service


@pytest.fixture(scope="module")
def service(run):
    service = Service(run)
    DECODER.warm()
    return service


@pytest.fixture
def usual(photos):
    return (photos / "test" / "right" / "3.png").read_bytes()


@pytest.fixture(scope="module")
def large():
    """A small file that takes about a second to decode."""
    buffer = BytesIO()
    Image.new("RGB", (4000, 4000)).save(buffer, format="PNG")
    return buffer.getvalue()


def processes():
    return psutil.Process(DECODER._nursery.pid).children()


def test_an_upload_is_opened_as_predict_opens_it(service, usual):
    opened, expected = service.open(usual, "a.png").input, service.predictor.open(usual, name="a.png")
    assert (opened.channels, opened.notes, dict(opened.far)) == (expected.channels, expected.notes, dict(expected.far))
    np.testing.assert_array_equal(opened.pixels, expected.pixels)
    assert opened.pixels.dtype == expected.pixels.dtype


def test_a_file_that_takes_too_long_is_refused_and_the_next_one_is_answered(service, large, usual, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "SECONDS", 0.05)
        with pytest.raises(DataError, match=r"large\.png: decoding it took longer than 0\.05 s; the file is probably"):
            service.open(large, "large.png")
    assert service.open(usual, "usual.png").view.name == "usual.png"


def test_a_file_that_crashes_its_process_is_refused_and_the_next_one_is_answered(service, large, usual):
    def kill_soon():
        time.sleep(0.3)
        for process in processes():
            process.send_signal(signal.SIGSEGV)

    thread = threading.Thread(target=kill_soon)
    thread.start()
    with pytest.raises(DataError, match=r"large\.png: decoding it crashed the program that reads images"):
        service.open(large, "large.png")
    thread.join()
    DECODER._idle.clear()
    assert service.open(usual, "usual.png").view.name == "usual.png"


def test_a_file_that_needs_too_much_memory_is_refused_and_the_next_one_is_answered(service, large, usual, monkeypatch):
    monkeypatch.setenv("ANYCHANNEL_MAX_VALUES", "48000000")
    service.open(large, "large.png")
    monkeypatch.setattr(decoding, "BYTES_A_VALUE", 0)
    DECODER.close()  # processes are forked with these constants
    monkeypatch.setattr(
        decoding,
        "PROGRAM",
        "from anychannel.serve import decoding; decoding.BYTES_A_VALUE = 0; decoding.answer_forever()",
    )
    with pytest.raises(DataError, match=r"large\.png: .*memory"):
        service.open(large, "large.png")
    assert service.open(usual, "usual.png").view.name == "usual.png"
    DECODER.close()


def test_a_fault_of_ours_is_no_fault_of_the_file(service, usual, monkeypatch):
    monkeypatch.setattr(service.predictor, "reader", "no reader")
    with pytest.raises(RuntimeError, match=r"decoding a\.png failed:\n(.*\n)*AttributeError"):
        service.open(usual, "a.png")


def test_processes_that_cannot_start_are_our_fault(monkeypatch, service, usual):
    DECODER.close()
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "PROGRAM", "raise SystemExit")
        with pytest.raises(RuntimeError, match="the processes that decode images cannot be started"):
            service.open(usual, "a.png")
    assert service.open(usual, "usual.png").view.name == "usual.png"


def test_the_processes_end_with_the_program(service, usual):
    service.open(usual, "a.png")
    nursery = psutil.Process(DECODER._nursery.pid)
    all_of_them = [nursery, *nursery.children()]
    assert os.getpgid(nursery.pid) == nursery.pid != os.getpgid(0)
    DECODER.close()
    _, alive = psutil.wait_procs(all_of_them, timeout=10)
    assert alive == []


def test_an_upload_of_many_names_and_sizes_stays_in_order(address, photos):
    files = [path for name in ("left", "right") for path in sorted((photos / "test" / name).iterdir())]
    names = [f"{i}{'ä' * (i % 3)}.png" for i in range(len(files))]
    for path, name in zip(files, names, strict=True):
        answer = httpx.post(f"{address}/api/images", files={"file": (name, path.read_bytes())}, timeout=60)
        assert answer.json()["name"] == name
