"""What an evaluation measured, and its two files in a run: the figures as JSON, each image's predictions as npz."""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict
from zipfile import BadZipFile

import numpy as np

from anychannel.channels import ChannelError, ChannelSet
from anychannel.results.metrics import (
    FIGURES,
    LABEL_FIGURES,
    balanced_accuracy,
    compute_metrics,
    led_by,
    main_figures,
    standard_error,
)
from anychannel.results.parse import parse
from anychannel.results.shapley import Shapley, rank_channels
from anychannel.utils.files import write_atomically, write_json

PRESENT, DIGESTS = ",present", ",digests"
"""No subset's key begins with a comma."""
RESERVED_ARRAYS = ("paths", "labels", "classes", PRESENT, DIGESTS)
LARGE, MOST_RATIO = 2**28, 100
"""Predictions that unfold to more bytes than ``LARGE`` and to more times their size are refused."""
ARGUMENTS = ("file", "allow_pickle")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A classifier's results on one split, for each channel subset.

    Args:
        split: name of the split.
        classes: names of the K classes.
        full: key of the full channel set (``"R,G,B"``).
        subsets: for each subset's key (``"R,G"``) the figures of ``compute_metrics``, or ``{"refused": reason}`` if
            the model does not accept the subset; with ``n`` 0 if no image has it. ``name``, of a subset
            of whole groups, is how it is shown (``"camera+lidar"``).
        sampled: whether the subsets are a sample of all subsets.
        note: a sentence about the sample; empty without one.
        paths: where each of the N images comes from.
        labels: (N,) true classes, or (N, L) booleans if images may have several labels.
        probabilities: for each subset that was not refused, float32 of shape (n, K) for the n images that have its
            channels. These are all N images unless ``present`` is given.
        present: (N, C) booleans, which channels of ``full`` each image has; None if no image lacks one.
        digests: hashes of the images' files, see ``Split``; None if unknown.
        groups: channels by the name of their group; empty if they have none.
        thresholds: of several labels an image, the probability from which an image is given each; None of one class.
    """

    split: str
    classes: tuple[str, ...]
    full: str
    subsets: dict[str, dict[str, Any]]
    sampled: bool
    note: str
    paths: tuple[str, ...]
    labels: np.ndarray
    probabilities: dict[str, np.ndarray]
    present: np.ndarray | None = None
    digests: tuple[str, ...] | None = None
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    thresholds: tuple[float, ...] | None = None

    @cached_property
    def channels(self) -> ChannelSet:
        """The channels of ``full``, with their groups."""
        return ChannelSet(tuple(self.full.split(",")), groups=self.groups)

    def own_key(self, subset: str) -> str:
        """The key of a subset that is given by its channels in any order, or by its groups; unchanged if unknown."""
        try:
            return self.channels.key(self.channels.subset(subset))
        except ChannelError:
            return subset

    def rows(self, subset: str) -> np.ndarray:
        """Positions of the images on which a subset was measured, ascending."""
        if self.present is None:
            return np.arange(len(self.labels))
        positions = [self.full.split(",").index(name) for name in subset.split(",")]
        return np.flatnonzero(self.present[:, positions].all(axis=1))

    @property
    def gap(self) -> dict[str, dict[str, float]]:
        """The ``main_figures`` of each other subset minus those of the full set, as fractions.

        Negative if the subset does worse. Both are measured on the images that have every channel, so that a gap is
        about channels and not about images. Empty if the full set was not evaluated or was refused.
        """
        whole = self.subsets.get(self.full)
        if whole is None or "refused" in whole:
            return {}
        gaps = {}
        for key in self.subsets:
            figures = self.on_whole_images(key)
            if key != self.full and "refused" not in figures:
                of_all = main_figures(whole)
                gaps[key] = {name: value - of_all[name] for name, value in main_figures(figures).items()}
        return gaps

    @property
    def shapley(self) -> dict[str, dict[str, Any]]:
        """Which channels and groups matter: ``rank_channels`` on the images that have every evaluated channel.

        Empty if too few subsets were evaluated, or no image has every channel.
        """
        names = {name for key in self.probabilities for name in key.split(",")}
        channels = self.channels.select([name for name in self.channels.names if name in names]) if names else None
        if (
            channels is None
            or len(channels.units) < min(2, len(self.channels.units))
            or (whole := channels.key(channels.full)) not in self.probabilities
        ):
            return {}
        found = {key: self.on_whole_images(key, whole) for key in self.probabilities}
        supports = [each["support"] for each in found[whole]["per_class"]]
        images = None if self.thresholds is None else found[whole]["n"]
        return rank_channels(channels, {key: main_figures(one) for key, one in found.items()}, supports, images)

    def on_whole_images(self, subset: str, whole: str | None = None) -> dict[str, Any]:
        """A subset's figures on the images that have every channel of ``whole``, by default of the full set."""
        if self.present is None or subset not in self.probabilities:
            return self.subsets[subset]
        rows = self.rows(whole or self.full)
        table = self.probabilities[subset][np.isin(self.rows(subset), rows)]
        return compute_metrics(self.labels[rows], table, self.classes, self.thresholds)

    def correct(self, subset: str) -> np.ndarray:
        """Which images are classified correctly from the channels of ``subset``: (n,) booleans, in order of ``rows``.

        Of several labels an image, all have to be right. Raises ValueError if there are no predictions for it.
        """
        if subset not in self.probabilities:
            raise ValueError(
                f"no predictions for the subset {subset!r}; this evaluation has {' / '.join(self.probabilities)}"
            )
        table, labels = self.probabilities[subset], self.labels[self.rows(subset)]
        several = self.thresholds is not None
        answers: np.ndarray = (
            ((table >= np.array(self.thresholds)) == labels).all(axis=1) if several else table.argmax(axis=1) == labels
        )
        return answers

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the single images' predictions."""
        return {
            "split": self.split,
            "n": len(self.labels),
            "classes": list(self.classes),
            "full": self.full,
            "subsets": self.subsets,
            "gap": self.gap,
            "shapley": self.shapley,
            **({} if self.thresholds is None else {"thresholds": list(self.thresholds)}),
            **({"groups": {group: list(names) for group, names in self.groups.items()}} if self.groups else {}),
            "sampled": self.sampled,
            "note": self.note,
        }

    def save(self, run_folder: str | Path) -> None:
        """Write ``evaluation/SPLIT.json`` and ``evaluation/SPLIT_predictions.npz``, each atomically.

        The archive holds ``paths``, ``labels``, ``classes``, the probabilities under each subset's key and, if known,
        ``,present`` and ``,digests``. The key of a channel that is called like one of these arrays, or like an
        argument of ``np.savez``, ends in a comma.
        """
        record, archive = files_of(run_folder, self.split)
        arrays = {"paths": np.array(self.paths, np.str_), "labels": self.labels}
        arrays["classes"] = np.array(self.classes, np.str_)
        if self.present is not None:
            arrays[PRESENT] = self.present
        if self.digests is not None:
            arrays[DIGESTS] = np.array(self.digests, np.str_)
        for key, table in self.probabilities.items():
            arrays[key + "," * (key in (*RESERVED_ARRAYS, *ARGUMENTS))] = table.astype(np.float32)
        write_atomically(archive, lambda temporary: np.savez_compressed(temporary, **arrays))  # type: ignore[arg-type]
        write_json(record, self.to_dict())


