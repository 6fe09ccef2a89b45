"""Trained networks to start from: timm's by name, with weights from its hub or a file, a saved classifier, a module."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import timm
from timm.models import load_state_dict
from torch import Tensor, nn

from anychannel.channels import ChannelSet
from anychannel.models.first_conv import FirstConv, read_first_conv
from anychannel.models.head import count_classes
from anychannel.models.kernel_transfer import match_names
from anychannel.models.registry import MODELS, TIMM_PREFIX, create_backbone
from anychannel.models.saving import OWN_MODULE, read_model
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.classifier import Classifier, ModelSpec
from anychannel.nn.module_utils import replace_module
from anychannel.nn.normalisation import Normalisation
from anychannel.nn.subset_batchnorm import SubsetBatchNorm

Weights = str | Path | Mapping[str, Tensor]


class PretrainedError(ValueError):
    """Trained weights cannot be found or do not fit; the message says which and what to do."""


@dataclass(frozen=True)
class Source:
    """A trained network, and what is known about how it was trained.

    Args:
        network: its own copy, with its first layer still in place.
        conv: that first layer.
        channels: what its kernel takes.
        normalisation: how its images were normalised, in the files' units; None if unknown.
        spec: what rebuilds it.
        classifier: the classifier that it is of.
    """

    network: nn.Module
    conv: FirstConv
    channels: ChannelSet
    normalisation: Normalisation | None
    spec: ModelSpec
    classifier: Classifier | None = None


def timm_source(
    name: str,
    channels: ChannelSet,
    *,
    pretrained: bool = True,
    checkpoint: Weights | None = None,
    source_range: float = 255.0,
    first_conv: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Source:
    """A timm network with its trained weights.

    Args:
        name: timm's name, with or without a tag or ``timm/`` in front.
        channels: what it was trained on; its statistics, if it has any, go before timm's.
        pretrained: fetch timm's weights; False takes random ones.
        checkpoint: file or state dictionary to take the weights from instead.
        source_range: what a pixel of 1.0 is in the files' units.
        first_conv: see ``find_first_conv``.
        options: keyword options of the network.

    Raises:
        PretrainedError: the weights cannot be fetched or read, or are another network's.
        ValueError: the name or an option is unknown.
    """
    bare = name.removeprefix(TIMM_PREFIX)
    if name in MODELS:
        raise PretrainedError(
            f"{name!r} is a network of ours, for which there are no published weights; give timm/{name} or the folder "
            "of a finished run"
        )
    values = dict(options or {})
    if checkpoint is not None:
        values |= {"pretrained": True, "pretrained_cfg_overlay": overlay(bare, checkpoint, len(channels))}
    elif pretrained:
        values["pretrained"] = True
        if len(channels) != 3:
            raise PretrainedError(
                f"timm's published weights take 3 channels, source_channels names {len(channels)}; give the file that "
                "holds the weights as checkpoint"
            )
    known = timm.models.get_pretrained_cfg(bare) if timm.is_model(bare.split(".")[0]) else None
    try:
        network = create_backbone(name, len(channels), None, values)
    except ValueError:
        raise
    except Exception as error:  # timm, torch and the hub each have their own
        if checkpoint is None:
            source, fix = "the hub", "; give a local file as checkpoint, or pretrained=False"
        else:
            source, fix = "the checkpoint", name_all(values["pretrained_cfg_overlay"]["state_dict"], known, channels)
        raise PretrainedError(
            f"{source} gave no weights that fit {bare} of {len(channels)} channels: {shorten(error)}{fix}"
        ) from error
    config = dict(getattr(network, "pretrained_cfg", None) or {})
    if checkpoint is not None:  # the weights need not stay in memory twice
        network.pretrained_cfg = config | {"state_dict": None, "first_conv": known and known.first_conv}  # type: ignore[assignment]
    spec = ModelSpec(
        model=TIMM_PREFIX + bare,
        num_classes=int(network.num_classes),  # type: ignore[arg-type]
        stem="static",
        model_options=dict(options or {}),
        first_conv=first_conv,
        in_chans=len(channels),
    )
    conv = read_first_conv(network, len(channels), first_conv)
    return Source(network, conv, channels, trained_normalisation(config, channels, source_range), spec)


def overlay(name: str, checkpoint: Weights, in_chans: int) -> dict[str, Any]:
    """What timm has to know to load these weights as they are, first convolution and head included."""
    if isinstance(checkpoint, Mapping):
        state: Mapping[str, Any] = checkpoint
    elif not Path(checkpoint).is_file():
        raise PretrainedError(f"checkpoint {str(checkpoint)!r} is not a file")
    else:
        try:
            state = load_state_dict(str(checkpoint), weights_only=True)
        except Exception as error:  # torch, timm and safetensors each have their own
            blocked = any(isinstance(each, UnpicklingError) for each in (error, error.__cause__))
            why = "it is damaged, or holds more than tensors, which alone are read" if blocked else shorten(error)
            raise PretrainedError(
                f"checkpoint {str(checkpoint)!r} cannot be read: {why}; give the network's state_dict, as "
                "safetensors or saved with torch.save"
            ) from error
    known = timm.models.get_pretrained_cfg(name) if timm.is_model(name.split(".")[0]) else None
    result: dict[str, Any] = {
        "state_dict": dict(state),
        "custom_load": False,
        "first_conv": None,
        "input_size": (in_chans, *(known.input_size[1:] if known else (224, 224))),
    }
    head = known.classifier if known else None
    rows = [state[f"{part}.weight"] for part in as_tuple(head) if f"{part}.weight" in state]
    return result | ({"num_classes": len(rows[0]), "label_offset": 0} if rows else {})


def name_all(state: Mapping[str, Any], known: Any, channels: ChannelSet) -> str:
    """What to do where a checkpoint's first convolution takes another number of channels than were named."""
    for part in as_tuple(known and known.first_conv):
        weight = state.get(f"{part}.weight")
        if weight is not None and weight.ndim == 4 and weight.shape[1] != len(channels):
            return (
                f"; its first convolution takes {weight.shape[1]} channels, but source_channels names {len(channels)} "
                f"({', '.join(channels.names)}): name those that it was trained on, in their order"
            )
    return ""


