"""Fit a model's temperatures, so that its confidence is as often right as it says.

    fit_temperatures(model, dataset.val)
    save_model(model, "models/photos")  # model.json holds them

``model(images)`` returns the same logits as before. ``predict``, ``evaluate``, the page and ONNX files divide them
by the temperature of the channels that an image has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from anychannel.evaluation.evaluate import evaluate
from anychannel.models.view import as_view
from anychannel.nn.temperatures import LEAST, MOST, Temperatures
from anychannel.training.matching import Names, check_model

FEWEST = 50
"""Validation images that a temperature rests on; with fewer it is that of other sizes, or 1."""
FOLDS = 5
STEPS, CLOSE = 50, 1e-6


def fit_temperatures(
    model: nn.Module,
    data: Any,
    *,
    channels: Names = None,
    subsets: str | Sequence[str] | None = None,
    batch_size: int = 256,
    device: str | None = None,
    precision: str | None = None,
    progress: bool = False,
    distributed: bool = False,
) -> Temperatures:
    """Fit a temperature for each subset of a model's channels, or for each number of channels, and keep them in it.

    A temperature minimises the loss of the images that have the subset. It needs 50 of them, and stays 1 unless it
    lowers the loss in cross-validation. If all subsets are evaluated, each gets its own; of more subsets than that,
    those of one size share one, and sizes between are interpolated. ``save_model`` and training write them into
    ``model.json``.

    Args:
        model: a ``Classifier``, or a network that ``adapt`` returned; only its temperatures change.
        data: labelled images that the model was not trained on, such as validation images; see ``evaluate``, also for
            the other arguments.

    Returns:
        The temperatures.

    Raises:
        ValueError: the model may give an image several labels, whose thresholds do what a temperature would; as
            ``evaluate`` otherwise.
    """
    check_model(model)
    view = as_view(model)
    if view.spec.thresholds is not None:
        raise ValueError("temperatures are for models that give one class; this one has a threshold for each label")
    former, view.spec = view.spec, replace(view.spec, temperatures=None)
    try:
        found = evaluate(
            view,
            data,
            channels=channels,
            subsets=subsets,
            batch_size=batch_size,
            device=device,
            precision=precision,
            progress=progress,
            split="val",
            distributed=distributed,
        )
    except BaseException:
        view.spec = former
        raise
    rows = {key: found.rows(key) for key in found.probabilities}
    tables = {key: (table, found.labels[rows[key]], rows[key]) for key, table in found.probabilities.items()}
    own = {} if found.sampled else {key: temperature(*each) for key, each in tables.items() if len(each[1]) >= FEWEST}
    alike: dict[int, list[tuple[np.ndarray, ...]]] = {}
    for key, each in tables.items():
        if len(each[1]) >= FEWEST:
            alike.setdefault(key.count(",") + 1, []).append(each)
    known = {
        size: temperature(*(np.concatenate(part) for part in zip(*pairs, strict=True)))
        for size, pairs in sorted(alike.items())
    }
    logs = np.log(list(known.values())) if known else [0.0]
    sizes = np.interp(range(1, len(view.channels) + 1), list(known) or [1], logs)
    fitted = Temperatures(tuple(np.exp(sizes).round(4).tolist()), own)
    view.spec = replace(view.spec, temperatures=fitted)
    return fitted


def temperature(probabilities: np.ndarray, labels: np.ndarray, images: np.ndarray | None = None) -> float:
    """The temperature that minimises the loss of N answers; 1 if it helps no images that it was not fitted on.

    That is tried by cross-validation in ``FOLDS`` parts: of a few images, the best temperature is partly luck.

    Args:
        probabilities: (N, K), at temperature 1.
        labels: (N,) true classes.
        images: (N,) the image of each answer, if an image has several; they stay in one part.
    """
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny).astype(np.float64))
    u = fit_log(logits, labels)
    images = np.arange(len(labels)) if images is None else images
    part = np.random.default_rng(0).permutation(int(images.max()) + 1)[images] % FOLDS
    gain = 0.0
    for number in range(FOLDS):
        held = part == number
        if held.any() and not held.all():
            found = fit_log(logits[~held], labels[~held], start=u)
            gain += loss_at(logits[held], labels[held], 0.0) - loss_at(logits[held], labels[held], found)
    return round(float(np.clip(np.exp(u), LEAST, MOST)), 4) if gain > 0 else 1.0


def loss_at(logits: np.ndarray, labels: np.ndarray, u: float) -> float:
    """The sum of the losses at a temperature whose logarithm is u."""
    scaled = logits * np.exp(-u)
    top = scaled.max(axis=1)
    norms = np.log(np.exp(scaled - top[:, None]).sum(axis=1)) + top
    return float((norms - scaled[np.arange(len(labels)), labels]).sum())


def fit_log(logits: np.ndarray, labels: np.ndarray, start: float = 0.0) -> float:
    """The logarithm u of the temperature that minimises the loss, by Newton's method.

    (u / ln 2)^2 / 2 is added to the sum of the images' losses: a few images, all of them right, say little about how
    sure the model may be, and leave T near 1.
    """
    own, u = logits[np.arange(len(labels)), labels], start
    for _ in range(STEPS):
        scaled = logits * np.exp(-u)
        shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        mean = (shares * scaled).sum(axis=1)
        slope = (own * np.exp(-u) - mean).sum() + u / np.log(2) ** 2
        bend = ((shares * scaled**2).sum() - (mean**2).sum()) + 1 / np.log(2) ** 2
        step = float(np.clip(slope / bend, -0.5, 0.5))
        u -= step
        if abs(step) < CLOSE:
            break
    return u
