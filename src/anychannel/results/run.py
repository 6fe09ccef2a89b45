"""A run's folder, read into records. A missing or damaged file becomes a sentence, except ``run.json``."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from anychannel.results.cost import Cost
from anychannel.results.evaluation import Scores
from anychannel.results.gap import DedicatedGaps
from anychannel.results.metrics import FIGURES, LABEL_FIGURES, led_by
from anychannel.results.parse import parse
from anychannel.utils.files import LOCK, is_free
from anychannel.utils.plurals import plural
from anychannel.utils.sizes import describe_size

FORMAT = 2
"""Version of a run's folder, ``format`` in ``run.json``; 1 if there is no entry. All versions up to it are read."""


OUTSIDE = "trained_elsewhere"
"""Entry of ``run.json`` of a network that anychannel did not train."""

UNFINISHED = {
    "running": "is still training",
    "not finished": "was killed, or trains on another machine",
    "interrupted": "was interrupted",
    "failed": "failed",
    "stopped": "was stopped early",
}
"""What is said of a run by its status, unless it is finished."""


class RunError(ValueError):
    """A run's folder cannot be used; the message names it and says what to do."""


@dataclass(frozen=True)
class Epoch:
    """One row of ``metrics.jsonl``; accuracies are fractions, None if the row has no finite number.

    ``skipped_steps`` counts the steps whose gradients were not finite, so that they changed no weights.
    """

    epoch: int
    train_accuracy: float | None = None
    train_loss: float | None = None
    val_accuracy: float | None = None
    val_loss: float | None = None
    val_balanced_accuracy: float | None = None
    val_macro_f1: float | None = None
    val_mean_average_precision: float | None = None
    val_micro_f1: float | None = None
    skipped_steps: int = 0


Guess = TypedDict("Guess", {"class": str, "probability": float | None})


class Example(TypedDict):
    """One test image: a PNG data URI for each channel, and the prediction from each subset."""

    path: str
    label: str
    png: dict[str, str]
    predictions: dict[str, Guess]


class Examples(TypedDict):
    """``examples.json``."""

    channels: tuple[str, ...]
    images: tuple[Example, ...]


@dataclass(frozen=True, eq=False)
class Run:
    """One run's folder; its name differs from those of the other runs loaded with it.

    ``status`` is ``finished``, ``running``, ``stopped``, ``interrupted`` or ``failed``, or ``not finished`` if
    ``run.json`` says running, but no process on this machine holds the folder. ``record`` is ``run.json`` and
    ``environment`` is ``environment.json`` as they are. ``problems`` are sentences about files that cannot be read.
    """

    folder: Path
    name: str
    status: str
    record: dict[str, Any]
    epochs: tuple[Epoch, ...]
    test: Scores | None
    cost: Cost | None
    examples: Examples | None
    gaps: DedicatedGaps | None
    command: str
    config: str
    environment: dict[str, Any]
    problems: tuple[str, ...]
    main: str = ""

    def text(self, key: str) -> str:
        """A field of ``run.json`` as text, empty without one."""
        value = self.record.get(key)
        return "" if value is None else str(value)

    @property
    def measured(self) -> str:
        """The images that ``test`` is about: ``test``, or ``validation`` if the data have no test split."""
        return "validation" if evaluated_split(self.record) == "val" else "test"

    @property
    def trained_elsewhere(self) -> bool:
        """Whether the network was trained outside anychannel, so that there are test results alone."""
        return bool(self.record.get(OUTSIDE))

    @property
    def pixels(self) -> str:
        """Height and width of the images, as ``84 × 84``; empty if unknown."""
        try:
            return describe_size(self.record.get("image_size", ()), "×")
        except ValueError:
            return ""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        value = self.record.get("channels")
        return tuple(map(str, value)) if isinstance(value, list) else ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        value = self.record.get("classes")
        return tuple(map(str, value)) if isinstance(value, list) else ()

    @property
    def figures(self) -> dict[str, str]:
        """The names of the figures that stand for all others, the main one before the others."""
        return led_by(LABEL_FIGURES if self.record.get("several_labels") else FIGURES, self.main)

    @property
    def watched(self) -> str:
        """The one of ``figures`` that training watched to choose its best epoch; empty if unknown, or the loss."""
        monitor = self.text("monitor")
        return next((name for name in sorted(self.figures, key=len, reverse=True) if monitor.endswith(name)), "")

    @property
    def headline(self) -> str:
        """The name of the first: ``accuracy``, or ``mean average precision``, or another that leads."""
        return next(iter(self.figures.values()))

    @property
    def skipped_steps(self) -> int:
        """Number of training steps without an update, because gradients were not finite."""
        return sum(row.skipped_steps for row in self.epochs)

    @property
    def best(self) -> Epoch | None:
        """The epoch whose weights were kept; until the run ends, the one with the best ``headline`` in validation."""
        chosen = self.record.get("best_epoch")
        if chosen is None:
            name = f"val_{next(iter(self.figures))}"
            scored = [row for row in self.epochs if getattr(row, name) is not None]
            return max(scored, key=lambda row: getattr(row, name) or 0.0, default=None)
        return next((row for row in self.epochs if row.epoch == chosen), None)


