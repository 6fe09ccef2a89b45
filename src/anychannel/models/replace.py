"""Another stem for a trained network, without training it again."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from typing import Any

from torch import nn

from anychannel.models.assemble import stem_for
from anychannel.models.first_conv import FirstConv
from anychannel.models.view import as_view
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.classifier import Classifier
from anychannel.nn.stems import StaticStem
from anychannel.nn.temperatures import of_all_channels


def replace_stem(model: nn.Module, stem: str = "completion", **options: Any) -> Any:
    """Copy a trained classifier and give it another stem, which starts from the old one's kernel.

    With ``completion`` the classifier answers any subset as if the missing channels had been estimated from the present
    ones by their correlations, or copied from a single one that they resemble (``grey_single``). Its logits for the
    full set stay the same.

    Args:
        model: a model of ``create_model`` or ``adapt`` whose stem has one kernel (out, C, kh, kw): ``static`` or one
            built on it. For any other network use ``adapt``.
        stem: one of ``list_stems()``.
        options: the stem's keyword options. ``correlation``, (C, C), replaces the one of the model's channels.

    Raises:
        TypeError: the model takes no named channels yet.
        ValueError: the model's stem has no such kernel, or a name or option is unknown.

    Warns:
        UserWarning: ``completion`` needs correlations and none are known.
    """
    given, model = model, as_view(model)
    old = model.stem
    if not isinstance(old, StaticStem):
        raise ValueError(
            f"the model's {type(old).__name__} has no single kernel to start from; "
            "train a network with the static stem, or the new one from the start"
        )
    correlation = options.get("correlation", model.channels.correlation)
    if stem == "completion" and correlation is None and len(model.channels) > 1:
        warnings.warn(
            "the model's channels carry no correlations, so completion can estimate nothing and leaves missing "
            "channels out; give them as correlation=, or train on a data set from load_dataset, which measures them",
            stacklevel=2,
        )
    options = ({"grey_single": True} if stem == "completion" else {}) | options
    bias = None if old.bias is None else old.bias.detach()
    start = FirstConv("", old.weight.detach(), bias, old.geometry)
    new = stem_for(model.channels, stem, start, model.spec.normalisation, options)
    adapted = copy.deepcopy(model)
    for module in adapted.modules():
        if isinstance(module, AdaptiveConv2d):
            module.stem = new
    new.train(model.training)
    adapted.spec = replace(
        model.spec,
        stem=stem,
        stem_options=dict(options),
        temperatures=of_all_channels(model.spec.temperatures, model.channels.names),
    )
    adapted.training = model.training
    return adapted if isinstance(given, Classifier) else adapted.backbone
