"""Evaluate one classifier on every channel subset.

    evaluation = evaluate(model, dataset.test)
    evaluation.subsets["R,G"]["accuracy"], evaluation.gap["R,G"]["accuracy"]
    evaluation.save("runs/photos")

A missing channel is never given to the model, neither as zeros nor as anything else: the images that it sees hold just
the subset's channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from anychannel.channels import ChannelError, ChannelSet, Subset
from anychannel.data import SPLITS, ImageDataset, Split, iterate_batches
from anychannel.evaluation.borrow import borrowed
from anychannel.evaluation.metrics import compute_metrics
from anychannel.evaluation.result import Evaluation
from anychannel.evaluation.subsets import choose_subsets
from anychannel.hardware import choose_device, choose_precision
from anychannel.models import Classifier
from anychannel.processes import Share, gather_rows, on_main, share
from anychannel.progress import progress_bar


def evaluate(
    model: Classifier,
    data: Split | ImageDataset,
    *,
    subsets: str | Sequence[str] | None = None,
    batch_size: int = 256,
    device: str | None = None,
    precision: str | None = None,
    progress: bool = False,
    split: str = "test",
    distributed: bool = False,
) -> Evaluation:
    """Score a classifier on each channel subset of the same images.

    Args:
        model: comes back in its former mode and on its former device.
        data: a split whose images hold the model's channels in the model's order; or a data set, whose channels are
            matched to the model's by name. A data set may lack some of the model's channels (then only subsets of
            those that it has are evaluated) and may have others (they are not used).
        subsets: as ``"R,G"``; None takes all, or a sample where there are too many (see ``choose_subsets``).
        batch_size: images a forward pass; it changes speed and memory only.
        device: ``auto`` or a torch device; None is where the model is.
        precision: ``fp32``, ``bf16`` (autocast), or ``auto`` for bf16 where the hardware has it; None is fp32.
        progress: show a bar with the time left on standard error.
        split: which split of a data set is read, and the name under which the result is kept.
        distributed: every process of the program calls this, each reads its share of the images, and all get the
            whole result (see ``anychannel.processes``). False reads everything in the process that calls.

    Returns:
        Metrics, gaps and predictions. A subset that was not named, and that the model does not take, is recorded as
        ``{"refused": reason}``.

    Raises:
        ChannelError: a named subset has a channel that the model or the data does not know, or the model refuses it;
            or the images do not hold the model's channels.
        ValueError: the split is empty, the classes are not the model's, a label is out of range, the network's output
            is not finite, or a setting is unknown.
    """
    images, planes, names = match(model, data, split)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    held = model.channels.select([model.channels.names[position] for position in planes])
    chosen, sampled, note = choose_subsets(held, subsets)
    whole = list(planes.values()) == list(range(images.images.shape[1]))
    where = None if device is None else choose_device(device)
    own = share() if distributed else Share()
    rows = own.rows(len(images))
    refused: dict[Subset, str] = {}
    tables: dict[Subset, list[np.ndarray]] = {subset: [] for subset in chosen}
    with borrowed(model, where) as target:
        form = choose_precision(precision or "fp32", target)
        bar = progress_bar("evaluate", len(rows) * len(chosen), show=progress and own.is_main)
        with bar as advance, torch.autocast(target.type, torch.bfloat16, enabled=form == "bf16"):
            for pixels, _ in iterate_batches(images, batch_size, order=rows):
                batch = pixels.to(target).float()
                batch = batch if whole else batch[:, list(planes.values())]
                for subset in chosen:
                    if subset not in refused:
                        try:
                            tables[subset].append(predict(model, batch, held, subset))
                        except ChannelError as error:
                            if subsets is not None and own.count == 1:
                                raise
                            refused[subset] = str(error)
                    advance(len(batch))
    nothing = np.empty((0, model.spec.num_classes), dtype=np.float32)
    if distributed:
        refused = on_main(lambda: refused)  # it has an image whenever there is one, so it met every refusal
        if subsets is not None and refused:
            raise ChannelError(next(iter(refused.values())))
    probabilities = {
        held.key(subset): gather_rows(np.concatenate([nothing, *tables[subset]]), len(images), own)
        for subset in chosen
        if subset not in refused
    }
    reasons = {held.key(subset): reason for subset, reason in refused.items()}
    classes = names or tuple(str(number) for number in range(model.spec.num_classes))
    return Evaluation(
        split=split,
        classes=classes,
        full=model.channels.key(model.channels.full),
        subsets={
            key: {"refused": reasons[key]}
            if key in reasons
            else compute_metrics(images.labels, probabilities[key], classes)
            for key in map(held.key, chosen)
        },
        sampled=sampled,
        note=note,
        paths=images.paths,
        labels=np.asarray(images.labels),
        probabilities=probabilities,
    )


def match(
    model: Classifier, data: Split | ImageDataset, split: str
) -> tuple[Split, dict[int, int], tuple[str, ...] | None]:
    """The images to read, for each of the model's channels that they hold its plane, and the classes' names.

    Raises:
        ChannelError, ValueError: see ``evaluate``.
    """
    known = model.channels
    if isinstance(data, ImageDataset):
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; a data set has {', '.join(SPLITS)}")
        images: Split = getattr(data, split)
        plane_of = {name: plane for plane, name in enumerate(data.channels.names)}
        planes = {position: plane_of[name] for position, name in enumerate(known.names) if name in plane_of}
        if not planes:
            raise ChannelError(
                f"data set {data.name!r} has the channels {', '.join(data.channels.names)}, of which the model knows "
                f"none; it knows {', '.join(known.names)}"
            )
        if data.classes != (model.classes or data.classes) or len(data.classes) != model.spec.num_classes:
            theirs = f"{model.spec.num_classes} unnamed ones" if model.classes is None else describe(model.classes)
            raise ValueError(
                f"data set {data.name!r} has other classes than the model: {describe(data.classes)}; the model has "
                f"{theirs}"
            )
        names: tuple[str, ...] | None = data.classes
    else:
        images, planes, names = data, dict(enumerate(known.full)), model.classes
        if images.images.ndim != 4 or images.images.shape[1] != len(known):
            raise ChannelError(
                f"the images' shape is {images.images.shape}, but the model has {len(known)} channels "
                f"({', '.join(known.names)}); expected (images, {len(known)}, height, width)"
            )
    if len(images) == 0:
        raise ValueError(f"the {split} split is empty; there is nothing to evaluate")
    return images, planes, names


def describe(classes: Sequence[str]) -> str:
    """A few of the classes' names and their number."""
    return f"{', '.join(classes[:4])}{', ...' if len(classes) > 4 else ''} ({len(classes)})"


def predict(model: Classifier, images: Tensor, held: ChannelSet, subset: Subset) -> np.ndarray:
    """Class probabilities (B, K) in float32 of images that show ``subset`` of the channels ``held``."""
    shown = images if len(subset) == images.shape[1] else images[:, list(subset)]
    names = [held.names[position] for position in subset]
    logits = model(shown.contiguous(memory_format=torch.channels_last), channels=names)
    table: np.ndarray = logits.float().softmax(dim=1).cpu().numpy()
    return table
