"""Evaluate one classifier on every channel subset.

    evaluation = evaluate(model, dataset.test)
    evaluation.subsets["R,G"]["accuracy"], evaluation.gap["R,G"]["accuracy"]
    evaluation.save("runs/photos")

The model receives the subset's channels only; a missing channel is never filled in. If images of the data lack
channels, a subset is measured on the images that have all of its channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anychannel.channels import ChannelError, ChannelSet, Subset
from anychannel.data import SPLITS, ImageDataset, Split, iterate_batches
from anychannel.evaluation.subsets import choose_subsets
from anychannel.nn.classifier import Classifier
from anychannel.nn.module_utils import inference_mode
from anychannel.results.evaluation import Evaluation
from anychannel.results.metrics import compute_metrics
from anychannel.training.matching import check_classes, check_planes
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
    """Score a classifier on each channel subset.

    Args:
        model: returned to its former mode and device.
        data: a data set or a split, whose channels are matched to the model's by name. It may lack some of the model's
            channels (only subsets of the others are evaluated) and may have more (they are not used). A split of bare
            arrays, without names, holds the model's channels in the model's order.
        subsets: as ``"R,G"``; None takes all, or a sample if there are too many (see ``choose_subsets``).
        batch_size: images a forward pass; it changes speed and memory only.
        device: ``auto`` or a torch device; None uses the model's device.
        precision: ``fp32``, ``bf16`` (autocast), or ``auto`` for bf16 if the hardware supports it; None is fp32.
        progress: show a bar with the time left on standard error.
        split: the split of a data set to read, and the name of the result.
        distributed: every process of the program calls this function, reads its share of the images, and gets the
            whole result (see ``anychannel.utils.processes``). False reads everything in the calling process.

    Returns:
        Metrics, gaps and predictions. A subset that was not named and that the model does not accept is recorded as
        ``{"refused": reason}``, and one that no image has as ``{"n": 0, "refused": reason}``.

    Raises:
        ChannelError: the model or the data does not know a channel of a named subset, the model refuses the subset, or
            the images do not hold the model's channels.
        ValueError: the split is empty, the classes are not the model's, a label is out of range, the network's output
            is not finite, or a setting is unknown.
    """
    images, planes, names = match(model, data, split)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    channels = model.channels.select([model.channels.names[position] for position in planes])
    chosen, sampled, note = choose_subsets(channels, subsets)
    columns = list(planes.values())
    all_columns = columns == list(range(images.images.shape[1]))
    present = np.ones((len(images), len(columns)), bool) if images.present is None else images.present[:, columns]
    has = {subset: np.asarray(present[:, list(subset)].all(axis=1)) for subset in chosen}
    measured = [subset for subset in chosen if has[subset].any()]
    unmeasured = [channels.key(subset) for subset in chosen if not has[subset].any()]
    own = share() if distributed else Share()
    rows = own.rows(len(images))
    refused: dict[Subset, str] = {}
    tables: dict[Subset, list[np.ndarray]] = {subset: [] for subset in measured}
    with inference_mode(model, None if device is None else choose_device(device)) as target:
        bf16 = choose_precision(precision or "fp32", target) == "bf16"
        bar = progress_bar("evaluate", len(rows) * len(measured), show=progress and own.is_main)
        with bar as advance, torch.autocast(target.type, torch.bfloat16, enabled=bf16):
            batches = iterate_batches(images, batch_size, order=rows)
            for start, (pixels, _) in zip(range(0, len(rows), batch_size), batches, strict=True):
                here = rows[start : start + batch_size]
                batch = pixels.to(target).float()
                batch = batch if all_columns else batch[:, columns]
                for subset in measured:
                    if subset not in refused:
                        try:
                            tables[subset].append(predict(model, batch, channels, subset, has[subset][here]))
                        except ChannelError as error:
                            if subsets is not None and own.count == 1:
                                raise
                            refused[subset] = str(error)
                    advance(len(batch))
    if distributed:
        refused = {subset: reason for each in tell_all(refused) for subset, reason in each.items()}
        if subsets is not None and refused:
            raise ChannelError(next(iter(refused.values())))
    empty = np.empty((0, model.spec.num_classes), dtype=np.float32)
    probabilities = {
        channels.key(subset): gather_rows(np.concatenate([empty, *tables[subset]]), len(images), own)[has[subset]]
        for subset in measured
        if subset not in refused
    }
    classes = names or tuple(str(number) for number in range(model.spec.num_classes))

    def score(subset: Subset) -> dict[str, Any]:
        key = channels.key(subset)
        if key in unmeasured:
            return {"n": 0, "refused": f"no image of the {split} split has all of {key.replace(',', ', ')}"}
        if subset in refused:
            return {"refused": refused[subset]}
        return compute_metrics(images.labels[has[subset]], probabilities[key], classes)

    complete = int(present.all(axis=1).sum())
    if complete < len(images):
        none = f" No image has all of {' / '.join(unmeasured)}." if unmeasured else ""
        partial = (
            f"{complete:,} of {len(images):,} images have every channel. Each subset is measured on the images that "
            f"have all of its channels, so that figures of different subsets rest on different images.{none}"
        )
        note = f"{note} {partial}".lstrip()
    of_model = np.zeros((len(images), len(model.channels)), dtype=bool)
    of_model[:, list(planes)] = present
    return Evaluation(
        split=split,
        classes=classes,
        full=model.channels.key(model.channels.full),
        subsets={channels.key(subset): score(subset) for subset in chosen},
        sampled=sampled,
        note=note,
        paths=tuple(images.paths),
        labels=np.asarray(images.labels),
        probabilities=probabilities,
        present=of_model if complete < len(images) else None,
        digests=None if images.digests is None else tuple(images.digests),
    )


def predict(model: Classifier, images: Tensor, channels: ChannelSet, subset: Subset, has: np.ndarray) -> np.ndarray:
    """Class probabilities (B, K) in float32 from a subset of the channels of images (B, C, H, W).

    ``has``, (B,) booleans, says which images have all of the subset's channels; the rows of the others are zero.
    """
    table = np.zeros((len(images), model.spec.num_classes), dtype=np.float32)
    if has.any():
        chosen = images if has.all() else images[torch.from_numpy(has).to(images.device)]
        chosen = chosen if len(subset) == images.shape[1] else chosen[:, list(subset)]
        names = [channels.names[position] for position in subset]
        logits = model(chosen.contiguous(memory_format=torch.channels_last), channels=names)
        table[has] = logits.float().softmax(dim=1).cpu().numpy()
    return table


def match(
    model: Classifier, data: Split | ImageDataset, split: str
) -> tuple[Split, dict[int, int], tuple[str, ...] | None]:
    """The images to read, the plane of each of the model's channels that they hold, and the classes' names."""
    known = model.channels
    if isinstance(data, ImageDataset) and split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; a data set has {', '.join(SPLITS)}")
    images: Split = getattr(data, split) if isinstance(data, ImageDataset) else data
    if not images.random_access:
        raise ValueError("the training images are read from shards as training goes on; evaluate val or test")
    what = f"the images of data set {data.name!r}" if isinstance(data, ImageDataset) else "the images"
    check_classes(model, images, what)
    if images.channels is None:
        check_planes(model, images, what)
        planes = dict(enumerate(known.full))
    else:
        plane_of = {name: plane for plane, name in enumerate(images.channels.names)}
        planes = {position: plane_of[name] for position, name in enumerate(known.names) if name in plane_of}
        if not planes:
            raise ChannelError(
                f"{what} have the channels {', '.join(plane_of)}, of which the model knows none; it knows "
                f"{', '.join(known.names)}"
            )
    if len(images) == 0:
        raise ValueError(f"the {split} split is empty; there is nothing to evaluate")
    return images, planes, images.classes or model.classes
