"""The ``anychannel`` program and its commands."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Annotated

import typer

from anychannel.cli.adapt import adapt
from anychannel.cli.common import list_flags, plain_errors
from anychannel.cli.compare import compare
from anychannel.cli.demo import demo
from anychannel.cli.evaluate import evaluate
from anychannel.cli.export import export
from anychannel.cli.listing import list_names
from anychannel.cli.predict import predict
from anychannel.cli.profile import profile
from anychannel.cli.report import report
from anychannel.cli.serve import serve
from anychannel.cli.sweep import sweep
from anychannel.cli.train import train
from anychannel.utils.version import __version__

app = typer.Typer(
    name="anychannel",
    help="Image classifiers that keep working whichever channels arrive.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(value: bool) -> None:
    """Print the version and stop."""
    if value:
        typer.echo(f"anychannel {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Image classifiers that keep working whichever channels arrive."""


COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "adapt": adapt,
    "sweep": sweep,
    "evaluate": evaluate,
    "report": report,
    "compare": compare,
    "profile": profile,
    "predict": predict,
    "serve": serve,
    "export": export,
    "list": list_names,
    "demo": demo,
}

CONTINUING = ("compare", "demo")
"""Commands that continue from the runs that they have written, without a flag."""


def describe_restart(name: str) -> str:
    """What a command does if it is started again after a signal has ended it."""
    if "resume" in signature(COMMANDS[name]).parameters:
        return "to continue, start the same command again with --resume"
    if name in CONTINUING:
        return "to continue, start the same command again"
    return "the same command starts from the beginning"


for name, command in COMMANDS.items():
    app.command(name)(plain_errors(describe_restart(name), list_flags(command), list_flags(train))(command))
