"""Adapt a trained network to any subset of your channels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import mul
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anychannel.channels import ChannelSet, as_channel_set
from anychannel.models.assemble import assemble
from anychannel.models.head import replace_head
from anychannel.models.hub import Classifier
from anychannel.models.kernel_transfer import adopt_wavelengths, match_names, resemblance, transfer_kernel
from anychannel.models.pretrained import (
    Source,
    Weights,
    classifier_source,
    module_source,
    select,
    shared_positions,
    timm_source,
)
from anychannel.models.registry import MODELS
from anychannel.models.saving import read_model
from anychannel.nn.bn_statistics import copy_subset_statistics
from anychannel.nn.normalisation import Normalisation, input_covariance
from anychannel.nn.stems.completion import completion_matrix

NORMALISATIONS = ("source", "data")

PHOTOGRAPHS = ChannelSet(
    ("R", "G", "B"),
    mean=(0.485, 0.456, 0.406),
    std=(0.284, 0.276, 0.290),
    correlation=((1, 0.895, 0.771), (0.895, 1, 0.902), (0.771, 0.902, 1)),
)
"""Statistics of the pixels of ImageNet's photographs, between 0 and 1, for R, G and B that were never measured.

Deviations and correlations follow from the principal components that Krizhevsky, Sutskever and Hinton (2012) shift for
augmentation, with the values of fb.resnet.torch. (The usual 0.229, 0.224 and 0.225 are deviations within an image.)
"""


def adapt(
    model: str | Path | nn.Module,
    *,
    channels: ChannelSet | str | Sequence[str],
    source_channels: ChannelSet | str | Sequence[str] = ("R", "G", "B"),
    stem: str = "completion",
    stem_options: dict[str, Any] | None = None,
    norm: str = "auto",
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    pretrained: bool = True,
    checkpoint: Weights | None = None,
    model_options: Mapping[str, Any] | None = None,
    first_conv: str | None = None,
    fill: str = "neighbours",
    normalise: str = "source",
    source_range: float = 255.0,
) -> Classifier:
    """Make a channel-adaptive classifier from a trained network.

    A channel that the network knows by name keeps its slice of the first kernel, or shares it with new channels that
    start from it (see ``kernel_transfer.py``). Without new channels, or with ``fill="zero"``, the classifier gives the
    network's own logits on exactly the source's channels.

    Args:
        model: a timm name (``"timm/resnet18"``, ``"convnext_tiny.fb_in1k"``), the folder of a finished run or of
            ``save_model``, a ``Classifier``, or a network of your own, which is copied.
        channels: the full set of channels of the new classifier. Pass ``data.channels``, which has measured statistics:
            they normalise new channels, and ``completion`` uses their correlations. Names alone are enough if the
            source knows all of them.
        source_channels: the channels that the network was trained on, in its order. A ``ChannelSet`` with statistics
            in the files' units also tells how its images were normalised. A classifier knows its own.
        stem, stem_options, norm: see ``create_model``. ``completion`` has ``grey_single`` by default.
        num_classes: number of classes of a new head. None keeps the network's head.
        classes: names of the classes.
        pretrained: load timm's published weights.
        checkpoint: load the weights from this file (safetensors or torch) or state dictionary instead.
        model_options: keyword options of a timm network, such as ``{"img_size": 84}``.
        first_conv: path of the network's first convolution, such as ``"patch_embed.proj"``, if it is not found.
        fill: what new channels start from: their ``neighbours`` in wavelength, the ``mean`` of all, or ``zero``.
        normalise: ``source`` keeps the statistics that the network was trained with for the channels it knows.
            ``data`` uses the statistics of ``channels``, for files with a very different range of values.
        source_range: the value in your files for a pixel of 1.0 in timm's statistics: 255 for 8 bits.

    Returns:
        A classifier in evaluation mode, on the network's device.

    Raises:
        PretrainedError: weights cannot be downloaded or read, or do not fit the network.
        ValueError: a name or option is unknown or has no effect, the normalisation is unknown, or the network has no
            first convolution that a stem can replace, or several. The message says what to pass.
        ChannelError: a channel name is not usable.
    """
    if normalise not in NORMALISATIONS:
        raise ValueError(f"unknown normalise {normalise!r}; use one of {', '.join(NORMALISATIONS)}")
    target = as_channel_set(channels)
    known = as_channel_set(source_channels)
    by_name = not isinstance(model, nn.Module) and not is_saved(model)
    if not by_name and (checkpoint is not None or model_options):
        raise ValueError("checkpoint and model_options are for timm's names; this network is there already")
    of_classifier = not by_name and (isinstance(model, Classifier) or not isinstance(model, nn.Module))
    in_units = "the statistics are in the files' units" if normalise == "data" or known.measured else ""
    for name, given, reason in (
        ("source_channels", known.names != ("R", "G", "B"), "a classifier knows its channels" if of_classifier else ""),
        ("first_conv", first_conv is not None, "a classifier's first convolution is its stem" if of_classifier else ""),
        ("source_range", source_range != 255, "a classifier knows its statistics" if of_classifier else in_units),
        ("pretrained", not pretrained, "" if by_name else "the network has its weights"),
    ):
        if given and reason:
            raise ValueError(f"{name} has no effect: {reason}; leave it out")
    if isinstance(model, Classifier):
        source = classifier_source(model, target)
    elif isinstance(model, nn.Module):
        source = module_source(model, known, source_range=source_range, first_conv=first_conv)
    elif by_name:
        source = timm_source(
            str(model),
            known,
            pretrained=pretrained,
            checkpoint=checkpoint,
            source_range=source_range,
            first_conv=first_conv,
            options=model_options,
        )
    else:
        source = classifier_source(read_model(model), target)
    source = restrict(source, target)
    target, normalisation = choose_statistics(source, target, fill, normalise, source_range)
    count, names = choose_head(source, num_classes, classes)
    spec = replace(
        source.spec,
        num_classes=count,
        stem=stem,
        stem_options=({"grey_single": True} if stem == "completion" else {}) | dict(stem_options or {}),
        norm=norm,
        calibrated=(),
        classes=names,
        normalisation=normalisation,
    )
    transfer = partial(transfer_kernel, source=source.channels, target=target, fill=fill)
    adapted = assemble(source.network, target, spec, transfer=transfer, conv=source.conv).eval()
    if source.classifier is not None and adapted.spec.norm == "statistics":
        copy_subset_statistics(source.classifier, adapted, match_names(source.classifier.channels, target))
    return Classifier.of(adapted)


def is_saved(model: str | Path) -> bool:
    """Whether this is the folder of a classifier; ``resnet18`` is a network's name, ``./resnet18`` may be a folder."""
    return model not in MODELS and (Path(model) / "model.json").is_file()


