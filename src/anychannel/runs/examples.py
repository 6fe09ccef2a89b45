"""Example images for the report: each channel as a picture, with what the network says of it for each subset."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from anychannel.data import Split
from anychannel.evaluation import Evaluation


def choose_examples(labels: np.ndarray, count: int, seed: int = 0) -> list[int]:
    """Positions of up to ``count`` images, of as many classes as possible."""
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(labels))
    seen: dict[int, int] = {}
    turn = []
    for position in shuffled:
        label = int(labels[position])
        turn.append((seen.get(label, 0), int(position)))
        seen[label] = seen.get(label, 0) + 1
    return [position for _, position in sorted(turn, key=lambda entry: entry[0])[:count]]


def channel_png(plane: np.ndarray, low: float, high: float) -> str:
    """A grey (H, W) or coloured (H, W, 3) PNG data URI; ``low`` becomes black, or 0 of its colour, ``high`` white."""
    scaled = np.clip((plane.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)
    buffer = io.BytesIO()
    Image.fromarray((255 * scaled).round().astype(np.uint8)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def collect_examples(
    split: Split,
    channels: Sequence[str],
    classes: Sequence[str],
    evaluation: Evaluation,
    *,
    count: int = 8,
) -> dict[str, Any]:
    """What ``examples.json`` holds; of an image that lacks channels the pictures and answers that there are.

    Args:
        split: the images that were evaluated.
        channels, classes: names.
        evaluation: of these images.
        count: number of images.
    """
    chosen = choose_examples(split.labels, count)
    if not chosen:
        return {"channels": list(channels), "images": []}
    sample = np.stack([np.asarray(split.images[i]) for i in chosen])
    has = np.ones(sample.shape[:2], dtype=bool) if split.present is None else split.present[chosen]
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
                best = int(found.argmax())
                predictions[key] = {"class": classes[best], "probability": round(float(found[best]), 4)}
        images.append(
            {
                "path": split.paths[position],
                "label": classes[int(split.labels[position])],
                "png": {
                    name: channel_png(sample[row, i], *ranges[i].tolist())
                    for i, name in enumerate(channels)
                    if has[row, i]
                },
                "predictions": predictions,
            }
        )
    return {"channels": list(channels), "images": images}
