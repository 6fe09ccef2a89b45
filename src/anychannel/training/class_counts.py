"""How many images each class has, as far as this is known before training, and training that makes up for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset, TensorDataset

from anychannel.data import Split, TorchImages
from anychannel.training.matching import has_several
from anychannel.training.settings import TrainingSettings
from anychannel.utils.uneven import is_uneven as any_uneven


def count_labels(images: Any, num_classes: int | None) -> np.ndarray | None:
    """(K,) images of each class of a split or of PyTorch's images; None if the labels are not known beforehand.

    A data set's labels are known if it is a ``TensorDataset``, or has ``targets`` or ``labels``, or is a ``Subset`` of
    such a data set.
    """
    if isinstance(images, Split):
        return images.count_labels(num_classes or 0) if len(images) else None
    labels = None
    if isinstance(images, TorchImages):
        labels = find_labels(images.source.dataset if isinstance(images.source, DataLoader) else images.source)
    if labels is None or not len(labels):
        return None
    counts: np.ndarray = (labels > 0).sum(0) if labels.ndim == 2 else np.bincount(labels, minlength=num_classes or 0)
    return counts


def has_uneven_classes(train: Any, val: Any, num_classes: int | None) -> bool:
    """Whether classes are uneven in the training images or, if their labels are not known, in the validation images."""
    counts = count_labels(train, num_classes)
    return is_uneven(count_labels(val, num_classes) if counts is None else counts)


def find_labels(dataset: Any) -> np.ndarray | None:
    """(N,) whole numbers from 0, the labels of a PyTorch data set; None if it does not hold them as such.

    Of several labels an image, (N, L) of 0 and 1.
    """
    if isinstance(dataset, Subset):
        labels = find_labels(dataset.dataset)
        return None if labels is None else labels[np.asarray(dataset.indices)]
    if isinstance(dataset, TensorDataset):
        found = dataset.tensors[1] if len(dataset.tensors) == 2 else None
    else:
        found = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if not isinstance(found, list | tuple | np.ndarray | torch.Tensor) or not hasattr(dataset, "__len__"):
        return None
    try:
        values = np.asarray(found)
    except ValueError:  # rows that differ in length
        return None
    if values.ndim == 2 and values.shape[0] == len(dataset) and values.shape[1] > 1 and np.isin(values, (0, 1)).all():
        return values
    if values.dtype.kind not in "iu" or values.shape != (len(dataset),) or values.min(initial=0) < 0:
        return None
    return values.astype(np.int64)


def is_uneven(counts: np.ndarray | None) -> bool:
    """Whether classes are uneven, see ``anychannel.utils.uneven``; False if nothing is known."""
    return counts is not None and any_uneven(counts.tolist())


def class_weights(counts: np.ndarray) -> np.ndarray:
    """(K,) float32 weights N / (K n) of classes with n of N images, so that an average image has weight 1.

    K counts the classes that have images; the others have weight 1. This is scikit-learn's ``class_weight="balanced"``.
    """
    held = counts > 0
    weights = np.ones(len(counts), dtype=np.float32)
    weights[held] = counts.sum() / (held.sum() * counts[held])
    return weights


def label_weights(counts: np.ndarray, images: int) -> np.ndarray:
    """(L,) float32 ratios of images without a label to those with it; 1 for labels that all or no images have.

    This is the ``pos_weight`` that PyTorch proposes for ``BCEWithLogitsLoss``.
    """
    weights = np.ones(len(counts), dtype=np.float32)
    held = (counts > 0) & (counts < images)
    weights[held] = (images - counts[held]) / counts[held]
    return weights


def balance_classes(train: Any, settings: TrainingSettings, num_classes: int | None) -> tuple[Any, Tensor | None]:
    """The training images and the weights of their classes for the setting ``balance``; None without weights.

    Raises ValueError if it needs labels that are not known before training, or an order that is not ours to choose.
    """
    if settings.balance == "none":
        return train, None
    if settings.balance == "sample":
        if not isinstance(train, Split):
            raise ValueError(
                "balance='sample' chooses which images come when, which needs a split in memory or on disk; for a "
                "PyTorch data set give a DataLoader with torch.utils.data.WeightedRandomSampler, or use balance='loss'"
            )
        return replace(train, balanced=True), None
    counts = count_labels(train, num_classes)
    if counts is None:
        raise ValueError(
            "balance='loss' needs the number of training images of each class, which these images do not tell before "
            "they are read; give the data set an attribute targets with its labels, or leave balance out"
        )
    if has_several(train):
        return train, torch.from_numpy(label_weights(counts, len(train)))
    return train, torch.from_numpy(class_weights(counts))
