"""Example images of a run: for the report a picture of each channel, and the prediction for each subset; for
``anychannel serve`` their pixels."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from anychannel.data import Split
from anychannel.evaluation import Evaluation

COUNT = 8
FILE = "examples.npy"
"""Pixels of the examples (n, C, H, W), in the order of ``examples.json``, so that serving a run reads no other data."""


def choose_examples(labels: np.ndarray, count: int) -> list[int]:
    """Choose up to ``count`` images from as many classes as possible; returns their positions."""
    seen: Counter[Any] = Counter()
    turns = []
    kinds = labels.tolist() if labels.ndim == 1 else list(map(tuple, labels.tolist()))
    for position in np.random.default_rng(0).permutation(len(labels)).tolist():
        turns.append((seen[kinds[position]], position))
        seen[kinds[position]] += 1
    return [position for _, position in sorted(turns, key=lambda turn: turn[0])[:count]]


def channel_png(plane: np.ndarray, low: float, high: float) -> str:
    """Encode a grey (H, W) or colour (H, W, 3) image as a PNG data URI. ``low`` becomes 0 and ``high`` 255."""
    scaled = np.clip((plane.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)
    buffer = io.BytesIO()
    Image.fromarray((255 * scaled).round().astype(np.uint8)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def describe_label(label: np.ndarray, classes: Sequence[str]) -> str:
    """The name of an image's class, or the names of its labels."""
    if not label.ndim:
        return classes[int(label)]
    return ", ".join(name for name, has in zip(classes, label, strict=True) if has) or "no label"


def describe_answer(found: np.ndarray, classes: Sequence[str], thresholds: Sequence[float] | None) -> dict[str, Any]:
    """The most probable class with its probability, or the labels that pass their thresholds, without one."""
    if thresholds is None:
        best = int(found.argmax())
        return {"class": classes[best], "probability": round(float(found[best]), 4)}
    given = found >= np.asarray(thresholds)
    return {"class": describe_label(given, classes), "probability": None}


def collect_examples(
    split: Split, channels: Sequence[str], classes: Sequence[str], evaluation: Evaluation
) -> tuple[dict[str, Any], np.ndarray]:
    """Collect the content of ``examples.json`` and of ``examples.npy`` from an evaluated split.

    An image that lacks channels has fewer pictures and predictions.
    """
    chosen = choose_examples(split.labels, COUNT)
    if not chosen:
        return {"channels": list(channels), "images": []}, np.zeros((0, *split.images.shape[1:]), split.images.dtype)
    sample = np.stack([np.asarray(split.images[i]) for i in chosen])
    has = np.ones(sample.shape[:2], dtype=bool) if split.present is None else split.present[chosen]
    sample[~has] = 0  # what stands in the planes of absent channels means nothing
    ranges = {i: np.percentile(sample[has[:, i], i], (0.5, 99.5)) for i in range(len(channels)) if has[:, i].any()}
    answered = {
        key: {row: n for n, row in enumerate(evaluation.rows(key).tolist())} for key in evaluation.probabilities
    }
    images = []
    for row, position in enumerate(chosen):
        predictions = {}
        for key, table in evaluation.probabilities.items():
            if position in answered[key]:
                found = table[answered[key][position]]
                predictions[key] = describe_answer(found, classes, evaluation.thresholds)
        held = [i for i in range(len(channels)) if has[row, i]]
        images.append(
            {
                "path": split.paths[position],
                "label": describe_label(split.labels[position], classes),
                "png": {channels[i]: channel_png(sample[row, i], *ranges[i].tolist()) for i in held},
                "predictions": predictions,
            }
        )
    return {"channels": list(channels), "images": images}, sample
