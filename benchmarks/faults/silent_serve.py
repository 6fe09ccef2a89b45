"""Answers that would mislead without a word: a network that does better without channels, and an unlike image."""

from __future__ import annotations

import contextlib
import io
import json
from functools import cache, partial
from itertools import combinations
from pathlib import Path

import numpy as np
import tifffile
from tests.helpers.run_folders import all_subsets, make_run, set_accuracies

from anychannel.cli.common import warn_of_fault
from anychannel.data import load_dataset
from anychannel.report import write_report
from anychannel.report.verdict import judge
from anychannel.results.run import load_runs
from anychannel.runs.predict import Predictor, predict_files
from anychannel.serve.service import Service
from benchmarks.faults.case import Case
from benchmarks.faults.service import photo, run

FAULT = "Where a subset beats the full set, report and commands say that something is wrong or unfinished."
LUCK = "What luck explains is not called a fault."
UNLIKE = "An image unlike the training images is remarked upon at the prediction, and no expected accuracy is shown."
ALIKE = "Images like the training images get no such remark."

WRONG = "Something is wrong or unfinished in "
SUBSETS = [",".join(chosen) for size in (1, 2, 3) for chosen in combinations("RGB", size)]


def judge_run(full: float, best: float, n: int, epochs: int, wrong: bool, folder: Path) -> None:
    """Headline of the report, its page, and what ``evaluate`` and ``train`` print."""
    home = set_accuracies(make_run(folder / "net", epochs=epochs), {"R,G,B": full, "R,G": best, "R": 0.9 * full}, n)
    (verdict,), _ = judge(load_runs([home]))
    assert verdict.headline.startswith(WRONG) is wrong, verdict.headline
    said = " ".join([verdict.headline, *verdict.sentences])
    assert "too short" in said or not wrong
    assert (WRONG in write_report([home], folder / "page.html").read_text()) is wrong
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        warn_of_fault(home, json.loads((home / "evaluation" / "test.json").read_text()))
    assert (WRONG in printed.getvalue()) is wrong


def compare_runs(folder: Path) -> None:
    """A faulty run is named in the headline and wins no comparison."""
    values = {"faulty": (0.54, 0.82), "plain": (0.8, 0.4), "adaptive": (0.7, 0.6)}
    homes = [set_accuracies(make_run(folder / k), {"R,G,B": v[0], "R": v[1]}, 500) for k, v in values.items()]
    (verdict,), _ = judge(load_runs(homes))
    assert verdict.headline.startswith(f"{WRONG}faulty"), verdict.headline
    assert any(sentence.startswith("adaptive keeps most") for sentence in verdict.sentences)
    assert not any(sentence.startswith("faulty keep") for sentence in verdict.sentences)


def judge_luck(seed: int, folder: Path) -> None:
    """Of 127 equally good subsets on the same 200 images the best is not called better."""
    random, keys = np.random.default_rng(seed), all_subsets(tuple("ABCDEFG"))
    chance = np.where(random.random(200) < 0.5, 0.95, 0.25)
    accuracies = (random.random((len(keys), 200)) < chance).mean(axis=1).tolist()
    home = make_run(folder / "net", channels=tuple("ABCDEFG"))
    set_accuracies(home, dict(zip(keys, accuracies, strict=True)), 200)
    (verdict,), _ = judge(load_runs([home]))
    assert not verdict.headline.startswith(WRONG)


@cache
def service() -> Service:
    return Service(run())


def foreign(kind: str) -> np.ndarray:
    """An image (3, 20, 30) of another kind than the training images, which are half bright, half dark."""
    random = np.random.default_rng(0)
    bands = load_dataset("bands:3", size=20).test.images[0]
    return {
        "noise": random.integers(0, 256, (3, 20, 30), dtype=np.uint8),
        "flat": np.full((3, 20, 30), 119, np.uint8),
        "stripes": np.broadcast_to(np.array([0, 239] * 15, np.uint8), (3, 20, 30)).copy(),
        "bands": np.asarray(bands),
        "16 bits": random.integers(0, 65536, (3, 20, 30)).astype(np.uint16),
    }[kind]


def answer_foreign(kind: str, folder: Path) -> None:
    """In every subset of channels, in JSON, and in ``anychannel predict``."""
    path = folder / "image.tif"
    tifffile.imwrite(path, foreign(kind), photometric="minisblack", metadata={"axes": "CYX"})
    opened = service().open(path.read_bytes(), path.name)
    for subset in SUBSETS:
        answer = service().predict(opened, subset, 5)
        assert answer.unlike is not None, subset
        assert answer.expected is None, subset
    assert predict_files(run(), [path])[0]["unlike"]


def answer_one_channel(channel: str, folder: Path) -> None:
    """One channel of noise: remarked upon where it is on, and only there."""
    image = np.array(service().open(photo(), "a.png").input.pixels)
    image["RGB".index(channel)] = np.random.default_rng(0).integers(0, 256, image.shape[1:])
    path = folder / "image.tif"
    tifffile.imwrite(path, image, photometric="minisblack", metadata={"axes": "CYX"})
    opened = service().open(path.read_bytes(), path.name)
    for subset in SUBSETS:
        answer = service().predict(opened, subset, 5)
        assert (answer.unlike is not None) is (channel in subset), subset


def answer_own(split: str, _: Path) -> None:
    """Of the run's own images, at most one in twenty is remarked upon."""
    predictor = Predictor(run())
    files = sorted((run().parent / "photos" / split).rglob("*.png"))
    images = [predictor.open(file) for file in files]
    for subset in SUBSETS:
        unlike = sum(predictor.predict(image, subset).unlike is not None for image in images)
        assert unlike <= max(1, len(images) // 20), (subset, unlike, len(images))


def cases() -> list[Case]:
    wrong = [
        (0.544, 0.82, 500),
        (0.33, 1.0, 30),
        (0.55, 0.71, 500),
        (0.55, 0.56, 40_000),
        (0.9, 0.99, 200),
        (0, 0.3, 50),
    ]
    lucky = [(0.55, 0.56, 500), (0.55, 0.71, 20), (0.55, 0.55, 500), (0.8, 0.7, 500), (1.0, 1.0, 100), (0.9, 0.95, 40)]
    return [
        *(
            Case(
                said,
                f"{full}, {best} of {n}, {epochs} epochs",
                partial(judge_run, full, best, n, epochs, fault),
                True,
            )
            for said, fault, table in ((FAULT, True, wrong), (LUCK, False, lucky))
            for full, best, n in table
            for epochs in (2, 30)
        ),
        Case(FAULT, "among other runs", compare_runs, short=True),
        *(Case(LUCK, f"127 subsets {seed}", partial(judge_luck, seed), fuzzed=True) for seed in range(20)),
        *(
            Case(UNLIKE, kind, partial(answer_foreign, kind), short=kind == "noise")
            for kind in ("noise", "flat", "stripes", "bands", "16 bits")
        ),
        *(Case(UNLIKE, f"{channel} alone", partial(answer_one_channel, channel)) for channel in "RGB"),
        *(Case(ALIKE, f"{split} images", partial(answer_own, split)) for split in ("train", "val", "test")),
    ]
