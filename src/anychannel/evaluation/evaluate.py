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
from anychannel.data import SPLITS, ImageDataset, Split, Stream, TorchImages
from anychannel.evaluation.flips import averaged_over_flips
from anychannel.evaluation.subsets import choose_subsets
from anychannel.nn.classifier import Classifier
from anychannel.nn.module_utils import inference_mode
from anychannel.nn.temperatures import temperature_of, temperatures_of
from anychannel.results.evaluation import Evaluation
from anychannel.results.metrics import apply_temperature, compute_metrics, expected_calibration_error
from anychannel.training.matching import (
    Names,
    check_classes,
    check_kind,
    check_model,
    check_planes,
    count_classes,
    has_several,
    open_images,
    thresholds_of,
)
from anychannel.training.outputs import logits_of, to_probabilities
from anychannel.utils.hardware import choose_device, choose_precision
from anychannel.utils.processes import Share, gather_rows, share, tell_all
from anychannel.utils.progress import progress_bar
from anychannel.utils.several_labels import UNDECIDED


def evaluate(
    model: Classifier,
    data: Any,
    *,
    channels: Names = None,
    subsets: str | Sequence[str] | None = None,
    by: str | None = None,
    tta: str | Sequence[str] | None = None,
    batch_size: int = 256,
    device: str | None = None,
    precision: str | None = None,
    progress: bool = False,
    split: str = "test",
    distributed: bool = False,
) -> Evaluation:
    """Score a classifier on each channel subset.

    Args:
        model: returned to its former mode and device. It may have been trained anywhere; its output is logits, or an
            object, dictionary or tuple that holds them (see ``anychannel.training.outputs``).
        data: a data set or a split, whose channels are matched to the model's by name. It may lack some of the model's
            channels (only subsets of the others are evaluated) and may have more (they are not used). A split of bare
            arrays, without names, holds the model's channels in the model's order. Or a PyTorch ``Dataset`` or
            ``DataLoader`` of (image, label) or of dictionaries; see ``fit``.
        channels: names of the planes of a ``Dataset`` or ``DataLoader`` in their order, or a sensor; None means the
            model's channels in its order.
        subsets: as ``"R,G"`` or, of groups, ``"camera+lidar"``; None takes all, or a sample if there are too many (see
            ``choose_subsets``).
        by: without named subsets: ``groups`` evaluates subsets of whole groups, ``channels`` those of single channels
            as well. None means groups if the channels have any.
        tta: test-time augmentation: ``hflip``, ``vflip`` or both, as ``"hflip,vflip"``. Logits are the mean over the
            image and its mirror images, which take two or four times as long. None uses the image alone.
        batch_size: images a forward pass; it changes speed and memory only. A ``DataLoader`` has its own.
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
        TypeError: the model is no channel-adaptive network, the data are none of these, a sample has another form, or
            the network returns no logits.
        ValueError: the split is empty, the classes are not the model's, a label is out of range, the network's output
            is not finite, or a setting is unknown.
    """
    images, planes, names = match(model, data, split, channels)
    several = has_several(images)
    check_kind(model, several, "the images")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if distributed and isinstance(images, TorchImages) and images.is_shared:
        raise ValueError("a DistributedSampler repeats images; give the Dataset, or a DataLoader without it")
    known = model.channels.select([model.channels.names[position] for position in planes])
    chosen, sampled, note = choose_subsets(known, subsets, by=by)
    columns = list(planes.values())
    own = share() if distributed else Share()
    refused: dict[Subset, str] = {}
    tables: dict[Subset, list[np.ndarray]] = {subset: [] for subset in chosen}
    read: list[tuple[np.ndarray, np.ndarray, Sequence[str]]] = []
    total = len(own.rows(len(images))) if isinstance(images, Split) or images.size is not None else 0
    with (
        inference_mode(model, None if device is None else choose_device(device)) as target,
        averaged_over_flips(model, tta),
    ):
        bf16 = choose_precision(precision or "fp32", target) == "bf16"
        bar = progress_bar("evaluate", total * len(chosen), show=progress and own.is_main)
        with bar as advance, torch.autocast(target.type, torch.bfloat16, enabled=bf16):
            for batch in images.in_order(batch_size, own):
                has = batch.held()[:, columns]
                read.append((batch.labels.numpy(), has, batch.places))
                pixels = batch.images.to(target).float()
                pixels = pixels if columns == list(range(pixels.shape[1])) else pixels[:, columns]
                for subset in chosen:
                    if subset not in refused:
                        shown = np.asarray(has[:, list(subset)].all(axis=1))
                        try:
                            tables[subset].append(answer(model, pixels, known, subset, shown, several=several))
                        except ChannelError as error:
                            if subsets is not None and own.count == 1:
                                raise
                            refused[subset] = str(error)
                    advance(len(batch.labels))
    if distributed:
        refused = {subset: reason for each in tell_all(refused) for subset, reason in each.items()}
        if subsets is not None and refused:
            raise ChannelError(next(iter(refused.values())))
    labels, present, paths = gather_read(read, len(columns), own)
    if not len(labels):
        raise ValueError(f"the {split} split is empty; there is nothing to evaluate")
    has_all = {subset: np.asarray(present[:, list(subset)].all(axis=1)) for subset in chosen}
    measured = [subset for subset in chosen if has_all[subset].any()]
    unmeasured = [known.key(subset) for subset in chosen if not has_all[subset].any()]
    width = max((table.shape[1] for found in tables.values() for table in found), default=0)
    width = max(tell_all(width)) if distributed else width
    classes = names or tuple(str(number) for number in range(count_classes(model) or width))
    if width and several and labels.shape[1] != width:
        raise ValueError(f"the images have {labels.shape[1]} labels, but the network answers {width}")
    if width and not several and int(labels.max()) >= width:
        raise ValueError(f"the images have labels up to {int(labels.max())}, but the network answers {width} classes")
    thresholds = None
    if several:
        thresholds, labels = thresholds_of(model) or (UNDECIDED,) * labels.shape[1], labels > 0
    probabilities = {}
    for subset in measured:
        if subset not in refused:
            table = [piece if piece.shape[1] else np.zeros((len(piece), width), np.float32) for piece in tables[subset]]
            mine = np.concatenate([np.empty((0, width), np.float32), *table])
            probabilities[known.key(subset)] = gather_rows(mine, len(labels), own)[has_all[subset]]

    def score(subset: Subset) -> dict[str, Any]:
        whole = known.grouped and known.split(subset)
        return figures(subset) | ({"name": known.name(subset)} if whole else {})

    def figures(subset: Subset) -> dict[str, Any]:
        key = known.key(subset)
        if key in unmeasured:
            return {"n": 0, "refused": f"no image of the {split} split has all of {key.replace(',', ', ')}"}
        if subset in refused:
            return {"refused": refused[subset]}
        found, own = labels[has_all[subset]], probabilities[key]
        measured = compute_metrics(found, own, classes, thresholds)
        if temperatures_of(model) is None:
            return measured
        heat = temperature_of(model, key.split(","))
        before = expected_calibration_error(found, apply_temperature(own, 1 / heat))
        return measured | {"temperature": heat, "ece_before": before}

    complete = int(present.all(axis=1).sum())
    if complete < len(labels):
        none = f" No image has all of {' / '.join(unmeasured)}." if unmeasured else ""
        partial = (
            f"{complete:,} of {len(labels):,} images have every channel. Each subset is measured on the images that "
            f"have all of its channels, so that figures of different subsets rest on different images.{none}"
        )
        note = f"{note} {partial}".lstrip()
    if tta:
        flips = ", ".join([tta] if isinstance(tta, str) else tta)
        note = f"{note} Logits are the mean over each image and its mirror images ({flips}).".lstrip()
    of_model = np.zeros((len(labels), len(model.channels)), dtype=bool)
    of_model[:, list(planes)] = present
    return Evaluation(
        split=split,
        classes=classes,
        full=model.channels.key(model.channels.full),
        subsets={known.key(subset): score(subset) for subset in chosen},
        sampled=sampled,
        note=note,
        paths=paths,
        labels=labels,
        probabilities=probabilities,
        present=of_model if complete < len(labels) else None,
        digests=tuple(images.digests) if isinstance(images, Split) and images.digests is not None else None,
        groups=model.channels.members,
        thresholds=thresholds,
    )


