"""Whether training on the CPU is held up by other programs.

Convolutions and batch norms split their work among threads that meet again after each of them, and wait for each other
busily. If another program has one of the cores, all threads wait for the one that has none: beside two other busy
programs, on two cores, an epoch with two threads took forty times as long as on an idle machine (docs/LOG.md).
"""

from __future__ import annotations

import os
import time
import warnings

import torch

SECONDS = 20
"""Time that is looked at together."""
STARVED = 0.7
"""Share of its threads' time below which a training counts as held up; undisturbed it gets 0.93 to 0.97."""


class Contention:
    """Watches how much processor time this process gets; ``check`` it at each step."""

    def __init__(self) -> None:
        self.wall, self.used = time.monotonic(), time.process_time()
        self.warned = False

    def check(self) -> None:
        """Say once that other programs hold the training up.

        Warns:
            UserWarning: for some time the threads got less than they could use, while more programs wanted to run than
                there are cores.
        """
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