def measured(runs: Sequence[Run]) -> str:
    """What the results of several runs are about: ``validation`` if no data have a test split, else ``test``."""
    return "validation" if runs and all(run.measured == "validation" for run in runs) else "test"


def led_by_watched(runs: Sequence[Run]) -> list[Run]:
    """The runs, with the figure that all of them watched in training as the main one; if they differ, as they are.

    A run that watched none of its figures follows the others, and folds with about even classes those with uneven ones,
    which watch balanced accuracy by default. Of several labels an image, only mean average precision
    has a standard error, so that it stays the main figure.
    """
    watched = {run.watched for run in runs if run.watched}
    if watched == {"accuracy", "balanced_accuracy"} and all(run.record.get("fold_by") for run in runs):
        watched = {"balanced_accuracy"}
    name = watched.pop() if len(watched) == 1 else ""
    if name not in FIGURES or any(run.record.get("several_labels") for run in runs):
        return list(runs)
    return [replace(run, main=name, test=run.test and run.test.led_by(name)) for run in runs]


def load_runs(folders: Sequence[Path]) -> list[Run]:
    """Read runs, in the order given; a folder named twice is read once."""
    unique = list({Path(folder).resolve(): Path(folder) for folder in folders}.values())
    if not unique:
        raise RunError("no run was given; name at least one folder that `anychannel train` wrote")
    records = [read_record(folder) for folder in unique]
    given = [str(record.get("name") or folder.resolve().name) for folder, record in zip(unique, records, strict=True)]
    names = distinct_names(given, unique)
    return [load_run(folder, record, name) for folder, record, name in zip(unique, records, names, strict=True)]


def read_record(folder: str | Path) -> dict[str, Any]:
    """Read ``run.json``; RunError if the folder has none, it is damaged, or a newer version wrote it."""
    path = Path(folder) / "run.json"
    if not path.is_file():
        what = "it has no run.json" if Path(folder).is_dir() else "there is no such folder"
        raise RunError(f"{folder} is not a run: {what}; give a folder that `anychannel train` wrote")
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is damaged: it is not JSON ({error})") from error
    if not isinstance(record, dict):
        raise RunError(f"{path} is damaged: it holds a {type(record).__name__}, expected an object")
    if record.get("format", 1) not in range(1, FORMAT + 1):
        raise RunError(
            f"{path} has format {record['format']!r}, and this version of anychannel reads formats up to {FORMAT}; "
            "update anychannel to use this run"
        )
    return record


