"""Add channels to a trained classifier."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from anychannel.channels import ChannelError, ChannelSet, as_channel_set
from anychannel.models.assemble import stem_for
from anychannel.models.first_conv import FirstConv
from anychannel.models.kernel_transfer import wavelengths
from anychannel.models.view import as_view
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.bn_statistics import copy_subset_statistics
from anychannel.nn.classifier import Classifier
from anychannel.nn.forward_pass import stem_paths
from anychannel.nn.module_utils import replace_module, set_width
from anychannel.nn.normalisation import Normalisation
from anychannel.nn.stems import CompletionStem, Stem
from anychannel.nn.stems.descriptor import DescribedStem
from anychannel.nn.stems.static import GreyStem, SlicedStem, StaticStem
from anychannel.nn.subset_batchnorm import MOST_CHANNELS, SubsetBatchNorm, install_norms
from anychannel.utils.names import unknown_name

NEW = ("generated", "nearest", "zero")
MEASURED = ("correlation", "offset")
"""Options of a stem that are measured on the channels it has."""


def with_channels(
    model: nn.Module,
    channels: ChannelSet | str | Sequence[str],
    *,
    new: str | None = None,
    embedding: Sequence[Sequence[float]] | None = None,
) -> Any:
    """Copy a trained classifier and add channels to it, without training it again.

    Logits for subsets of the model's own channels stay the same, to rounding. ``completion`` is the exception: it
    adopts the correlations of ``channels`` if they have any, and estimates new channels from the others.

    Args:
        model: a model of ``create_model`` or ``adapt`` with norm ``shared`` or ``statistics``. ``statistics`` becomes
            ``shared`` if there are too many channels for it; the old subsets keep their statistics. ``calibrate``
            measures new subsets' own.
        channels: the model's channels and the new ones, in any order. New channels need a mean and standard deviation,
            measured on unlabelled images. The model's channels keep its statistics.
        new: how a new channel gets a kernel. ``generated`` makes it from the channel's descriptor (stems
            ``descriptor`` and ``dofa``). ``nearest`` copies the slice of the channel nearest in wavelength. ``zero``
            sets it to zeros, so that the channel is ignored; ``completion`` and ``grey`` still estimate missing
            channels from it. None means ``generated`` for the stems that can, ``zero`` for ``grey``, else ``nearest``.
        embedding: one vector for each of ``channels``, if the stem was built with vectors.

    Raises:
        ChannelError: a channel of the model is missing, or statistics or wavelengths are.
        ValueError: ``new`` is unknown or does not fit the stem, or the model has whole batch norms for subsets.
    """
    given, model = model, as_view(model)
    if model.spec.norm not in ("shared", "statistics"):
        raise ValueError(
            f"a model with norm={model.spec.norm!r} has batch norms for the old channels' subsets; "
            "add channels to one with norm shared or statistics"
        )
    channels = as_channel_set(channels)
    absent = [name for name in model.channels.names if name not in channels.names]
    if absent:
        raise ChannelError(f"channels must hold the model's own too; {', '.join(absent)} is missing")
    if model.channels.measured and not channels.measured:
        raise ChannelError("new channels need statistics, measured on images without labels: pass data.channels")
    old = model.stem
    how = new or ("generated" if isinstance(old, DescribedStem) else "zero" if isinstance(old, GreyStem) else "nearest")
    if how not in NEW:
        raise ValueError(unknown_name("new", how, NEW))
    if embedding is not None and how != "generated":
        raise ValueError(f"embedding has no effect: new={how!r} makes no kernel from it; leave it out")
    known = [model.channels.names.index(name) if name in model.channels.names else None for name in channels.names]
    merged = keep_known(model.channels, channels, known)
    used = model.spec.normalisation
    if used is not None:
        used = Normalisation(pick(merged.mean, used.mean, known), pick(merged.std, used.std, known))
    stem: Stem
    if how == "generated":
        if not isinstance(old, DescribedStem):
            raise ValueError(f"{type(old).__name__} generates no kernels from descriptors; use new='nearest' or 'zero'")
        stem = copy.deepcopy(old)
        stem.redescribe(len(merged), wavelengths(merged), embedding)
    else:
        stem = widen_stem(model, merged, known, how, used)
    wider = copy.deepcopy(model)
    for module in list(wider.backbone.modules()):
        if isinstance(module, AdaptiveConv2d):
            module.stem = stem.train(model.training)
        if isinstance(module, SubsetBatchNorm):
            replace_module(wider.backbone, module, module.shared)
    norm = model.spec.norm if len(merged) <= MOST_CHANNELS else "shared"
    spec = replace(
        model.spec,
        stem_options={key: value for key, value in model.spec.stem_options.items() if key not in MEASURED},
        normalisation=used,
        in_chans=model.spec.in_chans or old.in_chans,
        norm=norm,
        calibrated=(),
    )
    wider = type(model)(wider.backbone, merged, spec)
    wider.training = model.training
    if wider.channel_input.wide:
        set_width(wider.backbone, stem_paths(wider.backbone)[0], len(model.channels), len(merged))
    install_norms(wider.backbone, norm, merged)
    copy_subset_statistics(model, wider, known)
    return wider if isinstance(given, Classifier) else wider.backbone


def pick(new: Sequence[Any], own: Sequence[Any], known: Sequence[int | None]) -> tuple[Any, ...]:
    """One value for each channel: the model's ``own`` for a channel that it knows, at position ``known``."""
    return tuple(value if j is None else own[j] for value, j in zip(new, known, strict=True))


