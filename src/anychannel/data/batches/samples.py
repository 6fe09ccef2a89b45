"""Samples and batches in the forms that other people's data sets have: images, labels and masks as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from anychannel.data.errors import DataError
from anychannel.utils.plurals import plural

IMAGE_KEYS = ("image", "img", "pixel_values")
LABEL_KEYS = ("label", "labels")
PRESENT = "present"
"""Keys of a sample that is a dictionary: the first of each that it has."""
MODES = ("L", "RGB", "RGBA", "I;16", "I", "F")
"""Pillow's modes whose values are those of channels."""
FORMS = (
    "(image, label), or a dictionary with 'image', 'label' and, if images lack channels, 'present' (a boolean for each "
    "channel)"
)


class SampleError(DataError, TypeError):
    """A sample of a data set that has another form or type than expected; the message names it and the fix."""


@dataclass(frozen=True)
class Sample:
    """Images and labels as they came, of one sample or of a batch; None for what there is not."""

    image: Any
    label: Any = None
    present: Any = None


def read_fields(sample: Any, labelled: bool, where: str, form: str) -> Sample:
    """Image, label and mask of a sample. Raises SampleError if it has another form."""
    if isinstance(sample, Mapping):
        keys = [next((key for key in known if key in sample), None) for known in (IMAGE_KEYS, LABEL_KEYS)]
        if keys[0] is None or (labelled and keys[1] is None):
            lacks = "image" if keys[0] is None else "label"
            raise SampleError(
                f"{where} is a dictionary with {', '.join(map(repr, sample)) or 'nothing'}, without {lacks!r}; give "
                f"{FORMS}{form}"
            )
        return Sample(sample[keys[0]], None if keys[1] is None else sample[keys[1]], sample.get(PRESENT))
    if isinstance(sample, list | tuple) and len(sample) == 2:
        return Sample(*sample)
    if not labelled:
        single = sample[0] if isinstance(sample, list | tuple) and len(sample) == 1 else sample
        if isinstance(single, Tensor | np.ndarray | Image.Image):
            return Sample(single)
    described = type(sample).__name__
    if isinstance(sample, list | tuple):
        described += f" of {len(sample)}: {', '.join(type(each).__name__ for each in sample[:4])}"
    raise SampleError(f"{where} is a {described}; give {FORMS}{form}")


def to_planes(image: Any, where: str) -> Tensor:
    """A single image as (C, H, W), in its own units."""
    if isinstance(image, Image.Image):
        if image.mode not in MODES:
            raise SampleError(
                f"{where} is a Pillow image of mode {image.mode!r}, whose values are not those of channels; convert it "
                "in the data set's transform, as image.convert('RGB')"
            )
        array = np.array(image)
        return as_tensor(array if array.ndim == 2 else array.transpose(2, 0, 1), where).reshape(-1, *array.shape[:2])
    planes = image if isinstance(image, Tensor) else as_tensor(image, where)
    if planes.ndim == 2:
        planes = planes[None]
    if planes.ndim != 3:
        raise SampleError(f"{where} has the shape {tuple(planes.shape)}; expected (channels, height, width)")
    return planes.as_subclass(Tensor)


def as_array(values: Any) -> np.ndarray:
    """Values of a tensor, an array or a list as an array."""
    return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def as_tensor(values: Any, where: str) -> Tensor:
    """An array or nested lists of numbers as a tensor."""
    try:
        array = np.asarray(values)
        array = np.require(array, np.float32 if array.dtype == np.uint16 else None, ["C", "W"])
        return torch.from_numpy(array)
    except (TypeError, ValueError):
        raise SampleError(
            f"{where} has a {type(values).__name__} for an image; give a tensor or array (channels, height, width), or "
            "a Pillow image"
        ) from None


def to_numbers(images: Tensor, what: str) -> Tensor:
    """Images of a type that networks and augmentation take: uint8 as it is, any other number as float32."""
    images = images.as_subclass(Tensor)
    if images.dtype == torch.uint8:
        return images
    if images.dtype == torch.bool or images.is_complex():
        raise SampleError(f"{what} hold {str(images.dtype).removeprefix('torch.')} values; give integers or floats")
    return images.to(torch.float32)


def to_label(label: Any, where: str) -> Tensor:
    """A single label as a number, or the labels of an image (L,)."""
    found = None if label is None else np.atleast_1d(as_array(label))
    return to_labels(found if found is None or found.size == 1 else found[None], 1, where)[0]


def to_labels(labels: Any, count: int, where: str) -> Tensor:
    """Labels (B,) as int64; of several labels an image (B, L) as float32, 1 for each that the image has.

    Raises SampleError if they are neither one whole number for each image, nor 0 or 1 for each label.
    """
    if isinstance(labels, list | tuple) and labels and all(isinstance(one, Tensor) and one.ndim == 1 for one in labels):
        labels = torch.stack(list(labels), dim=1)  # PyTorch's default_collate of lists
    found = None if labels is None else np.asarray(as_array(labels))
    if found is not None and found.ndim == 2 and found.shape[0] == count and found.shape[1] > 1:
        wrong = np.argwhere(~np.isin(found, (0, 1)))
        if len(wrong):
            row, column = wrong[0].tolist()
            raise SampleError(
                f"{where} has {found[row, column].item()!r} for the label {column}; of several labels an image, give 1 "
                "for each that it has and 0 for the others"
            )
        return torch.from_numpy(found.astype(np.float32))
    fix = "give each image the number of its class, from 0"
    if found is None or found.dtype.kind not in "iu":
        kind = "no label" if labels is None else f"a label of type {found.dtype.name}"  # type: ignore[union-attr]
        raise SampleError(f"{where} has {kind}, which is no whole number; {fix}")
    if found.size != count or found.shape[:1] != (count,):
        raise SampleError(f"{where} has labels of shape {found.shape}, for {plural(count, 'image')}; {fix}")
    return torch.from_numpy(found.reshape(-1).astype(np.int64))


def check_present(present: np.ndarray, shape: tuple[int, int], places: Sequence[str], what: str) -> np.ndarray:
    """Masks (B, C) as booleans, of images that each have a channel."""
    if present.shape != shape or not np.isin(present, (0, 1)).all():
        raise SampleError(
            f"'present' says for each of {shape[1]} channels whether {what} have it, as booleans; got "
            f"{present.dtype.name} of shape {present.shape[1:]} for each image"
        )
    found = present.astype(bool)
    empty = np.flatnonzero(~found.any(axis=1)).tolist()
    if empty:
        raise DataError(f"image {places[empty[0]]} of {what} has no channel; leave it out")
    return found
