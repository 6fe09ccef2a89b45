"""A kernel, scale, shift and statistics for each reduced subset, beside the full set's, which stay as they are.

A network that answers the full set well can learn the other subsets in these weights alone, and its answers to the full
set stay the same to the last bit.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from anychannel.channels import Subset
from anychannel.models.assemble import stem_for
from anychannel.models.first_conv import FirstConv
from anychannel.models.view import as_view
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.bn_statistics import subset_norms
from anychannel.nn.classifier import Classifier
from anychannel.nn.module_utils import replace_module
from anychannel.nn.stems import CompletionStem, StaticStem
from anychannel.nn.stems.static import MOST_CHANNELS as MOST_KERNELS
from anychannel.nn.subset_batchnorm import (
    MOST_CHANNELS,
    NORMS,
    SubsetBatchNorm,
    by_size,
    by_subset,
    keeps_statistics,
    replace_norms,
)
from anychannel.nn.temperatures import of_all_channels


@torch.no_grad()
def with_own_weights(model: nn.Module) -> Any:
    """Copy a trained classifier, or a network that ``adapt`` returned, and give its reduced subsets own weights.

    They start from the weights in use, so the copy's answers are the model's. With up to six channels, or groups of
    channels, each subset has a batch norm of its own, with more each number of channels. With up to eight channels each
    subset has a correction of the first kernel, with more each pair of a missing and a present channel. A network
    without batch norms gets a bias for each missing channel in their place.

    Raises:
        ValueError: the model has one channel, or no kernel that can be corrected for a subset.

    Warns:
        UserWarning: more than six channels or groups, and ``calibrate`` gave subsets statistics, which are lost.
    """
    given, model = model, as_view(model)
    channels = model.channels
    if len(channels) < 2:
        raise ValueError(f"the model has one channel, {channels.names[0]}, which cannot be missing")
    adapted = copy.deepcopy(model)
    normed = any(keeps_statistics(module) for module in model.modules())
    stem = corrected_stem(model, presence=not normed)
    for module in adapted.modules():
        if isinstance(module, AdaptiveConv2d):
            module.stem = stem
    norm, calibrated = model.spec.norm, model.spec.calibrated
    if normed:
        norm = "subset" if len(channels.units) <= MOST_CHANNELS else "size"
        if norm == "size" and calibrated:
            which = ", ".join(channels.key(map(int, name.split("_"))) for name in calibrated)
            warnings.warn(
                f"the statistics that calibrate gave {which} are lost, since with more than {MOST_CHANNELS} channels "
                "(or groups) subsets of as many channels share a batch norm",
                stacklevel=4,
            )
        known = NORMS[norm].entries(channels)
        calibrated = () if norm == "size" else tuple(name for name in calibrated if name not in known)
        give_norms(adapted, norm, [*known, *calibrated])
    options = dict(model.spec.stem_options) | dict(stem.options)
    adapted.spec = replace(
        model.spec,
        stem="completion",
        stem_options=options,
        norm=norm,
        calibrated=calibrated,
        temperatures=of_all_channels(model.spec.temperatures, channels.names),
    )
    adapted.training = model.training
    return adapted if isinstance(given, Classifier) else adapted.backbone


def corrected_stem(model: Classifier, *, presence: bool) -> CompletionStem:
    """A completion stem with the kernels of the model's stem and a correction to learn."""
    old, channels, full = model.stem, model.channels, model.channels.full
    few = len(channels) <= MOST_KERNELS
    completes = isinstance(old, CompletionStem)
    if old.per_image or not (few or completes or type(old) is StaticStem):
        raise ValueError(
            f"the kernels of the model's {type(old).__name__} cannot be corrected for each subset; use a network with "
            "the stem completion or static, or replace_stem()"
        )
    options: dict[str, Any] = {"residual": "subset" if few else "missing"}
    options |= {"presence": True} if presence else {}
    options = dict(old.options) | options if completes else {"correlation": None, "offset": None} | options
    start = FirstConv("", old.kernel(full).detach(), old.bias_for(full), old.geometry)
    new = stem_for(channels, "completion", start, model.spec.normalisation, options)
    assert isinstance(new, CompletionStem)
    if completes:
        known = new.state_dict()
        new.load_state_dict({name: value for name, value in old.state_dict().items() if name in known}, strict=False)
    if new.residuals is not None:
        for subset in channels.subsets():
            if subset != full:
                new.residuals[by_subset(subset)].add_(old.kernel(subset) - new.kernel(subset))
    learns = {name: parameter.requires_grad for name, parameter in old.named_parameters()}
    for name, parameter in new.named_parameters():
        parameter.requires_grad_(learns.get(name, True))
    return new.train(old.training)


def give_norms(model: Classifier, kind: str, names: Sequence[str]) -> None:
    """Replace batch norms, in place, by a kind of ``NORMS`` whose entries start from the batch norms in use.

    An entry for a number of channels starts from that of the model for this number, else from the shared one.
    """
    key, nearest = NORMS[kind].key or by_subset, NORMS[kind].nearest(model.channels)
    replace_norms(model.backbone, lambda norm: SubsetBatchNorm(norm, by_subset))
    for norm in subset_norms(model).values():
        fresh = SubsetBatchNorm(norm.shared, key, names, nearest=nearest)
        for name in names:
            if key is by_size:
                used = norm.entries[name] if name in norm.entries else norm.shared  # noqa: SIM401 - no get
            else:
                used = norm.choose(tuple(map(int, name.split("_"))))
            fresh.entries[name] = copy.deepcopy(used)
        replace_module(model.backbone, norm, fresh)


def own_parameters(model: Classifier) -> list[nn.Parameter]:
    """The parameters that reduced subsets use and the full set does not."""
    stem = model.stem
    found: list[nn.Parameter] = []
    if isinstance(stem, CompletionStem):
        found += [] if stem.residuals is None else list(stem.residuals.values())
        found += [value for value in (stem.residual, stem.presence) if value is not None]
    return found + [value for norm in subset_norms(model).values() for value in norm.entries.parameters()]


def shares_weights(model: Classifier) -> bool:
    """Whether reduced subsets share some of these parameters."""
    stem = model.stem
    alone = isinstance(stem, CompletionStem) and stem.residuals is not None and stem.presence is None
    return not alone or model.spec.norm == "size"


def parameters_of(model: Classifier, subset: Subset) -> list[nn.Parameter]:
    """The parameters that one reduced subset alone uses."""
    stem, name = model.stem, by_subset(subset)
    assert isinstance(stem, CompletionStem)
    assert stem.residuals is not None
    norms = [norm for norm in subset_norms(model).values() if name in norm.entries]
    return [stem.residuals[name], *(value for norm in norms for value in norm.entries[name].parameters())]
