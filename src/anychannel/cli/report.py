"""``anychannel report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anychannel.cli.common import Runs


def report(
    runs: Runs,
    out: Annotated[Path | None, typer.Option(help="HTML file. Default: report.html in the first run.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
) -> None:
    """Write one self-contained HTML page that compares runs.

    Examples:

    - `anychannel report runs/bands`

    - `anychannel report runs/plain runs/adaptive --out compare.html`
    """
    from anychannel.report import write_report

    typer.echo(write_report(runs, out or runs[0] / "report.html", title=title))