def keep_known(own: ChannelSet, channels: ChannelSet, known: Sequence[int | None]) -> ChannelSet:
    """``channels`` with the model's own statistics and wavelengths for those that it knows."""
    pairs = zip(pick(channels.wavelengths_nm, own.wavelengths_nm, known), channels.wavelengths_nm, strict=True)
    correlation = channels.correlation
    if correlation is None and own.correlation is not None:  # the new channels count as independent
        correlation = widen(own.correlation, known)
    merged = replace(channels, wavelengths_nm=tuple(mine or theirs for mine, theirs in pairs))
    return merged.with_statistics(pick(channels.mean, own.mean, known), pick(channels.std, own.std, known), correlation)


def widen(matrix: Sequence[Sequence[float]], known: Sequence[int | None]) -> tuple[tuple[float, ...], ...]:
    """A correlation matrix of the known channels, with new ones that correlate with none of them."""
    return tuple(
        tuple(matrix[a][b] if a is not None and b is not None else float(i == j) for j, b in enumerate(known))
        for i, a in enumerate(known)
    )


@torch.no_grad()
def widen_stem(
    model: Classifier, channels: ChannelSet, known: Sequence[int | None], how: str, used: Normalisation | None
) -> Stem:
    """A stem of the same kind whose kernel has a slice for each of ``channels``."""
    old = model.stem
    options = {key: value for key, value in {**model.spec.stem_options, **old.options}.items() if key not in MEASURED}
    if not isinstance(old, StaticStem) or options.get("residual", "none") != "none" or options.get("learn_covariance"):
        raise ValueError(
            f"{type(old).__name__} with {options} has parts that belong to its own channels; add channels to a static, "
            "sliced, grey or plain completion stem, or train with the stem descriptor"
        )
    if isinstance(old, GreyStem) and how == "nearest":
        raise ValueError(
            "a grey stem hands the slices of missing channels to the present ones, so copied slices of new channels "
            "would change the logits for the model's own; use new='zero'"
        )
    weight = old.weight.new_zeros(old.out_chans, len(channels), *old.geometry.kernel_size)
    for i, j in enumerate(known):
        if j is not None:
            weight[:, i] = old.weight[:, j]
        elif how == "nearest":
            weight[:, i] = old.weight[:, nearest(channels, i, model.channels)]
    if isinstance(old, SlicedStem):  # the scale grows with the number of channels
        weight *= (old.in_chans / len(channels)) ** old.power
    if isinstance(old, CompletionStem) and channels.correlation is None:  # what it was given as options
        offset = None if old.offset is None else pick([0.0] * len(known), old.offset.tolist(), known)
        options |= {"correlation": widen(old.covariance.tolist(), known), "offset": offset}
    stem = stem_for(channels, model.spec.stem, FirstConv("", weight, old.bias, old.geometry), used, options)
    if isinstance(stem, CompletionStem) and isinstance(old, CompletionStem) and old.presence is not None:
        assert stem.presence is not None
        for i, j in enumerate(known):
            if j is not None:
                stem.presence[i] = old.presence[j]
    return stem


def nearest(channels: ChannelSet, position: int, own: ChannelSet) -> int:
    """Position in ``own`` of the channel nearest in wavelength, of two equally near the shorter one."""
    here = wavelengths(channels)[position]
    waves = {j: wave for j, wave in enumerate(wavelengths(own)) if wave is not None}
    if here is None or not waves:
        raise ChannelError(
            f"channel {channels.names[position]!r} or the model's have no wavelength, so none is nearest; give them "
            "('NIR @ 842 nm'), or use new='zero'"
        )
    return min(waves, key=lambda j: (abs(waves[j] - here), waves[j]))
