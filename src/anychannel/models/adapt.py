"""Any trained network, made to take any subset of your channels, in one call."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anychannel.channels import ChannelSet, as_channel_set
from anychannel.models.assemble import assemble
from anychannel.models.head import replace_head
from anychannel.models.hub import Classifier
from anychannel.models.kernel_transfer import adopt_wavelengths, match_names, resemblance, transfer_kernel
from anychannel.models.pretrained import Source, Weights, classifier_source, module_source, timm_source
from anychannel.models.registry import MODELS
from anychannel.nn.bn_statistics import copy_subset_statistics
from anychannel.nn.normalisation import Normalisation, input_covariance
from anychannel.nn.stems.completion import completion_matrix

NORMALISATIONS = ("source", "data")


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
    start from it; ``transfer.py`` states how. Where there are none, or with ``fill="zero"``, the classifier gives the
    network's own logits on exactly the source's channels.

    Args:
        model: a timm name (``"timm/resnet18"``, ``"convnext_tiny.fb_in1k"``), the folder of a finished run or of
            ``save_model``, a ``Classifier``, or a network of your own (it is copied).
        channels: the full set that the classifier shall know; with measured statistics (``data.channels``) new
            channels are normalised by them and ``completion`` knows the correlations. Names alone are enough where
            the source knows them all.
        source_channels: what the network was trained on, in its order; a ``ChannelSet`` with statistics in the files'
            units also says how its images were normalised. Not used where ``model`` is a classifier.
        stem, stem_options, norm: see ``create_model``.
        num_classes: give the network a new head for so many classes; None keeps its own.
        classes: names of the classes.
        pretrained: fetch timm's published weights.
        checkpoint: take the weights from this file (safetensors or torch) or state dictionary instead.
        model_options: keyword options of a timm network, as ``{"img_size": 84}``.
        first_conv: path of the network's first convolution, as ``"patch_embed.proj"``, where it does not tell itself.
        fill: what channels start from that the source does not know: ``neighbours`` in wavelength, ``mean``, ``zero``.
        normalise: ``source`` keeps the statistics that the network was trained with for the channels it knows;
            ``data`` takes your channels' own, for files of quite another range than the source's.
        source_range: what a pixel of 1.0 in timm's statistics is in your files: 255 for 8 bits.

    Returns:
        A classifier in evaluation mode, on the network's device.

    Raises:
        PretrainedError: weights cannot be fetched or read, or are another network's.
        ValueError: a name or option is unknown, nothing tells how to normalise, the network has no first convolution
            that a stem can replace, or several (the message says what to pass).
        ChannelError: channels' names are not usable.
    """
    if normalise not in NORMALISATIONS:
        raise ValueError(f"unknown normalise {normalise!r}; use one of {', '.join(NORMALISATIONS)}")
    target = as_channel_set(channels)
    known = as_channel_set(source_channels)
    by_name = not isinstance(model, nn.Module) and not is_saved(model)
    if not by_name and (checkpoint is not None or model_options):
        raise ValueError("checkpoint and model_options are for timm's names; this network is there already")
    if isinstance(model, Classifier) or not (by_name or isinstance(model, nn.Module)):
        source = classifier_source(model, target)
    elif isinstance(model, nn.Module):
        source = module_source(model, known, source_range=source_range, first_conv=first_conv)
    else:
        source = timm_source(
            str(model),
            known,
            pretrained=pretrained,
            checkpoint=checkpoint,
            source_range=source_range,
            first_conv=first_conv,
            options=model_options,
        )
    source = restrict(source, target)
    target, normalisation = carry_statistics(source, target, fill, normalise, source_range)
    count = choose_head(source, num_classes, classes)
    spec = replace(
        source.spec,
        num_classes=count,
        stem=stem,
        stem_options=dict(stem_options or {}),
        norm=norm,
        calibrated=(),
        classes=keep_classes(source, num_classes, classes),
        normalisation=normalisation,
    )

    def transfer(weight: Any) -> Any:
        return transfer_kernel(weight, source.channels, target, fill)

    adapted = assemble(source.network, target, spec, transfer=transfer, conv=source.conv).eval()
    if source.classifier is not None and adapted.spec.norm == "statistics":
        copy_subset_statistics(source.classifier, adapted, match_names(source.classifier.channels, target))
    return Classifier.of(adapted)


