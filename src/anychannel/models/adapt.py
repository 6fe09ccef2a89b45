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
from anychannel.models.first_conv import convolutions
from anychannel.models.head import count_classes, replace_head
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
from anychannel.models.untrusted import OWN_MODULE
from anychannel.nn.adapted import ChannelAdaptive
from anychannel.nn.bn_statistics import copy_subset_statistics, subset_norms
from anychannel.nn.channel_sampling import Sampler
from anychannel.nn.classifier import Classifier as TorchClassifier
from anychannel.nn.normalisation import Normalisation, input_covariance
from anychannel.nn.stems.completion import completion_matrix

NORMALISATIONS = ("source", "data", "none")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of R, G, B over ImageNet's training images, for pixels from 0 to 1."""

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
    source_channels: ChannelSet | str | Sequence[str] | None = None,
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
    channel_sampling: str | Sampler | None = "split",
    sampling_options: Mapping[str, Any] | None = None,
    sampling_seed: int = 0,
) -> Any:
    """Make a trained network take any subset of your channels.

    In training mode, the result draws which of its channels each image of a batch shows, so it learns to do without the
    others in any training loop. At inference, ``model(images, channels=["R", "G"])`` takes what is there.

    A channel that the network knows by name keeps its slice of the first kernel, or shares it with new channels that
    start from it (see ``kernel_transfer.py``). Without new channels, or with ``fill="zero"``, the classifier gives the
    network's own logits on exactly the source's channels.

    Args:
        model: a network of timm, torchvision, transformers, segmentation_models_pytorch or your own, which is copied;
            a timm name (``"timm/resnet18"``, ``"convnext_tiny.fb_in1k"``); the folder of a finished run or of
            ``save_model``; or a ``Classifier``.
        channels: the full set of channels of the new model. Pass ``data.channels``, which has measured statistics:
            they normalise new channels, and ``completion`` uses their correlations. Names alone are enough if the
            source knows all of them.
        source_channels: the channels that the network was trained on, in its order. A ``ChannelSet`` with statistics
            in the files' units also tells how its images were normalised. ``"imagenet"`` is R, G, B with ImageNet's
            statistics. A classifier knows its own. None means R, G, B, or ``channels`` if the network has no
            convolution of three channels, and one of as many as these.
        stem, stem_options, norm: see ``create_model``. ``completion`` has ``grey_single`` by default.
        num_classes: number of classes of a new head. None keeps the network's head.
        classes: names of the classes.
        pretrained: load timm's published weights.
        checkpoint: load the weights from this file (safetensors or torch) or state dictionary instead.
        model_options: keyword options of a timm network, such as ``{"img_size": 84}``.
        first_conv: path of the network's first convolution, such as ``"patch_embed.proj"``, if it is not found.
        fill: what new channels start from: their ``neighbours`` in wavelength, the ``mean`` of all, or ``zero``.
        normalise: ``source`` keeps the statistics that the network was trained with for the channels it knows.
            ``data`` uses the statistics of ``channels``, for files with a very different range of values. ``none`` is
            for a loader that normalises its images already.
        source_range: the value in your files for a pixel of 1.0 in timm's and ImageNet's statistics: 255 for 8 bits.
        channel_sampling: what draws the channels in training mode, a name from ``list_samplers()`` or a ``Sampler``
            that shows each image once. None or ``"full"`` shows all channels.
        sampling_options: keyword options of a sampler by name.
        sampling_seed: seed of the draws. They depend on it and on the number of training passes alone; both are in the
            state dict. Several processes need the same seed.

    Returns:
        For a network, a copy that is still an object of its class, in the network's mode: attributes, outputs and the
        arguments of ``forward`` are its own; ``forward`` also takes ``channels`` and ``present`` (see
        ``Classifier.forward``). For a name, folder or classifier, a ``Classifier`` in evaluation mode. Both are on the
        network's device.

    Raises:
        PretrainedError: weights cannot be downloaded or read, or do not fit the network.
        ValueError: a name or option is unknown or has no effect, the normalisation is unknown, or the network has no
            first convolution that a stem can replace, or several. The message says what to pass.
        ChannelError: a channel name is not usable.
    """
    if normalise not in NORMALISATIONS:
        raise ValueError(f"unknown normalise {normalise!r}; use one of {', '.join(NORMALISATIONS)}")
    target = as_channel_set(channels)
    if source_channels is None:
        source_channels = default_source(model, target)
    known = imagenet(source_range) if source_channels == "imagenet" else as_channel_set(source_channels)
    by_name = not isinstance(model, nn.Module) and not is_saved(model)
    if not by_name and (checkpoint is not None or model_options):
        raise ValueError("checkpoint and model_options are for timm's names; this network is there already")
    given = model if isinstance(model, nn.Module) else None
    of_classifier = not by_name and (given is None or isinstance(given, TorchClassifier | ChannelAdaptive))
    scaled = known.measured and source_channels != "imagenet"
    in_units = "the statistics are in the files' units" if normalise == "data" or scaled else ""
    in_units = "images arrive normalised" if normalise == "none" else in_units
    for name, passed, reason in (
        ("source_channels", known.names != ("R", "G", "B"), "a classifier knows its channels" if of_classifier else ""),
        ("first_conv", first_conv is not None, "a classifier's first convolution is its stem" if of_classifier else ""),
        ("source_range", source_range != 255, "a classifier knows its statistics" if of_classifier else in_units),
        ("pretrained", not pretrained, "" if by_name else "the network has its weights"),
    ):
        if passed and reason:
            raise ValueError(f"{name} has no effect: {reason}; leave it out")
    if isinstance(given, TorchClassifier | ChannelAdaptive):
        view = given if isinstance(given, TorchClassifier) else TorchClassifier(given)
        source = classifier_source(view, target)
    elif given is not None:
        source = module_source(given, known, source_range=source_range, first_conv=first_conv)
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
        source = classifier_source(read_model(str(model)), target)
    if source.classifier is not None and len(target) > 1:
        warn_of_lost_weights(source.classifier)
    source = restrict(source, target)
    target, normalisation = choose_statistics(source, target, fill, normalise, source_range)
    own = source.spec.num_classes, source.spec.classes
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
        temperatures=None,
        thresholds=source.spec.thresholds if (count, names) == own else None,
    )
    transfer = partial(transfer_kernel, source=source.channels, target=target, fill=fill)
    kept = given is not None and not isinstance(given, TorchClassifier)
    adapted = assemble(source.network, target, spec, transfer=transfer, conv=source.conv, keep_kind=kept)
    entrance = adapted.channel_input
    entrance.trained = pretrained or checkpoint is not None
    entrance.seed = sampling_seed
    if channel_sampling != "split" or sampling_options:
        entrance.sample(channel_sampling, sampling_options)
    if source.classifier is not None and adapted.spec.norm == "statistics":
        copy_subset_statistics(source.classifier, adapted, match_names(source.classifier.channels, target))
    return adapted.backbone if kept else Classifier.of(adapted.eval())