def without_test(record: Path) -> bool:
    """Whether a ``run.json`` says that the data have no test split."""
    return record.is_file() and json.loads(record.read_text(encoding="utf-8")).get("num_test") == 0


def files_of(run_folder: str | Path, split: str) -> tuple[Path, Path]:
    """The record and the predictions of an evaluation in a run."""
    folder = Path(run_folder) / "evaluation"
    return folder / f"{split}.json", folder / f"{split}_predictions.npz"


def load_evaluation(run_folder: str | Path, split: str | None = None) -> Evaluation:
    """Read what ``Evaluation.save`` wrote; FileNotFoundError without it, ValueError if a file is damaged.

    ``split=None`` is ``test``, or ``val`` for a run whose data have no test split.
    """
    if split is None:
        empty = not files_of(run_folder, "test")[0].is_file() and files_of(run_folder, "val")[0].is_file()
        split = "val" if empty and without_test(Path(run_folder) / "run.json") else "test"
    record, archive = files_of(run_folder, split)
    for file in (record, archive):
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing; evaluate the run on its {split} split first")
    reading = record
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        figures = {key: values[key] for key in ("split", "full", "subsets", "sampled", "note")}
        classes = tuple(values["classes"])
        reading = archive
        with archive.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            if sum(one.file_size for one in arrays.zip.infolist()) > max(LARGE, MOST_RATIO * archive.stat().st_size):
                raise ValueError("it unfolds to far more than it holds")
            return Evaluation(
                **figures,
                classes=classes,
                paths=tuple(arrays["paths"].tolist()),
                labels=arrays["labels"],
                probabilities={key.rstrip(","): arrays[key] for key in arrays.files if key not in RESERVED_ARRAYS},
                present=arrays[PRESENT] if PRESENT in arrays.files else None,
                digests=tuple(arrays[DIGESTS].tolist()) if DIGESTS in arrays.files else None,
                groups={group: tuple(names) for group, names in values.get("groups", {}).items()},
                thresholds=None if values.get("thresholds") is None else tuple(map(float, values["thresholds"])),
            )
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError, BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{reading} is damaged; write it anew: anychannel evaluate {run_folder} --split {split} --save"
        ) from error


