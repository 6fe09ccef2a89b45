"""Whether other programs slow down training on the CPU.

Convolutions and batch norms split their work among threads, which wait for each other busily after each of them. If
another program has one of the cores, all threads wait for the one without a core: beside two other busy programs, on
two cores, an epoch with two threads took forty times as long as on an idle machine (docs/LOG.md).
"""

from __future__ import annotations

import os
import time
import warnings

import torch

SECONDS = 20
"""Interval between checks."""
STARVED = 0.7
"""Share of its threads' time below which a training counts as slowed down; undisturbed it gets 0.93 to 0.97."""


class Contention:
    """Watches how much processor time this process gets; call ``check`` at each step."""

    def __init__(self) -> None:
        self.wall, self.used = time.monotonic(), time.process_time()
        self.warned = False

    def check(self) -> None:
        """Warn once if the threads got less time than they could use while the load was above the number of cores."""
        now = time.monotonic()
        if self.warned or now - self.wall < SECONDS:
            return
        used = (time.process_time() - self.used) / (now - self.wall)
        self.wall, self.used = now, time.process_time()
        threads, cores, load = torch.get_num_threads(), os.cpu_count() or 1, os.getloadavg()[0]
        if threads == 1 or used > STARVED * threads or load < cores + 0.5:
            return
        self.warned = True
        warnings.warn(
            f"training's {threads} threads get {used:.1f} of this machine's {cores} cores, since other programs use "
            f"them too (load {load:.1f}), and wait for each other; fewer can be several times as fast: stop, and go on "
            "with OMP_NUM_THREADS=1 in the environment",
            stacklevel=3,
        )
