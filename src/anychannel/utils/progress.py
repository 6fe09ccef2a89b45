"""Progress bars on standard error, with the remaining time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Advances a progress bar."""

    def __call__(self, steps: int = 1, note: str | None = None) -> None:
        """Count ``steps`` more steps as done, and show ``note`` beside the bar."""
        ...


def show_line(text: str) -> None:
    """Print a line on standard error."""
    from rich.console import Console  # here, since rich takes as long to import as a small network to answer

    Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def progress_bar(title: str, total: int, *, done: int = 0, show: bool = True) -> Iterator[Advance]:
    """Show a progress bar for ``total`` steps, unless ``show`` is false.

    Without a terminal (in a log file), each note is printed as a line instead.
    """
    if not show or not sys.stderr.isatty():

        def log(steps: int = 1, note: str | None = None) -> None:  # noqa: ARG001
            if show and note:
                show_line(f"{title}  {note}")

        yield log
        return
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
        rich.TextColumn("left"),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.fields[note]}", markup=False),
    )
    with rich.Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, completed=done, note="")

        def advance(steps: int = 1, note: str | None = None) -> None:
            progress.advance(task, steps)
            if note:
                progress.update(task, note=note)

        yield advance