def distinct_names(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Add as much of the folder's path to repeated names as makes them differ."""
    result = list(names)
    for depth in range(1, 1 + max(len(folder.resolve().parts) for folder in folders)):
        repeated = {name for name in result if result.count(name) > 1}
        for index, folder in enumerate(folders):
            if result[index] in repeated:
                result[index] = f"{names[index]} ({'/'.join(folder.resolve().parts[-depth:])})"
    return result


def load_run(folder: Path, record: dict[str, Any], name: str) -> Run:
    """Read the other files of a run."""
    problems: list[str] = []

    def read(path: str, kind: Any) -> Any:
        if not (folder / path).is_file():
            return None
        try:
            value = parse(dict[str, Any], json.loads((folder / path).read_text(encoding="utf-8")))
            return Scores.from_dict(value) if kind is Scores else parse(kind, value)
        except ValueError as error:
            problems.append(f"{path} is damaged and was left out ({error}).")
            return None

    status, epochs = read_status(folder, record), read_epochs(folder / "metrics.jsonl", problems)
    if not epochs and status == "finished" and not record.get(OUTSIDE):
        problems.append("metrics.jsonl is missing or has no epoch, so there are no curves.")
    return Run(
        folder=folder,
        name=name,
        status=status,
        record=record,
        epochs=epochs,
        test=read(f"evaluation/{evaluated_split(record)}.json", Scores),
        cost=read("cost.json", Cost),
        examples=only_pictures(read("examples.json", Examples)),
        gaps=read("gap.json", DedicatedGaps),
        command=read_text(folder / "command.txt"),
        config=read_text(folder / "config.toml"),
        environment=read("environment.json", dict[str, Any]) or {},
        problems=tuple(problems),
    )


def read_status(folder: Path, record: dict[str, Any]) -> str:
    """See ``Run.status``."""
    status = str(record.get("status", "unknown"))
    killed = status == "running" and (folder / LOCK).is_file() and is_free(folder / LOCK)
    return "not finished" if killed else status


def find_unfinished(folder: str | Path) -> str:
    """Say why a run's weights are not its final ones, as ``runs/a is still training``; empty if they are, or no run."""
    folder = Path(folder)
    status = read_status(folder, read_record(folder)) if (folder / "run.json").is_file() else "finished"
    return f"{folder} {UNFINISHED[status]}" if status in UNFINISHED else ""


def warn_unfinished(*folders: str | Path) -> None:
    """Warn about each run whose weights are not its final ones; folders of another kind are passed over."""
    for reason in filter(None, map(find_unfinished, folders)):
        warnings.warn(f"{reason}: the weights and results used are those of its best epoch so far", stacklevel=3)


def evaluated_split(record: dict[str, Any]) -> str:
    """The split that a run is evaluated on, from its ``run.json``: ``test``, or ``val`` if there is no test split."""
    return "val" if record.get("num_test") == 0 else "test"


def read_text(path: Path) -> str:
    """A file's text, empty without a file."""
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""


def read_epochs(path: Path, problems: list[str]) -> tuple[Epoch, ...]:
    """Read ``metrics.jsonl``, and count damaged lines as a problem."""
    rows: dict[int, Epoch] = {}
    damaged = 0
    for line in read_text(path).splitlines():
        try:
            row: Epoch = parse(Epoch, json.loads(line))
            rows[row.epoch] = row
        except ValueError:
            damaged += 1
    if damaged:
        problems.append(f"metrics.jsonl has {plural(damaged, 'damaged line')}, left out.")
    lost = [str(row.epoch) for row in rows.values() if row.train_loss is None]
    if lost:
        which = f"epoch{'s' * (len(lost) > 1)} {', '.join(lost[:5])}{', ...' * (len(lost) > 5)}"
        problems.append(f"There is no finite training loss for {which}, which the curves leave out.")
    return tuple(rows[epoch] for epoch in sorted(rows))


def only_pictures(examples: Examples | None) -> Examples | None:
    """Drop what is not a PNG data URI, so that a page loads nothing from elsewhere."""
    for image in examples["images"] if examples else ():
        image["png"] = {name: uri for name, uri in image["png"].items() if uri.startswith("data:image/png;base64,")}
    return examples
