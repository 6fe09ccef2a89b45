"""Shared by the commands: common options, errors as one line, JSON on standard output."""

from __future__ import annotations

import json
import os
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from anychannel.utils.signals import Interrupted, check, handled

Run = Annotated[Path, typer.Argument(help="Folder that `anychannel train` wrote.")]
Runs = Annotated[list[Path], typer.Argument(help="Folders that `anychannel train` wrote.")]
Cache = Annotated[Path | None, typer.Option(help="Folder of the cache of decoded images.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


@contextmanager
def plain_errors(again: str = "start the same command again") -> Iterator[None]:
    """Turn an error in the user's input into one line on standard error and exit status 2.

    Catches ``ValueError`` (the base class of anychannel's own input errors), failures of training, and files that
    cannot be read or written. A bug keeps its traceback. SIGINT and SIGTERM end the command with exit status 130 and
    143; ``again`` says how to continue it.
    """
    try:
        with handled(program=True), short_warnings(), explained():
            yield
    except KeyboardInterrupt as stop:
        if os.environ.get("RANK", "0") == "0":  # the main one of several processes
            typer.secho(f"{stop or 'stopped'}; to continue, {again}", fg="yellow", err=True)
        raise typer.Exit(stop.status if isinstance(stop, Interrupted) else 130) from None


@contextmanager
def short_warnings() -> Iterator[None]:
    """Print warnings for users as one line, without the place in the code."""
    usual = warnings.formatwarning

    def format_warning(message: Warning | str, category: type[Warning], *place: Any, **line: Any) -> str:
        return f"warning: {message}\n" if category is UserWarning else usual(message, category, *place, **line)

    warnings.formatwarning = format_warning
    try:
        yield
    finally:
        warnings.formatwarning = usual


@contextmanager
def explained() -> Iterator[None]:
    """See ``plain_errors``."""
    try:
        yield
    except BrokenPipeError:  # the reader of standard output has left; Click knows what to do
        raise
    except (ValueError, OSError, RuntimeError) as error:
        check()  # whatever fails once the command is to end, such as a connection to another process, fails for that
        if isinstance(error, RuntimeError):
            from anychannel.training import TrainingError

            if not isinstance(error, TrainingError):
                raise
        typer.secho(f"error: {describe_error(error)}", fg="red", err=True)
        raise typer.Exit(2) from error


def describe_error(error: Exception) -> str:
    """The text of an error. For an error of the operating system: the file and the reason."""
    if not isinstance(error, OSError) or error.filename is None:
        return str(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason = "a file stands where a folder is needed"
    elif isinstance(error, IsADirectoryError):
        reason = "it is a folder, and a file is needed"
    else:
        reason = str(error.strerror)
    return f"{error.filename2 or error.filename} cannot be read or written: {reason}"


def parse_options(pairs: list[str] | None) -> dict[str, Any]:
    """``["kernels=8", "name=x"]`` -> ``{"kernels": 8, "name": "x"}``.

    A value that is valid TOML is read as TOML, any other as text. ``True`` and ``FALSE`` are booleans.
    """
    options: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"give KEY=VALUE, got {pair!r}")
        text = text.lower() if text.lower() in ("true", "false") else text
        try:
            options[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            options[key] = text
    return options


def refuse_flags(flags: dict[str, Any], reason: str) -> None:
    """Refuse flags that have no effect, for a ``reason``. A flag with the value None is not given."""
    given = [flag for flag, value in flags.items() if value is not None]
    if given:
        raise ValueError(f"{reason}; leave out {', '.join(given)}")


def say(text: str) -> None:
    """Print a line on standard error, which keeps standard output clean for results."""
    typer.echo(text, err=True)


def print_json(value: Any) -> None:
    """Print JSON on standard output."""
    typer.echo(json.dumps(value, indent=1, allow_nan=False))


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * value:5.1f}"


def warn_of_fault(run: Path, evaluation: dict[str, Any]) -> None:
    """Say on standard error that something is wrong with a run if a subset beats the full set."""
    from anychannel.report.verdict import describe_fault
    from anychannel.results.evaluation import Scores
    from anychannel.results.run import load_runs

    fault = describe_fault(load_runs([run])[0], Scores.from_dict(evaluation))
    if fault:
        typer.secho(" ".join(fault), fg="yellow", err=True)


def describe_missing(figures: dict[str, Any]) -> str:
    """Why a subset has no accuracy: the network refuses it, or no image has its channels."""
    reason = str(figures["refused"])
    return reason if figures.get("n") == 0 else f"refused: {reason}"