def as_tuple(names: Any) -> tuple[str, ...]:
    """timm notes one name, several, or none."""
    return (names,) if isinstance(names, str) else tuple(names or ())


def shorten(error: Exception) -> str:
    """The start of an error's text on one line; torch lists every tensor."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + " ..."


def trained_normalisation(config: Mapping[str, Any], channels: ChannelSet, source_range: float) -> Normalisation | None:
    """How a network's images were normalised: by the channels' statistics where given, else as timm notes it."""
    if source_range <= 0:
        raise ValueError(f"source_range must be positive, got {source_range}")
    if channels.measured:
        return Normalisation.of(channels)
    mean, std = config.get("mean") or (), config.get("std") or ()
    if not len(mean) == len(std) == len(channels):
        return None
    return Normalisation(*(tuple(source_range * value for value in values) for values in (mean, std)))


def module_source(
    module: nn.Module, channels: ChannelSet, *, source_range: float = 255.0, first_conv: str | None = None
) -> Source:
    """The user's own network, copied.

    Raises:
        ValueError: its number of classes is unknown (see ``count_classes``), or see ``find_first_conv``.
    """
    network = copy.deepcopy(module)
    conv = read_first_conv(network, len(channels), first_conv)
    count = count_classes(network, len(channels))
    if count is None:
        raise ValueError(f"the number of classes of {type(module).__name__} is unknown; set its num_classes")
    kind = type(module)
    spec = ModelSpec(
        model=f"{OWN_MODULE}{kind.__module__}.{kind.__qualname__}",
        num_classes=count,
        stem="static",
        first_conv=first_conv,
        in_chans=len(channels),
    )
    config = getattr(network, "pretrained_cfg", None) or getattr(network, "default_cfg", None) or {}
    return Source(network, conv, channels, trained_normalisation(config, channels, source_range), spec)


def classifier_source(model: Classifier | str | Path, target: ChannelSet) -> Source:
    """A trained classifier, or the folder of one, seen through the channels that it shares with ``target``.

    Its stem's kernel for just these is the kernel to start from, and its norms for just these its norms, so that what
    it knows about missing channels is kept; where none is shared, those for all.

    Raises:
        ValueError: the stem makes a kernel for every image, or several; it has none to start from.
    """
    old = model if isinstance(model, Classifier) else read_model(model)
    stem = old.stem
    if stem.per_image:
        raise ValueError(
            f"the model's {type(stem).__name__} makes a kernel for every image and has none to start from; "
            "adapt a network with a static kernel, such as static or completion"
        )
    shared = tuple(sorted(i for i in match_names(old.channels, target) if i is not None)) or old.channels.full
    bias = stem.bias_for(shared)
    network = copy.deepcopy(old.backbone)
    path = next(path for path, module in network.named_modules() if isinstance(module, AdaptiveConv2d))
    for module in list(network.modules()):
        if isinstance(module, SubsetBatchNorm):  # it is for the old channels' subsets
            replace_module(network, module, module.choose(shared))
    conv = FirstConv(path, stem.kernel(shared).detach(), None if bias is None else bias.detach(), stem.geometry)
    used = old.spec.normalisation or Normalisation.of(old.channels)
    kept = Normalisation(tuple(used.mean[i] for i in shared), tuple(used.std[i] for i in shared))
    return Source(network, conv, old.channels.select([old.channels.names[i] for i in shared]), kept, old.spec, old)
