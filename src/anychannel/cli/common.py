"""What the commands share: errors for people, JSON on standard output."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn an error in what the user gave into one line on standard error and exit status 2.

    A bug keeps its traceback: only ``ValueError`` (which all of anychannel's own errors about input are), failures of
    training, and files that cannot be read or written are caught.
    """
    from anychannel.training import TrainingError

    try:
        yield
    except (ValueError, TrainingError, OSError) as error:
        typer.secho(f"error: {in_words(error)}", fg="red", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        typer.secho("stopped; a run goes on with --resume", fg="yellow", err=True)
        raise typer.Exit(130) from None


def in_words(error: Exception) -> str:
    """An error's text; of the operating system's, the file and what is wrong with it."""
    if not isinstance(error, OSError) or error.filename is None:
        return str(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason = "a file stands where a folder is needed"
    elif isinstance(error, IsADirectoryError):
        reason = "it is a folder, and a file is needed"
    else:
        reason = str(error.strerror)
    return f"{error.filename2 or error.filename} cannot be read or written: {reason}"


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """``["kernels=8", "name=x"]`` -> ``{"kernels": 8, "name": "x"}``.

    Values are read as TOML where they can be, and ``True`` and ``FALSE`` as the booleans that they name.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
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
    """Refuse flags that are given although there is nothing for them to say.

    Args:
        flags: their values by name; None where not given.
        reason: why not, before the names of those to leave out.

    Raises:
        ValueError: names them.
    """
    given = [flag for flag, value in flags.items() if value is not None]
    if given:
        raise ValueError(f"{reason}; leave out {', '.join(given)}")


def say(text: str) -> None:
    """A line for the person, on standard error, so that standard output stays clean for JSON."""
    typer.echo(text, err=True)


def print_json(value: Any) -> None:
    """JSON on standard output."""
    typer.echo(json.dumps(value, indent=1, allow_nan=False))


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * value:5.1f}"


def why_no_figures(figures: dict[str, Any]) -> str:
    """What to say of a subset that has no accuracy: that the network refuses it, or that no image has it."""
    reason = str(figures["refused"])
    return reason if figures.get("n") == 0 else f"refused: {reason}"