def warn_of_lost_weights(model: TorchClassifier) -> None:
    """Warn if subsets of a model's channels have weights of their own, which the adapted model does not keep."""
    norms = [norm for norm in subset_norms(model).values() if norm.entries and not norm.tied]
    if norms or model.spec.stem_options.get("residual", "none") != "none":
        warnings.warn(
            "the model has weights of its own for subsets of its channels (adapt_unlabelled gives them, or "
            f"norm={model.spec.norm!r}), and adapt keeps those of all channels that it shares with the new model; to "
            "learn them again, train the new model or give it to adapt_unlabelled",
            stacklevel=3,
        )


def imagenet(source_range: float) -> ChannelSet:
    """R, G, B with ImageNet's statistics for pixels from 0 to ``source_range``."""
    if source_range <= 0:
        raise ValueError(f"source_range must be positive, got {source_range}")
    mean, std = (tuple(source_range * value for value in values) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ChannelSet(("R", "G", "B"), mean, std)


def default_source(model: str | Path | nn.Module, target: ChannelSet) -> tuple[str, ...]:
    """Names of the channels that a network was probably trained on; see ``adapt``."""
    if not isinstance(model, nn.Module) or isinstance(model, TorchClassifier | ChannelAdaptive):
        return ("R", "G", "B")
    ours = convolutions(model, len(target)) and not convolutions(model, len(IMAGENET_MEAN))
    return target.names if ours else ("R", "G", "B")


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
    if normalise == "none":
        zeros, ones = (0.0,) * len(target), (1.0,) * len(target)
        return (target, Normalisation(zeros, ones)) if target.measured else (target.with_statistics(zeros, ones), None)
    used = source.normalisation
    if used is None:
        raise ValueError(
            f"it is unknown how the images of {source.spec.model} were normalised; pass source_channels='imagenet' if "
            "by ImageNet's statistics, else source_channels=ChannelSet(names, mean=..., std=...) in the files' units, "
            "normalise='none' if your loader normalises them, or channels=data.channels with normalise='data'"
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
    mean, std = ([white * value for value in values] for values in (known.mean, known.std))
    return channels.with_statistics(mean, std, known.correlation)


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
    if num_classes is None and classes is None:
        if own < 1 and not source.spec.model.startswith(OWN_MODULE):
            raise ValueError(f"{source.spec.model} comes without a head; pass num_classes")
        return own, named
    if own < 1:
        own = count_classes(source.network, len(source.channels)) or 0
    wanted = len(classes) if classes is not None else own if num_classes is None else num_classes
    if wanted < 1:
        raise ValueError(f"num_classes must be at least 1, got {wanted}")
    unchanged = named if wanted == own else None
    kept = unchanged if classes is None else tuple(classes)
    if wanted != own or (named is not None and kept != named):
        replace_head(source.network, wanted, own)
    return wanted, kept