def gather_read(
    read: Sequence[tuple[np.ndarray, np.ndarray, Sequence[str]]], columns: int, own: Share
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """All images' labels (N,), channels (N, columns) and paths, from what each process read of each of its batches."""
    labels = np.concatenate([each[0] for each in read]) if read else np.empty(0, np.int64)
    present = np.concatenate([np.empty((0, columns), bool), *(each[1] for each in read)])
    paths = [path for each in read for path in each[2]]
    if own.count == 1:
        return labels, present, tuple(paths)
    total = sum(tell_all(len(labels)))
    listed = tell_all(paths)
    ordered = tuple(listed[position % own.count][position // own.count] for position in range(total))
    return gather_rows(labels, total, own), gather_rows(present, total, own), ordered


def answer(
    model: Classifier, images: Tensor, channels: ChannelSet, subset: Subset, has: np.ndarray, *, several: bool = False
) -> np.ndarray:
    """Class probabilities (B, K) in float32, at the subset's temperature, from its channels of images (B, C, H, W).

    Of ``several`` labels an image, each label has a probability by itself. ``has``, (B,) booleans, says which images
    have all of the subset's channels; the rows of the others are zero. K is 0 if none has.
    """
    table = np.zeros((len(images), 0), dtype=np.float32)
    if has.any():
        chosen = images if has.all() else images[torch.from_numpy(has).to(images.device)]
        chosen = chosen if len(subset) == images.shape[1] else chosen[:, list(subset)]
        names = [channels.names[position] for position in subset]
        logits = logits_of(model(chosen.contiguous(memory_format=torch.channels_last), channels=names))
        table = np.zeros((len(images), logits.shape[1]), dtype=np.float32)
        shares = to_probabilities(logits.float() / temperature_of(model, names), several=several)
        table[has] = shares.cpu().numpy()
    return table


def match(
    model: Classifier, data: Any, split: str, channels: Names = None, *, labelled: bool = True
) -> tuple[Split | TorchImages, dict[int, int], tuple[str, ...] | None]:
    """The images to read, the plane of each of the model's channels that they hold, and the classes' names."""
    check_model(model)
    known = model.channels
    if isinstance(data, ImageDataset) and split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; a data set has {', '.join(SPLITS)}")
    what = f"the images of data set {data.name!r}" if isinstance(data, ImageDataset) else "the images"
    given = getattr(data, split) if isinstance(data, ImageDataset) else data
    images = open_images(given, model, what, channels, labelled=labelled)
    if isinstance(images, Stream):
        raise ValueError("the training images are read from shards as training goes on; evaluate val or test")
    if labelled:
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
    if isinstance(images, Split) and len(images) == 0:
        raise ValueError(f"the {split} split is empty; there is nothing to evaluate")
    return images, planes, images.classes or model.classes
