"""End on SIGINT (Ctrl-C) or SIGTERM: at the next safe point after the first, and at once after the second.

Code that may stop anywhere is interrupted by the exception ``Interrupted``. Training holds it back (``held``) and asks
between its steps (``check``), so that it can write a checkpoint first.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN = 0.5
"""Seconds after which a signal is the second one. Launchers and terminals may both send the first."""

WORKERS_LAST = 20
"""Seconds for which a forked worker goes on after SIGTERM."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the program to end; ``status`` is the exit status for it, 130 or 143."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.status = 128 + number


@dataclass
class State:
    """What the handler knows: the signal that came first (0: none) and when, and how it is to be taken.

    ``held`` counts the blocks that hold it back. ``program`` says that a second one ends the process. ``process`` is
    the one that installed the handler; processes that it forks inherit it.
    """

    number: int = 0
    time: float = 0.0
    held: int = 0
    program: bool = False
    process: int = 0


STATE = State()


def handle(number: int, _: FrameType | None) -> None:
    """Note the first signal and interrupt, unless that is held back; end the program at the second."""
    if os.getpid() != STATE.process:  # a forked worker, whose parent ends it; it is still needed for the running step
        if number == signal.SIGTERM:
            signal.alarm(WORKERS_LAST)
    elif not STATE.number:
        STATE.number, STATE.time = number, time.monotonic()
        if not STATE.held:
            raise Interrupted(number)
    elif time.monotonic() - STATE.time > AGAIN:
        if STATE.program:
            os._exit(128 + number)
        raise KeyboardInterrupt


@contextmanager
def handled(*, program: bool = False) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into ``Interrupted``; with ``program``, a second one ends the process without a word.

    A signal that is ignored (as in a background job) or has a handler of the caller's own keeps that. Nothing changes
    outside the main thread and in a block inside another.
    """
    global STATE
    if program:
        STATE = State()
    usual = (signal.default_int_handler, signal.SIG_DFL, handle)
    mine = [number for number in SIGNALS if signal.getsignal(number) in usual]
    if threading.current_thread() is not threading.main_thread() or STATE.process == os.getpid() or not mine:
        yield
        return
    STATE = State(program=program, process=os.getpid())
    before = {number: signal.signal(number, handle) for number in mine}
    ending = False
    try:
        yield
    except Interrupted:
        ending = program  # so the handler stays, for a second signal while the interpreter ends
        raise
    finally:
        if not ending:
            for number, handler in before.items():
                signal.signal(number, handler)
            STATE = State()


@contextmanager
def held(save: Callable[[], object]) -> Iterator[None]:
    """Hold ``Interrupted`` back within the block until ``check`` is called or the block ends; first call ``save``."""
    with handled():
        STATE.held += 1
        try:
            yield
        except Interrupted:
            save()
            raise
        finally:
            STATE.held -= 1
        check()


def asked() -> int:
    """The signal that asks this program to end, 0 if none does."""
    return STATE.number if STATE.process == os.getpid() else 0


def check() -> None:
    """Raise ``Interrupted`` if a signal has come."""
    if number := asked():
        raise Interrupted(number)
