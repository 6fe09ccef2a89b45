"""Run folders, read into typed records; a missing or damaged piece becomes a sentence, never an exception."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from anychannel.report.records import (
    ClassScore,
    Cost,
    Epoch,
    Gap,
    GapRow,
    Latency,
    Run,
    SubsetResult,
    TestResult,
    number,
)
from anychannel.utils.files import LOCK
from anychannel.utils.sizes import height_width


class ReportError(ValueError):
    """A folder cannot be reported on; the message names it and says what was expected."""


def load_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders, in the order given; one named twice is read once.

    Raises:
        ReportError: none was given, or one is not a run.
    """
    unique = list({Path(folder).resolve(): Path(folder) for folder in folders}.values())
    if not unique:
        raise ReportError("no run was given; name at least one folder that `anychannel train` wrote")
    records = [read_record(folder) for folder in unique]
    names = distinct_names(
        [str(record.get("name") or folder.resolve().name) for folder, record in zip(unique, records, strict=True)],
        unique,
    )
    return [load_run(folder, record, name) for folder, record, name in zip(unique, records, names, strict=True)]


def read_record(folder: Path) -> dict[str, Any]:
    """``run.json``.

    Raises:
        ReportError: the folder has none, or it is not a JSON object.
    """
    path = folder / "run.json"
    if not path.is_file():
        what = "it has no run.json" if folder.is_dir() else "there is no such folder"
        raise ReportError(f"{folder} is not a run: {what}; give a folder that `anychannel train` wrote")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{folder} is not a run: its run.json is not JSON ({error})") from error
    if not isinstance(record, dict):
        raise ReportError(f"{folder} is not a run: its run.json holds a {type(record).__name__}, expected an object")
    return record