def choose_statistics(
    source: Source, target: ChannelSet, fill: str, normalise: str, source_range: float
) -> tuple[ChannelSet, Normalisation | None]:
    """The target with statistics, and how its images are normalised; None means by these statistics.

    A channel that the source knows is normalised as in the source. Any other is normalised by its own statistics, or
    without these by the statistics of the channels that its kernel comes from.
    """
    target = adopt_wavelengths(source.channels, target)
    if normalise == "data":
        if not target.measured:
            raise ValueError("normalise='data' needs channels with statistics; pass channels=data.channels")
        return target, None
    used = source.normalisation
    if used is None:
        raise ValueError(
            f"it is unknown how the images of {source.spec.model} were normalised; pass source_channels=ChannelSet("
            "names, mean=..., std=...) in the files' units, or channels=data.channels with normalise='data'"
        )
    named = match_names(source.channels, target)
    check_range(target, named, used, source_range)
    rows = resemblance(source.channels, target, "mean" if fill == "zero" else fill).tolist()
    mean, std = list(target.mean), list(target.std)
    for i, (match, row) in enumerate(zip(named, rows, strict=True)):
        if match is not None or not target.measured:
            mean[i], std[i] = (sum(map(mul, row, values)) for values in (used.mean, used.std))
    if not target.measured:
        if None not in named and source.channels.measured:
            known = source.channels.select([source.channels.names[match] for match in named if match is not None])
            target = target.with_statistics(known.mean, known.std, known.correlation)
            target = target if known.correlation else as_photographs(target, None)
        else:
            target = as_photographs(target.with_statistics(mean, std), source_range)
    kept = Normalisation(tuple(mean), tuple(std))
    return target, None if kept == Normalisation.of(target) else kept


