"""A network that ``adapt`` returned, seen as a ``Classifier``: what training, evaluation and saving work on."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from anychannel.models.head import count_classes
from anychannel.nn.adapted import ChannelAdaptive
from anychannel.nn.classifier import Classifier


def as_view(model: nn.Module) -> Classifier:
    """A model as a ``Classifier`` that shares its weights and buffers; a ``Classifier`` is returned as it is.

    TypeError if the model does not come from ``adapt``, ``create_model`` or ``load_model``.
    """
    if isinstance(model, Classifier):
        return model
    if not isinstance(model, ChannelAdaptive):
        raise TypeError(
            f"{type(model).__name__} takes no named channels; make it adaptive first with "
            "ac.adapt(model, channels=..., source_channels=...), and pass the result itself, not wrapped or compiled"
        )
    view = Classifier(model)
    view.training = model.training
    if view.spec.num_classes < 1:
        view.spec = replace(view.spec, num_classes=count_classes(model, len(view.channels)) or 0)
    return view


def as_classifier(model: nn.Module) -> Classifier:
    """``as_view`` of a network that is known to be a classifier; ValueError if its number of classes is not known."""
    view = as_view(model)
    if view.spec.num_classes < 1:
        kind = getattr(type(model), "original", type(model)).__name__
        raise ValueError(f"the number of classes of {kind} is unknown; set its num_classes")
    return view
