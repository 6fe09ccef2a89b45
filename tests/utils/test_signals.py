"""SIGINT and SIGTERM end work at a safe point, and leave the caller's handlers as they were."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from anychannel.utils import signals
from anychannel.utils.signals import Interrupted, asked, check, handled, held


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_interrupts_at_once_or_where_the_block_asks(number, status):
    before = [signal.getsignal(each) for each in signals.SIGNALS]
    with pytest.raises(Interrupted) as caught, handled():
        signal.raise_signal(number)
    assert caught.value.status == status
    done = []

    def work():
        signal.raise_signal(number)
        done.append("step")
        assert asked() == number
        check()

    with pytest.raises(Interrupted), held(lambda: done.append("saved")):
        work()
    assert done == ["step", "saved"]
    with pytest.raises(Interrupted), held(lambda: done.append("saved twice")):
        signal.raise_signal(number)
    assert done == ["step", "saved"]
    assert asked() == 0
    assert [signal.getsignal(each) for each in signals.SIGNALS] == before


def test_a_second_signal_of_a_library_is_a_plain_interrupt_and_saves_nothing(monkeypatch):
    monkeypatch.setattr(signals, "AGAIN", -1)
    saved = []

    def send_two():
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught, held(lambda: saved.append(1)):
        send_two()
    assert type(caught.value) is KeyboardInterrupt
    assert saved == []


def test_ignored_signals_stay_ignored_and_own_handlers_stay():
    found = []
    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, lambda *_: found.append(1))
    try:
        with handled():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in zip(signals.SIGNALS, before, strict=True):
            signal.signal(number, handler)
    assert found == [1]


def test_a_second_signal_ends_a_program_without_a_word():
    code = (
        "import signal, time\nfrom anychannel.utils.signals import handled, held\n"
        "with handled(program=True), held(print):\n"
        "    signal.raise_signal(15)\n    time.sleep(0.6)\n    signal.raise_signal(2)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
