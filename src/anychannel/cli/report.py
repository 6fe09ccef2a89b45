"""``anychannel report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anychannel.cli.common import plain_errors


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `anychannel train` wrote.")],
    out: Annotated[Path | None, typer.Option(help="HTML file; default: report.html in the (first) run.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
) -> None:
    """Write one self-contained HTML page that compares runs.

    Examples:

    - `anychannel report runs/bands`

    - `anychannel report runs/plain runs/adaptive --out compare.html`
    """
    with plain_errors():
        from anychannel.report import write_report

        typer.echo(write_report(runs, out or runs[0] / "report.html", title=title))
