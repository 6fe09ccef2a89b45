"""Another stem for a trained network, without training it again."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from typing import Any

from anychannel.models.hub import Classifier
from anychannel.models.kernel_transfer import wavelength
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.normalisation import moments
from anychannel.nn.stems import StaticStem, build_stem


def replace_stem(model: Classifier, stem: str = "completion", **options: Any) -> Classifier:
    """A copy of a trained classifier with another stem that starts from its kernel.

    With ``completion`` the plain network answers any subset as if its missing channels had been estimated from the
    present ones, using the correlations that the model's channels carry; the full set's answers stay as they are.

    Args:
        model: a classifier whose stem has one kernel of (out, C, kh, kw): ``static`` or built on it.
        stem: one of ``list_stems()``.
        options: the stem's keyword options; ``correlation``, (C, C), stands in for the channels' own.

    Raises:
        ValueError: the model's stem has no such kernel, or a name or option is unknown.

    Warns:
        UserWarning: ``completion`` is asked for and no correlations are known.
    """
    old = model.stem
    if not isinstance(old, StaticStem):
        raise ValueError(
            f"the model's {type(old).__name__} has no single kernel to start from; "
            "train a network with the static stem, or the new one from the start"
        )
    given = moments(model.channels, model.spec.normalisation) | options
    if stem == "completion" and given["correlation"] is None and len(model.channels) > 1:
        warnings.warn(
            "the model's channels carry no correlations, so completion can estimate nothing and leaves missing "
            "channels out; give them as correlation=, or train on a data set from load_dataset, which measures them",
            stacklevel=2,
        )
    new = build_stem(
        stem,
        old.weight.detach(),
        None if old.bias is None else old.bias.detach(),
        old.geometry,
        wavelengths_nm=[wavelength(model.channels, i) for i in range(len(model.channels))],
        **given,
    )
    adapted = copy.deepcopy(model)
    for module in adapted.modules():
        if isinstance(module, AdaptiveConv2d):
            module.stem = new
    adapted.spec = replace(model.spec, stem=stem, stem_options=dict(options))
    return adapted.train(model.training)