Rates = TypedDict("Rates", {"class": str, "precision": float, "recall": float, "f1": float, "support": int})


class ClassScore(Rates, total=False):
    """The rates of one class or label and its number of images; the rest of several labels an image alone."""

    average_precision: float
    threshold: float


@dataclass(frozen=True)
class SubsetResult:
    """The figures of one channel subset (``key`` as ``"R,G"``), see ``compute_metrics``.

    ``refused`` says why the network does not accept the subset; the score is then NaN. ``name`` is that of a
    subset of whole groups, ``camera+lidar``; else empty. ``main`` is the figure that ``score`` gives. ``ece`` is the
    calibration error with the ``temperature``, and ``ece_before`` without.
    """

    key: str
    n: int
    macro: dict[str, float]
    per_class: tuple[ClassScore, ...]
    accuracy: float = math.nan
    confusion: tuple[tuple[int, ...], ...] = ()
    refused: str | None = None
    name: str = ""
    ece: float | None = None
    ece_before: float | None = None
    temperature: float | None = None
    mean_average_precision: float = math.nan
    micro_f1: float = math.nan
    exact_match: float = math.nan
    bootstrap_error: float | None = None
    main: str = ""

    @property
    def label(self) -> str:
        """How the subset is shown: its groups, or its channels."""
        return self.name or self.key

    @property
    def has_several(self) -> bool:
        """Whether images may have several labels."""
        return not math.isnan(self.mean_average_precision)

    @property
    def score(self) -> float:
        """The ``main`` figure: by default accuracy or, if images may have several labels, mean average precision."""
        value: float = getattr(self, self.main or ("mean_average_precision" if self.has_several else "accuracy"))
        return value

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have images; NaN if the subset is refused."""
        return balanced_accuracy({"per_class": self.per_class})

    @property
    def macro_f1(self) -> float:
        """Mean F1 of all classes; NaN if the subset is refused."""
        return self.macro.get("f1", math.nan)

    @property
    def standard_error(self) -> float:
        """Standard error of the score over ``n`` images, as a fraction; see ``metrics.standard_error``.

        That of mean average precision is ``bootstrap_error``, or, if that is 0, as of an accuracy.
        """
        if not self.n or self.bootstrap_error:
            return self.bootstrap_error if self.n and self.bootstrap_error else math.nan
        supports = [each["support"] for each in self.per_class]
        recalls = [each["recall"] for each in self.per_class]
        return standard_error(self.main, self.score, self.n, supports, recalls, self.confusion)


REFUSED: dict[str, Any] = {"n": 0, "macro": {}, "per_class": []}


@dataclass(frozen=True)
class Scores:
    """``Evaluation.to_dict`` read back from JSON with types: an evaluation without the single images' predictions.

    Subsets that no image has are left out; ``note`` names them. The fields are those of ``Evaluation``.
    """

    n: int
    full: str
    subsets: dict[str, SubsetResult]
    sampled: bool
    note: str
    gap: dict[str, dict[str, float]]
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    shapley: dict[str, Shapley] = field(default_factory=dict)
    thresholds: tuple[float, ...] | None = None
    main: str = ""

    def led_by(self, name: str) -> Scores:
        """The same results with another main figure; the first of ``figures`` if ``name`` is empty."""
        subsets = {key: replace(result, main=name) for key, result in self.subsets.items()}
        return replace(self, main=name, subsets=subsets)

    @property
    def figures(self) -> dict[str, str]:
        """The names of the figures that stand for all others, the main one before the others."""
        return led_by(FIGURES if self.thresholds is None else LABEL_FIGURES, self.main)

    @property
    def headline(self) -> str:
        """The name of the first: ``accuracy``, or ``mean average precision``, or another that leads."""
        return next(iter(self.figures.values()))

    @property
    def score_gaps(self) -> dict[str, float]:
        """That figure of each accepted subset minus the full set's, as a fraction."""
        name = next(iter(self.figures))
        return {key: self.gap[key][name] for key in self.others if name in self.gap.get(key, {})}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Scores:
        """Read ``evaluation/SPLIT.json``; ValueError if it holds something else."""
        subsets = {
            key: {"key": key} | (REFUSED if "refused" in figures else {}) | figures
            for key, figures in parse(dict[str, dict[str, Any]], value.get("subsets")).items()
            if figures.get("n") != 0
        }
        scores: Scores = parse(cls, value | {"subsets": subsets})
        for key, result in scores.answered.items():
            if not (result.n > 0 and 0 <= result.score <= 1):
                raise ValueError(f"subsets: {key}: accuracy {result.score} over {result.n} images")
        return scores

    @property
    def counted(self) -> str:
        """What the size of a subset counts: ``group`` if all subsets consist of whole groups, else ``channel``."""
        return "group" if self.groups and all(result.name for result in self.subsets.values()) else "channel"

    def size(self, key: str) -> int:
        """Number of channels, or groups, of a subset."""
        names = set(key.split(","))
        whole = [names.intersection(members) for members in self.groups.values() if names.issuperset(members)]
        return len(names) if self.counted == "channel" else len(names) - sum(map(len, whole)) + len(whole)

    @property
    def answered(self) -> dict[str, SubsetResult]:
        """The subsets that the network accepts."""
        return {key: result for key, result in self.subsets.items() if result.refused is None}

    @property
    def refused(self) -> dict[str, str]:
        """The reasons of the subsets that it refuses."""
        return {key: result.refused for key, result in self.subsets.items() if result.refused is not None}

    @property
    def partial(self) -> bool:
        """Whether images lack channels, so that subsets are measured on different images."""
        return any(result.n != self.n for result in self.answered.values())

    @property
    def whole(self) -> SubsetResult | None:
        """The full set's result; None if it was not evaluated or was refused."""
        return self.answered.get(self.full)

    @property
    def others(self) -> dict[str, SubsetResult]:
        """The accepted subsets other than the full one."""
        return {key: result for key, result in self.answered.items() if key != self.full}
