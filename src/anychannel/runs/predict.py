"""Classify image files with a trained run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anychannel.channels import parse_names
from anychannel.data import DataError, read_image, to_tensor
from anychannel.data.files.resize import resize_and_crop
from anychannel.models import load_model
from anychannel.runs.config import RunConfig
from anychannel.runs.folder import read_config, read_record
from anychannel.runs.unlike import find_far, remark_on_type, remark_on_values
from anychannel.utils.sizes import height_width

READING = ("layout", "nodata", "scaled", "check_names")
"""Options under which a run read its data, that hold for new files too."""


def trained_shape(config: RunConfig, record: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width in pixels that a run's images had, by its configuration and its ``run.json``."""
    return height_width(record["image_size"] if config.size is None else config.size)


def to_probabilities(logits: Tensor, name: str) -> Tensor:
    """(1, K) logits of an image as K probabilities.

    Raises:
        DataError: they are not finite.
    """
    if not logits.isfinite().all():
        raise DataError(
            f"{name}: the network's answer is not finite, so its values are far beyond the training images'; bring "
            "them to the same units"
        )
    return torch.softmax(logits.float(), dim=1)[0]


@torch.no_grad()
def predict_files(
    folder: str | Path,
    images: Sequence[str | Path],
    *,
    channels: str | Sequence[str] | None = None,
    top: int = 3,
    layout: str | None = None,
    nodata: float | str | None = None,
) -> list[dict[str, Any]]:
    """Most probable classes of image files.

    Args:
        folder: a run's folder.
        images: files that hold just ``channels``.
        channels: names in the files' order; None means the run's full set.
        top: classes to return for each image.
        layout: ``planar`` or ``interleaved``, where a TIFF does not say; None takes the run's own.
        nodata: for files that mark values as no data: ``"keep"`` or a number, see ``load_dataset``; None: as the run.

    Returns:
        For each file ``{"path", "channels", "top": [{"class", "probability"}], "notes"}``, best class first; the notes
        are sentences about what sets it apart from the training images.

    Raises:
        ChannelError: a channel is unknown.
        DataError: a file cannot be read, holds another number of channels or has values that no answer is finite for.
    """
    model = load_model(folder)
    config = read_config(folder)
    names = model.channels.names if channels is None else parse_names(channels)
    known = model.channels
    known.positions(names)
    reading = {key: value for key, value in config.data_options.items() if key in READING}
    reading |= {key: value for key, value in (("layout", layout), ("nodata", nodata)) if value is not None}
    record = read_record(folder)
    shape = trained_shape(config, record)
    classes = model.classes or tuple(str(index) for index in range(model.spec.num_classes))
    results = []
    for path in images:
        found = read_image(path, channels=known.select(names), **reading)
        pixels = resize_and_crop(found, shape)
        notes = remark_on_type(found.dtype, record) + remark_on_values(find_far(pixels, names, known).values())
        if config.size is None and found.shape[1:] != shape:
            sizes = [f"{height} x {width}" for height, width in (found.shape[1:], shape)]
            notes.append(f"It is {sizes[0]} pixels and was brought to {sizes[1]}, as in training.")
        logits = model(to_tensor(pixels)[None], channels=names)
        probabilities = to_probabilities(logits, str(path))
        best = probabilities.topk(min(top, len(classes)))
        ranked = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        results.append(
            {
                "path": str(path),
                "channels": list(names),
                "top": [{"class": classes[index], "probability": round(value, 4)} for value, index in ranked],
                "notes": notes,
            }
        )
    return results
