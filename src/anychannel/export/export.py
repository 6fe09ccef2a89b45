"""Export a classifier for one subset of its channels, or for any subset."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anychannel.export.any_subset import AnySubset
from anychannel.export.formats import FORMATS, ExportError
from anychannel.export.graph import Sizes, capture
from anychannel.export.probabilities import Logits, WithProbabilities
from anychannel.models.view import as_classifier
from anychannel.nn.classifier import Classifier
from anychannel.nn.temperatures import Temperatures, temperature_of
from anychannel.utils.files import check_place
from anychannel.utils.names import unknown_name
from anychannel.utils.sizes import ImageSize, height_width, plain_size
from anychannel.utils.version import __version__

ANY = "any"
"""Value of ``channels`` for a graph that accepts every subset."""

UNITS = "the files' own (0-255 for 8-bit images); normalisation is part of the graph"


def export_model(
    model: nn.Module,
    path: str | Path,
    *,
    channels: str | Sequence[str] | None = None,
    format: str = "onnx",  # noqa: A002 - the word of the command line
    image_size: ImageSize = 224,
    free_size: bool = True,
) -> dict[str, Any]:
    """Write a classifier as a graph that runs without anychannel. The batch size is always free.

    An ONNX file has the outputs ``logits`` and ``probabilities``, in which the temperature is applied; a torch.export
    file returns logits. The graph computes in float32, whatever the type of the model's weights.

    Args:
        model: a ``Classifier``, or a network that ``adapt`` returned. It is not changed.
        path: the file to write, with the format's suffix.
        channels: the subset, in the images' channel order. None is the full set. ``"any"`` writes one graph for every
            subset, which takes images with all channels and a bool vector of the present ones.
        format: one of ``FORMATS``.
        image_size: height and width in pixels that the graph must accept: one number, or ``(height, width)``.
        free_size: try to leave height and width free.

    Returns:
        The metadata of the file; see ``describe_export``.

    Raises:
        ChannelError: a channel name is unknown or repeats.
        OSError: the file cannot be written.
        ValueError: the format is unknown, the file's name does not fit it, ``image_size`` is invalid, packages are
            missing, the stem cannot be exported for any subset, or PyTorch cannot capture the network.
    """
    model = as_classifier(model)
    if format not in FORMATS:
        raise ExportError(unknown_name("format", format, FORMATS))
    kind, path = FORMATS[format], Path(path)
    kind.require()
    if path.suffix != kind.suffix:
        raise ExportError(f"a file of format {format} ends in {kind.suffix}, got {path.name}")
    size = height_width(image_size)
    if channels == ANY and ANY in model.channels.names:
        raise ExportError(f"a channel is called {ANY!r}, which stands for every subset; give channels as a list")
    check_place(path)
    places = model.channels.positions(None if channels == ANY else channels)
    names = tuple(model.channels.names[place] for place in places)
    here = (
        copy.deepcopy(model).cpu().float().eval().to(memory_format=torch.contiguous_format)
    )  # predict may leave another
    with warnings.catch_warnings():  # torch.export captures what fx cannot trace
        warnings.filterwarnings("ignore", message=".*cannot be traced")
        module: nn.Module = AnySubset(here) if channels == ANY else Logits(here.specialize(names))
    if kind.outputs > 1:
        module = WithProbabilities(module, model, names, any_subset=channels == ANY)
    with torch.no_grad():
        program, sizes = capture(module, len(names), size, presence=channels == ANY, free=free_size)
    metadata = describe_export(model, names, sizes, subset=ANY if channels == ANY else "one")
    kind.write(program, path, metadata)
    return metadata


def describe_export(model: Classifier, names: Sequence[str], sizes: Sizes, *, subset: str) -> dict[str, Any]:
    """The metadata of an exported file.

    ``channels`` are those of the images in order, with the ``mean`` and ``std`` that normalise them, ``all_channels``
    those of the model. ``classes`` are in the order of the logits. ``thresholds``, if an image may have several labels,
    are the probabilities from which it has each; the probability is the sigmoid of the logit. ``fixed_size`` is one
    number or ``[height, width]``, None if height and width are free. ``temperature`` is what logits are divided by for
    probabilities: one number, or of a graph for any subset the tables of ``Temperatures``.
    """
    heat = model.spec.temperatures or Temperatures((1.0,) * len(model.channels))
    places = list(model.channels.positions(names))
    return {
        "version": __version__,
        "channels": list(names),
        "subset": subset,
        "all_channels": list(model.channels.names),
        "units": UNITS,
        "mean": model.mean.flatten()[places].tolist(),
        "std": model.std.flatten()[places].tolist(),
        "temperature": asdict(heat) if subset == ANY else temperature_of(model, names),
        "classes": None if model.classes is None else list(model.classes),
        **({} if model.spec.thresholds is None else {"thresholds": list(model.spec.thresholds)}),
        "model": model.spec.model,
        "stem": model.spec.stem,
        "sizes": str(sizes),
        "fixed_size": None if sizes.fixed is None else plain_size(sizes.fixed),
        "least_size": sizes.least,
        "size_multiple": sizes.multiple,
    }