def distinct_names(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Names as they are where they differ, else with as much of the folder as tells them apart."""
    result = list(names)
    for depth in range(1, 1 + max(len(folder.resolve().parts) for folder in folders)):
        doubled = {name for name in result if result.count(name) > 1}
        if not doubled:
            break
        tails = ["/".join(folder.resolve().parts[-depth:]) for folder in folders]
        result = [
            f"{name} ({tail})" if shown in doubled else shown
            for name, tail, shown in zip(names, tails, result, strict=True)
        ]
    return result


def load_run(folder: Path, record: dict[str, Any], name: str) -> Run:
    """Everything a run's folder holds."""
    problems: list[str] = []

    def read(path: str) -> dict[str, Any] | None:
        if not (folder / path).is_file():
            return None
        try:
            value = json.loads((folder / path).read_text(encoding="utf-8"))
        except ValueError:
            value = None
        if not isinstance(value, dict):
            problems.append(f"{path} is damaged and was left out.")
            return None
        return value

    def parsed(path: str, parse: Any) -> Any:
        value = read(path)
        try:
            return None if value is None else parse(value)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            problems.append(f"{path} is damaged and was left out ({type(error).__name__}: {error}).")
            return None

    full = ",".join(str(channel) for channel in record.get("channels") or ())
    status = str(record.get("status", "unknown"))
    if status == "running" and is_free(folder / LOCK):
        status = "not finished"
    return Run(
        folder=folder,
        name=name,
        status=status,
        record=record,
        epochs=read_epochs(folder / "metrics.jsonl", problems),
        test=parsed("evaluation/test.json", parse_test),
        cost=parsed("cost.json", lambda value: parse_cost(value, full)),
        examples=parsed("examples.json", check_examples),
        gaps=parsed("gap.json", parse_gaps) or (),
        command=read_text(folder / "command.txt"),
        config=read_text(folder / "config.toml"),
        environment=read("environment.json") or {},
        problems=tuple(problems),
    )


def is_free(lock: Path) -> bool:
    """Whether a run's lock is there and no process on this machine holds it."""
    if not lock.is_file():
        return False
    held = FileLock(lock)
    try:
        with held.acquire(timeout=0):
            return True
    except (Timeout, OSError):
        return False


def read_text(path: Path) -> str:
    """A file's text, empty where there is none."""
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""


def read_epochs(path: Path, problems: list[str]) -> tuple[Epoch, ...]:
    """Rows of ``metrics.jsonl``; lines that are not rows are counted as a problem."""
    rows: dict[int, Epoch] = {}
    bad = 0
    for line in read_text(path).splitlines():
        try:
            row = json.loads(line)
            rows[int(row["epoch"])] = Epoch(
                epoch=int(row["epoch"]),
                train_accuracy=number(row.get("train_accuracy")),
                train_loss=number(row.get("train_loss")),
                val_accuracy=number(row.get("val_accuracy")),
                val_loss=number(row.get("val_loss")),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            bad += 1
    if bad:
        problems.append(f"metrics.jsonl has {bad} damaged line{'s' if bad > 1 else ''}, left out.")
    return tuple(rows[epoch] for epoch in sorted(rows))


def parse_test(value: dict[str, Any]) -> TestResult:
    """``evaluation/test.json`` as a record; subsets that no image has are left out, and its note names them."""
    subsets = {key: parse_subset(key, figures) for key, figures in value["subsets"].items() if figures.get("n") != 0}
    return TestResult(
        n=int(value["n"]),
        full=str(value["full"]),
        subsets=subsets,
        sampled=bool(value.get("sampled")),
        note=str(value.get("note") or ""),
        gaps={key: float(gap["accuracy"]) for key, gap in (value.get("gap") or {}).items()},
    )


def parse_subset(key: str, figures: dict[str, Any]) -> SubsetResult:
    """One subset's figures, or its refusal."""
    size = key.count(",") + 1
    if "refused" in figures:
        return SubsetResult(key, size, str(figures["refused"]), 0, math.nan, None, None, (math.nan,) * 3, (), ())
    macro = figures["macro"]
    return SubsetResult(
        key=key,
        size=size,
        refused=None,
        n=int(figures["n"]),
        accuracy=float(figures["accuracy"]),
        loss=number(figures.get("loss")),
        ece=number(figures.get("ece")),
        macro=(float(macro["precision"]), float(macro["recall"]), float(macro["f1"])),
        per_class=tuple(
            ClassScore(
                str(row["class"]), float(row["precision"]), float(row["recall"]), float(row["f1"]), int(row["support"])
            )
            for row in figures["per_class"]
        ),
        confusion=tuple(tuple(int(count) for count in row) for row in figures["confusion"]),
    )


def parse_cost(value: dict[str, Any], full: str) -> Cost:
    """``cost.json`` as a record of the full set's figures, or of the largest counted subset's where it has none."""
    counted = {key: row for key, row in value["subsets"].items() if "refused" not in row}
    row = counted.get(full) or (max(counted.items(), key=lambda item: item[0].count(","))[1] if counted else {})
    latency = {
        str(batch): Latency(float(times["median"]), number(times.get("p10")), number(times.get("p90")))
        for batch, times in (row.get("latency_ms") or {}).items()
    }
    size = value.get("image_size")
    return Cost(
        batch_size=int(value["batch_size"]),
        image_size=None if size is None else height_width(size),
        gflops=number(row.get("gflops_calflops")),
        gflops_with_attention=number(row.get("gflops_with_attention")),
        memory_mb=number(value.get("peak_memory_mb")),
        latency=latency,
        device=str(value.get("device") or ""),
        note=str(value.get("note") or ""),
    )


def parse_gaps(value: dict[str, Any]) -> tuple[Gap, ...]:
    """``gap.json`` as records, one a budget."""
    if not all(found["rows"] for found in value["budgets"].values()):
        raise ValueError("a comparison has no rows")
    return tuple(
        Gap(
            budget=str(budget),
            names=tuple(str(name) for name in value["runs"]),
            seeds=tuple(int(seed) for seed in value["seeds"]),
            network=str(value["network"]),
            evaluated=int(value["subsets_evaluated"]),
            adaptive_epochs=int(found["adaptive_epochs"]),
            dedicated_epochs=int(found["dedicated_epochs"]),
            adaptive_run=tuple(int(count) for count in found.get("adaptive_epochs_run", ())),
            dedicated_run=tuple(int(count) for count in found.get("dedicated_epochs_run", ())),
            networks=int(found["networks"]),
            n=int(found["n"]),
            confidence=float(found["confidence"]),
            rows=tuple(
                GapRow(
                    subset=str(row["subset"]),
                    adaptive=tuple(float(figure) for figure in row["adaptive"]),
                    dedicated=tuple(float(figure) for figure in row["dedicated"]),
                    difference=float(row["difference"]),
                    low=float(row["low"]),
                    high=float(row["high"]),
                    p_values=tuple(float(p) for p in row["p_values"]),
                    n=int(row.get("n", found["n"])),
                )
                for row in found["rows"]
            ),
        )
        for budget, found in value["budgets"].items()
    )


def check_examples(value: dict[str, Any]) -> dict[str, Any]:
    """``examples.json`` with only PNG data URIs as pictures."""
    channels = [str(name) for name in value["channels"]]
    images = []
    for image in value["images"]:
        pictures = {str(name): str(uri) for name, uri in image["png"].items()}
        images.append(
            {
                "path": str(image["path"]),
                "label": str(image["label"]),
                "png": {name: uri for name, uri in pictures.items() if uri.startswith("data:image/png;base64,")},
                "predictions": {
                    str(key): (str(guess["class"]), float(guess["probability"]))
                    for key, guess in image["predictions"].items()
                },
            }
        )
    return {"channels": channels, "images": images}
