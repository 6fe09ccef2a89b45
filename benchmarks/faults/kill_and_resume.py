"""SIGKILL at many moments of a run: between steps, while it decodes, while it writes any of its files."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faults.case import Case
from benchmarks.faults.program import at_call, at_file_event, check_resumed, replace_call, train, undisturbed

FILES = "A run killed at any write to its files or the cache resumes to bitwise the same weights; nothing is left over."
STEPS = "A run killed between or within steps, in validation or in evaluation resumes to bitwise the same weights."
HALF = "A run killed in the middle of writing a file resumes to bitwise the same weights, and the half file is removed."
MOMENTS = 28
CALLS = {
    "training.loop:train_step": (1, 2, 4, 5, 7),
    "training.state:clip_grad_norm_": (3, 6),
    "training.loop:validate": (1, 2),
    "training.loop:close_epoch": (2,),
    "runs.execute:evaluate": (1,),
    "data.prepare.survey:progress_bar": (1,),
}
WRITERS = {
    "training.state:seal": (1, 3, 6),
    "models.saving:save_file": (1, 3),
    "results.evaluation:np.savez_compressed": (1,),
}


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def check_killed(prepare: Callable[[Path], Callable[[], object]], folder: Path) -> None:
    ended = train(undisturbed().images, folder, prepare=prepare(folder))
    assert ended.code == -signal.SIGKILL, f"it ended with {ended.code} before it could be killed: {ended.text}"
    check_resumed(folder)


def at_share(number: int, folder: Path) -> Callable[[], object]:
    """Before one of ``MOMENTS`` file events, evenly over the run."""
    count = 1 + round((undisturbed().events - 1) * number / (MOMENTS - 1))
    return at_file_event([folder / "run", folder / "cache"], count, kill)


def at_place(place: str, count: int, _: Path) -> Callable[[], object]:
    return at_call(place, count, kill)


def within(place: str, count: int, _: Path) -> Callable[[], object]:
    """Let a library write half of its file, then kill."""

    def write_half(original: Callable[..., object], *values: Any, **options: Any) -> None:
        original(*values, **options)
        path = next(Path(value) for value in values if isinstance(value, str | Path))
        os.truncate(path, path.stat().st_size // 2)
        kill()

    return replace_call(place, count, write_half)


def cases() -> list[Case]:
    found = []
    for number in range(MOMENTS):
        check = partial(check_killed, partial(at_share, number))
        found.append(Case(FILES, f"file event {number + 1} of {MOMENTS}", check, short=number == 14))
    for place, counts in CALLS.items():
        found += [Case(STEPS, f"{place} {n}", partial(check_killed, partial(at_place, place, n))) for n in counts]
    for place, counts in WRITERS.items():
        found += [Case(HALF, f"{place} {n}", partial(check_killed, partial(within, place, n))) for n in counts]
    return found
