"""The answers of a classifier to the images of a data set, from whichever channels each has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from anychannel.channels import ChannelError
from anychannel.data import DataError, TorchImages
from anychannel.data.batches.split import group_rows
from anychannel.data.dead_channels import DeadChannels
from anychannel.evaluation.evaluate import answer, match
from anychannel.evaluation.flips import averaged_over_flips
from anychannel.nn.classifier import Classifier
from anychannel.nn.module_utils import inference_mode
from anychannel.training.matching import Names, count_classes, thresholds_of
from anychannel.utils.hardware import choose_device, choose_precision
from anychannel.utils.progress import progress_bar


@dataclass(frozen=True, eq=False)
class Predictions:
    """A classifier's answers to N images.

    Args:
        classes: names of the K classes.
        paths: where each image comes from: a file's path, else its number in the order read.
        probabilities: (N, K) float32.
        thresholds: of several labels an image, the probability from which an image has each; None of one class.
        channels: names of the channels that each image was classified from.
        unlike: how each image is unlike the training images, None if it is not. Empty if nothing is known.
        dead: names of the channels of each image that may be dead or saturated, whether they were used or left out.
        notes: other remarks on each image. Empty if there are none.
        failed: files that could not be classified, and why.
    """

    classes: tuple[str, ...]
    paths: tuple[str, ...]
    probabilities: np.ndarray
    channels: tuple[tuple[str, ...], ...]
    unlike: tuple[str | None, ...] = ()
    dead: tuple[tuple[str, ...], ...] = ()
    notes: tuple[tuple[str, ...], ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    thresholds: tuple[float, ...] | None = None

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64, the most probable class of each image; (N, K) booleans of several labels an image."""
        if self.thresholds is not None:
            passed: np.ndarray = self.probabilities >= np.array(self.thresholds)
            return passed
        found: np.ndarray = self.probabilities.argmax(axis=1)
        return found

    def __len__(self) -> int:
        return len(self.paths)

    def top(self, count: int = 1) -> list[list[tuple[str, float]]]:
        """For each image its most probable classes with their probabilities, best first."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :count]
        return [
            [(self.classes[i], float(row[i])) for i in best.tolist()]
            for row, best in zip(self.probabilities, order, strict=True)
        ]


def predict_dataset(
    model: Classifier,
    data: Any,
    *,
    channels: Names = None,
    use: str | Sequence[str] | None = None,
    drop: str | Sequence[str] | None = None,
    tta: str | Sequence[str] | None = None,
    drop_dead: bool = False,
    appearance: np.ndarray | None = None,
    batch_size: int = 256,
    device: str | None = None,
    precision: str | None = None,
    progress: bool = False,
) -> Predictions:
    """Classify the images of a data set; see ``anychannel.predict``, and for ``appearance`` ``DeadChannels``."""
    if isinstance(data, Tensor | np.ndarray):
        given = torch.as_tensor(np.asarray(data, np.float32) if getattr(data, "dtype", None) == np.uint16 else data)
        if given.ndim != 4:
            raise ChannelError(f"images are (N, channels, height, width), got shape {tuple(given.shape)}")
        data = SingleImages(given)
    images, planes, names = match(model, data, "data", channels, labelled=False)
    known = model.channels.select([model.channels.names[position] for position in planes])
    wanted, thresholds = known.choose(use, drop), thresholds_of(model)
    columns = list(planes.values())
    tables: list[np.ndarray] = []
    paths: list[str] = []
    used: list[tuple[str, ...]] = []
    dead: list[tuple[str, ...]] = []
    detector = DeadChannels(known, None if appearance is None else appearance[:, list(planes)])
    total = images.size or 0 if isinstance(images, TorchImages) else len(images)
    with inference_mode(model, None if device is None else choose_device(device)) as target:
        bf16 = choose_precision(precision or "fp32", target) == "bf16"
        with (
            progress_bar("predict", total, show=progress) as advance,
            torch.autocast(target.type, torch.bfloat16, enabled=bf16),
            averaged_over_flips(model, tta),
        ):
            for batch in images.in_order(batch_size):
                has = batch.held()[:, columns]
                has[:, [position for position in known.full if position not in wanted]] = False
                empty = np.flatnonzero(~has.any(axis=1)).tolist()
                if empty:
                    asked = ", ".join(known.names[position] for position in sorted(wanted))
                    raise ChannelError(f"image {batch.places[empty[0]]} has none of the channels {asked}")
                pixels = batch.images.to(target).float()[:, columns]
                numbers = np.arange(len(has))
                broken = find_dead(detector, batch.images, columns, has)
                dead += [tuple(known.names[i] for i in np.flatnonzero(row).tolist()) for row in broken]
                has &= ~(broken & drop_dead)
                answers = [  # zero but in the rows of the pattern
                    answer(model, pixels, known, pattern, np.isin(numbers, rows), several=thresholds is not None)
                    for pattern, rows in group_rows(has).items()
                ]
                found: np.ndarray = np.sum(answers, axis=0)
                if not np.isfinite(found).all():
                    bad = batch.places[int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])]
                    raise DataError(f"the network's answer to image {bad} is not finite; bring images to its units")
                tables.append(found)
                paths += batch.places
                used += [tuple(known.names[i] for i in np.flatnonzero(row).tolist()) for row in has]
                advance(len(found))
    if not tables:
        raise ValueError("there is no image to classify")
    table = np.concatenate(tables)
    classes = names or tuple(str(number) for number in range(count_classes(model) or table.shape[1]))
    return Predictions(classes, tuple(paths), table, tuple(used), dead=tuple(dead), thresholds=thresholds)


def find_dead(detector: DeadChannels, images: Tensor, columns: Sequence[int], has: np.ndarray) -> np.ndarray:
    """Which of the planes ``columns`` of images (N, C, H, W) may be dead or saturated, of those that each ``has``."""
    found = np.zeros_like(has)
    arrays = images[:, columns].float().cpu().numpy()
    for pattern, rows in group_rows(has).items():
        dead = detector.find(arrays[rows][:, list(pattern)], pattern)
        for row, names in zip(rows.tolist(), dead, strict=True):
            found[row, [detector.channels.names.index(name) for name in names]] = True
    return found


class SingleImages(TensorDataset):
    """The images of one tensor, alone."""

    def __getitem__(self, index: Any) -> Any:
        return self.tensors[0][index]
