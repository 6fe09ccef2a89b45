"""What an evaluation found, and how it is kept in a run's folder."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from anychannel.evaluation.metrics import compute_metrics
from anychannel.utils.files import write_atomically, write_json

FOLDER = "evaluation"
PRESENT, DIGESTS = ",present", ",digests"
"""No subset's key begins with a comma."""
OWN_ARRAYS = ("paths", "labels", "classes", PRESENT, DIGESTS)
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile, zlib.error)
"""What reading a damaged record or archive raises."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A classifier's results on one split, for each channel subset.

    Args:
        split: name of the split.
        classes: names of the K classes.
        full: key of the full channel set (``"R,G,B"``).
        subsets: for each subset's key (``"R,G"``) what ``compute_metrics`` gives, or ``{"refused": reason}`` where the
            model does not take the subset; with ``n`` 0 where no image has it.
        sampled: whether the subsets are a sample of all.
        note: a sentence about the sample, empty where there is none.
        paths: where each of the N images comes from.
        labels: (N,) true classes.
        probabilities: float32 for each subset that was not refused: (n, K) of the n images that have its channels,
            which are all N unless ``present`` says otherwise.
        present: (N, C) booleans, which channels of ``full`` each image has; None where no image lacks any that were
            evaluated.
        digests: of what each image was read from, see ``Split``; None where that is not known.
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

    def rows(self, subset: str) -> np.ndarray:
        """Positions of the images on which a subset was measured, ascending."""
        if self.present is None:
            return np.arange(len(self.labels))
        places = [self.full.split(",").index(name) for name in subset.split(",")]
        return np.flatnonzero(self.present[:, places].all(axis=1))

    @property
    def gap(self) -> dict[str, dict[str, float]]:
        """For each subset but the full one: its accuracy and macro F1 minus the full set's, as fractions.

        Negative where the subset does worse. Empty where the full set was not evaluated or was refused. Both are those
        on the images that have every channel, so that a gap is about channels and not about images.
        """
        whole = self.subsets.get(self.full)
        if whole is None or "refused" in whole:
            return {}
        return {
            key: {
                "accuracy": figures["accuracy"] - whole["accuracy"],
                "macro_f1": figures["macro"]["f1"] - whole["macro"]["f1"],
            }
            for key, figures in ((key, self.on_whole_images(key)) for key in self.subsets if key != self.full)
            if "refused" not in figures
        }

    def on_whole_images(self, subset: str) -> dict[str, Any]:
        """A subset's figures on the images that have every channel of the full set."""
        if self.present is None or subset not in self.probabilities:
            return self.subsets[subset]
        whole = self.rows(self.full)
        table = self.probabilities[subset][np.isin(self.rows(subset), whole)]
        return compute_metrics(self.labels[whole], table, self.classes)

    def correct(self, subset: str) -> np.ndarray:
        """Which images are classified correctly with only the channels of ``subset``: (n,) booleans, as ``rows``.

        Raises:
            ValueError: there are no predictions for it; the message lists the subsets that there are.
        """
        if subset not in self.probabilities:
            raise ValueError(
                f"no predictions for the subset {subset!r}; this evaluation has {' / '.join(self.probabilities)}"
            )
        answers: np.ndarray = self.probabilities[subset].argmax(axis=1) == self.labels[self.rows(subset)]
        return answers

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: all but the single images' results."""
        return {
            "split": self.split,
            "n": len(self.labels),
            "classes": list(self.classes),
            "full": self.full,
            "subsets": self.subsets,
            "gap": self.gap,
            "sampled": self.sampled,
            "note": self.note,
        }

    def save(self, run_folder: str | Path) -> None:
        """Write ``evaluation/SPLIT.json`` and ``evaluation/SPLIT_predictions.npz``, each whole or not at all.

        The archive holds ``paths``, ``labels``, ``classes``, the probabilities under each subset's key, where images
        lack channels ``,present``, and where they are known ``,digests``. (Should a channel itself be called ``paths``,
        its key there gets a comma at its end.)
        """
        record, archive = files_of(run_folder, self.split)
        arrays: dict[str, np.ndarray] = {
            "paths": np.array(self.paths, dtype=np.str_),
            "labels": self.labels,
            "classes": np.array(self.classes, dtype=np.str_),
        }
        if self.present is not None:
            arrays[PRESENT] = self.present
        if self.digests is not None:
            arrays[DIGESTS] = np.array(self.digests, dtype=np.str_)
        arrays |= {
            key + "," * (key in OWN_ARRAYS): table.astype(np.float32) for key, table in self.probabilities.items()
        }

        write_atomically(archive, lambda temporary: write_npz(temporary, arrays))
        write_json(record, self.to_dict())


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """As ``np.savez_compressed``, but any name will do (that takes no array called ``file``), and no time is kept."""
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            entry = ZipInfo(f"{name}.npy")
            entry.compress_type = ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def files_of(run_folder: str | Path, split: str) -> tuple[Path, Path]:
    """Where a run keeps an evaluation: its record and its predictions."""
    folder = Path(run_folder) / FOLDER
    return folder / f"{split}.json", folder / f"{split}_predictions.npz"


def load_evaluation(run_folder: str | Path, split: str = "test") -> Evaluation:
    """Read back what ``Evaluation.save`` wrote.

    Raises:
        FileNotFoundError: the run holds no such evaluation.
        ValueError: a file of it is damaged; the message names it.
    """
    record, archive = files_of(run_folder, split)
    for file in (record, archive):
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing; evaluate the run on its {split} split first")
    reading = record
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        told = {key: values[key] for key in ("split", "full", "subsets", "sampled", "note")}
        classes = tuple(values["classes"])
        reading = archive
        with archive.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            probabilities = {key.rstrip(","): arrays[key] for key in arrays.files if key not in OWN_ARRAYS}
            paths, labels = tuple(arrays["paths"].tolist()), arrays["labels"]
            present = arrays[PRESENT] if PRESENT in arrays.files else None
            digests = tuple(arrays[DIGESTS].tolist()) if DIGESTS in arrays.files else None
    except DAMAGED as error:
        raise ValueError(
            f"{reading} is damaged; write it anew: anychannel evaluate {run_folder} --split {split} --save"
        ) from error
    return Evaluation(
        **told,
        classes=classes,
        paths=paths,
        labels=labels,
        probabilities=probabilities,
        present=present,
        digests=digests,
    )
