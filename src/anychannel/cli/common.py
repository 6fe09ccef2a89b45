"""Shared by the commands: common options, errors as one line, JSON on standard output."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.models import OptionInfo

from anychannel.utils.signals import Interrupted, check, handled

Run = Annotated[Path, typer.Argument(help="Folder that `anychannel train` wrote.")]
Runs = Annotated[list[Path], typer.Argument(help="Folders that `anychannel train` wrote.")]
Cache = Annotated[
    Path | None, typer.Option(help="Folder of decoded images. Default: $ANYCHANNEL_CACHE, or ~/.cache/anychannel.")
]
Groups = Annotated[
    list[str] | None,
    typer.Option(
        "--group", help="Channels of one sensor, as camera=R,G,B; repeatable. none: no groups. Default: the data's own."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


Tta = Annotated[
    str | None,
    typer.Option(
        "--tta",
        help="Test-time augmentation: mean logits over the image and its mirror images: hflip, vflip or hflip,vflip. "
        "Default: none.",
    ),
]
Use = Annotated[
    list[str] | None,
    typer.Option(help="Subset of the channels that the network gets, as R,G; repeatable. Default: all of the run's."),
]
"""``--channels`` names the channels that images hold, in their order, in all commands; ``--use`` some of these."""

REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EROFS), "; make room there, or choose another folder"),
    errno.EFBIG: "; raise the limit on the size of files (ulimit -f)",
}


@contextmanager
def plain_errors(
    restart: str = "the same command starts from the beginning",
    flags: Mapping[str, str] | None = None,
    trains: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Turn an error in the user's input into one line on standard error and exit status 2.

    Catches ``ValueError`` (the base class of anychannel's own input errors), failures of training, and files that
    cannot be read or written. A bug keeps its traceback. SIGINT and SIGTERM end the command with exit status 130 and
    143; ``restart`` says what it does if it is started again. ``flags`` and ``trains`` are those of the command and of
    ``train``, which messages name.
    """
    try:
        with handled(program=True), short_warnings(), explained(flags or {}, trains or {}):
            yield
    except KeyboardInterrupt as stop:
        if os.environ.get("RANK", "0") == "0":  # the main one of several processes
            typer.secho(f"{str(stop) or 'stopped'}; {restart}", fg="yellow", err=True)
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
def explained(flags: Mapping[str, str], trains: Mapping[str, str]) -> Iterator[None]:
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
        text = describe_error(error)
        if "anychannel.data.load" in sys.modules:  # such an error needs no import of torch
            text = name_flags(text, flags, trains)
        typer.secho(f"error: {text}", fg="red", err=True)
        raise typer.Exit(2) from error


HINT = re.compile(r"(?<![\w/.-])([a-z_]+)(?:=('[^']*'|\[[^\]]*\]|[\w.{}-]*\w))?(?![\w/-]|\.\w)")
"""An argument in a message, with its value as ``nodata='keep'`` or alone as ``class_names``."""


def list_flags(command: Callable[..., None]) -> dict[str, str]:
    """The flags of a command by the names of its parameters."""
    flags = {}
    for name, kind in get_type_hints(command, include_extras=True).items():
        for option in getattr(kind, "__metadata__", ()):
            if isinstance(option, OptionInfo):
                given = (option.default, *(option.param_decls or ()), f"--{name.replace('_', '-')}")
                flag = next(text for text in map(str, given) if text.startswith("--"))
                flags["cache_dir" if name == "cache" else name] = flag
    return flags


def name_flags(text: str, mine: Mapping[str, str], trains: Mapping[str, str]) -> str:
    """Write the arguments of ``load_dataset`` and its sources in a message as flags.

    ``mine`` are the flags of the command at hand. Settings that it does not have are those of the command ``train``.
    """
    from anychannel.data import load_dataset
    from anychannel.data.sources.registry import SOURCES
    from anychannel.runs.data import RESERVED

    known = {name for kind in SOURCES.values() for name in kind.options} | set(signature(load_dataset).parameters)

    def name_flag(found: re.Match[str]) -> str:
        name, value = found[1], (found[2] or "").strip("'")
        if name not in known or (not value and "_" not in name) or value.startswith("data."):  # that of a data set
            return found[0]
        of_train = "" if name in mine or "option" in mine else "`anychannel train` with "
        flag = (trains if of_train else mine).get(name)
        if flag is None:
            key = name if name in RESERVED else f"data_options.{name}"
            flag, value = "--set", f"{key}={value.lower() if value in ('True', 'False') else value or '...'}"
        quoted = value if re.fullmatch(r"[\w.,=-]*", value) else f'"{value}"'
        return of_train + (flag if value in ("", "True") else f"{flag} {quoted}")

    return HINT.sub(name_flag, text)


def describe_error(error: Exception) -> str:
    """The text of an error. For an error of the operating system: the file and the reason."""
    if not isinstance(error, OSError) or error.filename is None:
        return str(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason = "a file stands where a folder is needed"
    elif isinstance(error, IsADirectoryError):
        reason = "it is a folder, and a file is needed"
    else:
        reason = f"{error.strerror}{REMEDIES.get(error.errno or 0, '')}"
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


def former_use(use: list[str] | None, channels: list[str] | None) -> list[str] | None:
    """The subsets of ``--use``, or with a remark those of ``--channels``, its former name."""
    if channels is None:
        return use
    flags = " ".join(f"--use {subset}" for subset in channels)
    refuse_flags({"--channels": use and channels}, "--use names the subsets")
    say(f"--channels names the channels that files hold; for a subset that the network gets, write {flags}")
    return channels


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


def main_figures(figures: dict[str, Any]) -> str:
    """The ``main_figures`` in percent, under ``figures_head``."""
    from anychannel.results.metrics import main_figures as find

    return "  ".join(f"{percent(value):>8}" for value in find(figures).values())


def figures_head(several: bool) -> str:
    """What stands over ``main_figures``, of one class an image or several labels."""
    return "mean AP   micro F1  macro F1" if several else "accuracy  balanced  macro F1"


def warn_of_fault(run: Path, evaluation: dict[str, Any]) -> None:
    """Say on standard error that something is wrong with a run if a subset beats the full set."""
    from anychannel.report.verdict import describe_fault
    from anychannel.results.evaluation import Scores
    from anychannel.results.run import led_by_watched, load_runs

    (read,) = led_by_watched(load_runs([run]))
    fault = describe_fault(read, Scores.from_dict(evaluation).led_by(read.main))
    if fault:
        typer.secho(" ".join(fault), fg="yellow", err=True)


def describe_missing(figures: dict[str, Any]) -> str:
    """Why a subset has no accuracy: the network refuses it, or no image has its channels."""
    reason = str(figures["refused"])
    return reason if figures.get("n") == 0 else f"refused: {reason}"
