"""Commands as a person types them."""

from __future__ import annotations

from typer.testing import CliRunner

from anychannel.cli import app


def export(*arguments):
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["export", *map(str, arguments)])
