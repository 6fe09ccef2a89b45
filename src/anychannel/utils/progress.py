"""Progress bars on standard error, with the remaining time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Advance(Protocol):
    """Advances a progress bar."""

    def __call__(self, steps: int = 1, note: str | None = None) -> None:
        """Count ``steps`` more steps as done, and show ``note`` beside the bar."""
        ...


def show_line(text: str) -> None:
    """Print a line on standard error."""
    Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def progress_bar(title: str, total: int, *, done: int = 0, show: bool = True) -> Iterator[Advance]:
    """Show a progress bar for ``total`` steps, unless ``show`` is false.

    Without a terminal (in a log file), each note is printed as a line instead.
    """
    console = Console(stderr=True)
    if not show or not console.is_terminal:

        def log(steps: int = 1, note: str | None = None) -> None:  # noqa: ARG001
            if show and note:
                console.print(f"{title}  {note}", highlight=False, markup=False, soft_wrap=True)

        yield log
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total, completed=done, note="")

        def advance(steps: int = 1, note: str | None = None) -> None:
            progress.advance(task, steps)
            if note:
                progress.update(task, note=note)

        yield advance
