"""Evaluate one classifier on every channel subset.

    evaluation = evaluate(model, dataset.test)
    evaluation.subsets["R,G"]["accuracy"], evaluation.gap["R,G"]["accuracy"]
    evaluation.save("runs/photos")

A missing channel is never given to the model, neither as zeros nor as anything else: the images that it sees hold just
the subset's channels. Where images of the data lack channels, a subset is measured on those that have all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anychannel.channels import ChannelError, ChannelSet, Subset
from anychannel.data import SPLITS, ImageDataset, Split, Stream, iterate_batches
from anychannel.evaluation.inference_mode import inference_mode
from anychannel.evaluation.metrics import compute_metrics
from anychannel.evaluation.result import Evaluation
from anychannel.evaluation.subsets import choose_subsets
from anychannel.models import Classifier
from anychannel.utils.hardware import choose_device, choose_precision
from anychannel.utils.processes import Share, gather_rows, share, tell_all
from anychannel.utils.progress import progress_bar


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
    """Score a classifier on each channel subset, of the same images as far as they have its channels.

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
            whole result (see ``anychannel.utils.processes``). False reads everything in the process that calls.

    Returns:
        Metrics, gaps and predictions. A subset that was not named, and that the model does not take, is recorded as
        ``{"refused": reason}``, and any that no image has as ``{"n": 0, "refused": reason}``.

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
    present = None if images.present is None else images.present[:, list(planes.values())]
    has = {subset: having(present, subset, len(images)) for subset in chosen}
    shown = [subset for subset in chosen if has[subset].any()]
    refused: dict[Subset, str] = {}
    tables: dict[Subset, list[np.ndarray]] = {subset: [] for subset in shown}
    with inference_mode(model, where) as target:
        form = choose_precision(precision or "fp32", target)
        bar = progress_bar("evaluate", len(rows) * len(shown), show=progress and own.is_main)
        with bar as advance, torch.autocast(target.type, torch.bfloat16, enabled=form == "bf16"):
            batches = iterate_batches(images, batch_size, order=rows)
            for start, (pixels, _) in zip(range(0, len(rows), batch_size), batches, strict=True):
                here = rows[start : start + batch_size]
                batch = pixels.to(target).float()
                batch = batch if whole else batch[:, list(planes.values())]
                for subset in shown:
                    if subset not in refused:
                        try:
                            tables[subset].append(predict_those(model, batch, held, subset, has[subset][here]))
                        except ChannelError as error:
                            if subsets is not None and own.count == 1:
                                raise
                            refused[subset] = str(error)
                    advance(len(batch))
    nothing = np.empty((0, model.spec.num_classes), dtype=np.float32)
    if distributed:
        refused = {subset: reason for told in tell_all(refused) for subset, reason in told.items()}
        if subsets is not None and refused:
            raise ChannelError(next(iter(refused.values())))
    probabilities = {
        held.key(subset): gather_rows(np.concatenate([nothing, *tables[subset]]), len(images), own)[has[subset]]
        for subset in shown
        if subset not in refused
    }
    classes = names or tuple(str(number) for number in range(model.spec.num_classes))

    def score(subset: Subset) -> dict[str, Any]:
        if subset in refused:
            return {"refused": refused[subset]}
        if subset not in shown:
            return {
                "n": 0,
                "refused": f"no image of the {split} split has all of {held.key(subset).replace(',', ', ')}",
            }
        return compute_metrics(images.labels[has[subset]], probabilities[held.key(subset)], classes)

    return Evaluation(
        split=split,
        classes=classes,
        full=model.channels.key(model.channels.full),
        subsets={held.key(subset): score(subset) for subset in chosen},
        sampled=sampled,
        note=" ".join(filter(None, [note, describe_present(present, [held.key(s) for s in chosen if s not in shown])])),
        paths=tuple(images.paths),
        labels=np.asarray(images.labels),
        probabilities=probabilities,
        present=spread(present, list(planes), len(model.channels)),
        digests=None if images.digests is None else tuple(images.digests),
    )


def having(present: np.ndarray | None, subset: Subset, count: int) -> np.ndarray:
    """(count,) booleans, which images have all channels of a subset."""
    if present is None:
        return np.ones(count, dtype=bool)
    return np.asarray(present[:, list(subset)].all(axis=1))


def describe_present(present: np.ndarray | None, unmeasured: list[str]) -> str:
    """Sentences about images that lack channels and the subsets that none has; empty where no image lacks any."""
    if present is None or present.all():
        return ""
    complete = int(present.all(axis=1).sum())
    none = f" No image has all of {' / '.join(unmeasured)}." if unmeasured else ""
    return (
        f"{complete:,} of {len(present):,} images have every channel. A subset's figures rest on the images that have "
        f"all of its channels, so that subsets are measured on different images.{none}"
    )


def spread(present: np.ndarray | None, positions: list[int], count: int) -> np.ndarray | None:
    """(N, count) booleans over all of the model's channels, from those at ``positions``; None where nothing lacks."""
    if present is None or present.all():
        return None
    table = np.zeros((len(present), count), dtype=bool)
    table[:, positions] = present
    return table


def match(
    model: Classifier, data: Split | ImageDataset, split: str
) -> tuple[Split, dict[int, int], tuple[str, ...] | None]:
    """The images to read, for each of the model's channels that they hold its plane, and the classes' names.

    Raises:
        ChannelError, ValueError: see ``evaluate``.
    """
    known = model.channels
    if isinstance(getattr(data, split, data), Stream):
        raise ValueError("the training images are read from shards as training goes on; evaluate val or test")
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


def predict_those(model: Classifier, images: Tensor, held: ChannelSet, subset: Subset, has: np.ndarray) -> np.ndarray:
    """As ``predict``; the images that do not have the subset are not shown, and their rows are zero."""
    if has.all():
        return predict(model, images, held, subset)
    table = np.zeros((len(images), model.spec.num_classes), dtype=np.float32)
    if has.any():
        table[has] = predict(model, images[torch.from_numpy(has).to(images.device)], held, subset)
    return table