def is_saved(model: str | Path) -> bool:
    """Whether this is the folder of a classifier; ``resnet18`` is a network's name, ``./resnet18`` may be a folder."""
    return model not in MODELS and (Path(model) / "model.json").is_file()


def carry_statistics(
    source: Source, target: ChannelSet, fill: str, normalise: str, source_range: float
) -> tuple[ChannelSet, Normalisation | None]:
    """The target with statistics, and how its images are normalised (None: by these statistics).

    A channel that the source knows is normalised as the source did; any other by its own statistics, or where it has
    none, by the statistics of the channels that its kernel comes from.
    """
    target = adopt_wavelengths(source.channels, target)
    if normalise == "data":
        if not target.measured:
            raise ValueError("normalise='data' needs channels with statistics; pass channels=data.channels")
        return target, None
    used = source.normalisation
    if used is None:
        raise ValueError(
            f"nothing tells how the images of {source.spec.model} were normalised; pass source_channels=ChannelSet("
            "names, mean=..., std=...) in the files' units, or channels=data.channels with normalise='data'"
        )
    named = match_names(source.channels, target)
    check_range(target, named, used, source_range)
    rows = resemblance(source.channels, target, "mean" if fill == "zero" else fill).tolist()
    mean, std = list(target.mean), list(target.std)
    for i, (match, row) in enumerate(zip(named, rows, strict=True)):
        if match is not None or not target.measured:
            mean[i] = sum(share * value for share, value in zip(row, used.mean, strict=True))
            std[i] = sum(share * value for share, value in zip(row, used.std, strict=True))
    if not target.measured:
        matches = [match for match in named if match is not None]
        if len(matches) == len(named) and source.channels.measured:
            known = source.channels.select([source.channels.names[match] for match in matches])
            target = target.with_statistics(known.mean, known.std, known.correlation)
        else:
            target = target.with_statistics(mean, std)
    kept = Normalisation(tuple(mean), tuple(std))
    return target, None if kept == Normalisation.of(target) else kept


def restrict(source: Source, target: ChannelSet) -> Source:
    """The source without the channels that the target lacks, where its correlations tell how to estimate them."""
    shared = tuple(sorted(i for i in match_names(source.channels, target) if i is not None))
    channels, used = source.channels, source.normalisation
    if channels.correlation is None or used is None or not shared or len(shared) == len(channels):
        return source
    covariance = torch.tensor(input_covariance(channels, used))
    matrix = completion_matrix(covariance, shared, ridge=1e-4).to(source.conv.weight)
    weight = torch.einsum("ocyx,ck->okyx", source.conv.weight, matrix)
    kept = Normalisation(tuple(used.mean[i] for i in shared), tuple(used.std[i] for i in shared))
    return replace(
        source,
        conv=replace(source.conv, weight=weight),
        channels=channels.select([channels.names[i] for i in shared]),
        normalisation=kept,
    )


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


def keep_classes(source: Source, num_classes: int | None, classes: Sequence[str] | None) -> tuple[str, ...] | None:
    """Names of the classes: those given, else the source's where its head stays."""
    if classes is not None:
        return tuple(classes)
    return source.spec.classes if num_classes in (None, source.spec.num_classes) else None


def choose_head(source: Source, num_classes: int | None, classes: Sequence[str] | None) -> int:
    """Give the network a new head where another number of classes is wanted; returns the number."""
    wanted = num_classes if num_classes is not None or classes is None else len(classes)
    if classes is not None and len(classes) != wanted:
        raise ValueError(f"num_classes is {wanted}, but {len(classes)} class names were given")
    if wanted is None:
        if source.spec.num_classes < 1:
            raise ValueError(f"{source.spec.model} comes without a head; pass num_classes")
        return source.spec.num_classes
    if wanted < 1:
        raise ValueError(f"num_classes must be at least 1, got {wanted}")
    named = source.spec.classes
    if wanted != source.spec.num_classes or (named is not None and classes is not None and tuple(classes) != named):
        replace_head(source.network, wanted, source.spec.num_classes)
    return wanted