def as_photographs(channels: ChannelSet, white: float | None) -> ChannelSet:
    """Some or all of red, green and blue with the statistics of photographs; other channels as they are.

    ``white`` is the value of a pixel of 1.0. None keeps the mean and deviation.
    """
    places = match_names(PHOTOGRAPHS, channels)
    if None in places or len(set(places)) < len(places):
        return channels
    known = PHOTOGRAPHS.select([PHOTOGRAPHS.names[place] for place in places if place is not None])
    if white is None:
        return channels.with_statistics(channels.mean, channels.std, known.correlation)
    scaled = ([white * value for value in values] for values in (known.mean, known.std))
    return channels.with_statistics(*scaled, known.correlation)


def restrict(source: Source, target: ChannelSet) -> Source:
    """The source without the channels that the target lacks, if its correlations allow to estimate them."""
    channels, used = source.channels, source.normalisation
    shared = shared_positions(channels, target)
    if channels.correlation is None or used is None or not shared or len(shared) == len(channels):
        return source
    matrix = completion_matrix(torch.tensor(input_covariance(channels, used)), shared, ridge=1e-4)
    weight = torch.einsum("ocyx,ck->okyx", source.conv.weight, matrix.to(source.conv.weight))
    kept, normalisation = select(channels, used, shared)
    return replace(source, conv=replace(source.conv, weight=weight), channels=kept, normalisation=normalisation)


def check_range(target: ChannelSet, named: Sequence[int | None], used: Normalisation, source_range: float) -> None:
    """Refuse files whose values lie far outside the range that the source's statistics are for."""
    if not target.measured:
        return
    for name, mean, std, match in zip(target.names, target.mean, target.std, named, strict=True):
        if match is None:
            continue
        if abs(mean - used.mean[match]) > 4 * used.std[match] or std > 4 * used.std[match]:
            raise ValueError(
                f"channel {name!r} has mean {mean:g} and std {std:g} in the data, but the source expects about "
                f"{used.mean[match]:g} and {used.std[match]:g} (with {source_range:g} for a pixel of 1.0); pass the "
                "source_range of your files, or normalise='data'"
            )
        if used.std[match] > 20 and mean < 2:
            warnings.warn(
                f"channel {name!r} has mean {mean:g} in the data, the source expects about {used.mean[match]:g}; if "
                "your files hold values from 0 to 1, pass source_range=1",
                stacklevel=4,
            )


def choose_head(
    source: Source, num_classes: int | None, classes: Sequence[str] | None
) -> tuple[int, tuple[str, ...] | None]:
    """The number and names of the classes; the network gets a new head, in place, if it is for others."""
    own, named = source.spec.num_classes, source.spec.classes
    if classes is not None and num_classes not in (None, len(classes)):
        raise ValueError(f"num_classes is {num_classes}, but {len(classes)} class names were given")
    if num_classes is None and classes is None and own < 1:
        raise ValueError(f"{source.spec.model} comes without a head; pass num_classes")
    wanted = len(classes) if classes is not None else own if num_classes is None else num_classes
    if wanted < 1:
        raise ValueError(f"num_classes must be at least 1, got {wanted}")
    unchanged = named if wanted == own else None
    kept = unchanged if classes is None else tuple(classes)
    if wanted != own or (named is not None and kept != named):
        replace_head(source.network, wanted, own)
    return wanted, kept
