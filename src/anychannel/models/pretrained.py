"""Trained networks to start from: timm's by name, with weights from its hub or a file, a saved classifier, a module."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from torch import Tensor, nn

from anychannel.channels import ChannelSet
from anychannel.models.first_conv import FirstConv, as_tuple, read_first_conv
from anychannel.models.head import noted_classes
from anychannel.models.kernel_transfer import match_names
from anychannel.models.registry import MODELS, TIMM_PREFIX, create_backbone
from anychannel.models.saving import load_weights
from anychannel.models.untrusted import OWN_MODULE
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.channel_input import ModelSpec
from anychannel.nn.classifier import Classifier
from anychannel.nn.module_utils import plain_copy, replace_module
from anychannel.nn.normalisation import Normalisation
from anychannel.nn.subset_batchnorm import SubsetBatchNorm
from anychannel.utils.files import is_stored

WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")
"""Prefixes of a network's names inside DistributedDataParallel and averaged models, ``torch.compile`` and Lightning."""

WRAPPED = ("OptimizedModule", "DistributedDataParallel", "DataParallel", "AveragedModel")
"""Classes of wrappers of torch's."""

Weights = str | Path | Mapping[str, Tensor]


class PretrainedError(ValueError):
    """Trained weights cannot be found or do not fit; the message says which and what to do."""


@dataclass(frozen=True)
class Source:
    """A trained network, and what is known about how it was trained.

    ``network`` is a copy with its first convolution, ``conv``, still in place. ``channels`` are the ones that the
    kernel takes. ``normalisation`` is in the files' units; None means unknown. ``spec`` rebuilds the network.
    ``classifier`` is the classifier that the network comes from, if any.
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
    pretrained: bool,
    checkpoint: Weights | None,
    source_range: float,
    first_conv: str | None,
    options: Mapping[str, Any] | None,
) -> Source:
    """A timm network, by its name with or without ``timm/``, with its trained weights; for the rest see ``adapt``."""
    bare = name.removeprefix(TIMM_PREFIX)
    if name in MODELS:
        raise PretrainedError(
            f"{name!r} is a network of ours, for which there are no published weights; give timm/{name} or the folder "
            "of a finished run"
        )
    import timm  # here, since timm takes seconds to import

    values = dict(options or {})
    known = timm.models.get_pretrained_cfg(bare) if timm.is_model(bare.split(".")[0]) else None
    state: dict[str, Any] = {}
    if checkpoint is not None:
        state = read_checkpoint(checkpoint)
        values |= {"pretrained": True, "pretrained_cfg_overlay": overlay(state, known, len(channels))}
    elif pretrained:
        values["pretrained"] = True
        if len(channels) != 3:
            raise PretrainedError(
                f"timm's published weights take 3 channels, source_channels names {len(channels)}; give the file that "
                "holds the weights as checkpoint"
            )
    try:
        network = create_backbone(name, len(channels), None, values)
    except ValueError:
        raise
    except Exception as error:  # timm, torch and the hub each have their own
        if checkpoint is None:
            source, fix = "the hub", "; give a local file as checkpoint, or pretrained=False"
        else:
            source, fix = "the checkpoint", name_all(state, known, channels)
        raise PretrainedError(
            f"{source} gave no weights that fit {bare} of {len(channels)} channels: {shorten(error)}{fix}"
        ) from error
    config = dict(getattr(network, "pretrained_cfg", None) or {})
    if checkpoint is not None:  # the weights need not stay in memory twice
        network.pretrained_cfg = config | {"state_dict": None, "first_conv": known and known.first_conv}  # type: ignore[assignment]
    conv = read_first_conv(network, len(channels), first_conv)
    spec = ModelSpec(
        TIMM_PREFIX + bare,
        int(network.num_classes),  # type: ignore[arg-type]
        "static",
        model_options=dict(options or {}),
        first_conv=first_conv,
        in_chans=len(channels),
    )
    return Source(network, conv, channels, trained_normalisation(config, channels, source_range), spec)


def read_checkpoint(checkpoint: Weights) -> dict[str, Any]:
    """The state dictionary in a file, or the one given, without wrappers' prefixes."""
    if isinstance(checkpoint, Mapping):
        return unwrap_names(checkpoint)
    if not Path(checkpoint).is_file():
        raise PretrainedError(f"checkpoint {str(checkpoint)!r} is not a file")
    from timm.models import load_state_dict  # here, since timm takes seconds to import

    try:
        if not is_stored(Path(checkpoint)):
            raise ValueError("it is compressed, and takes more memory than its size says")
        if Path(checkpoint).suffix == ".safetensors":
            return unwrap_names(load_weights(Path(checkpoint)))
        state = unwrap_names(load_state_dict(str(checkpoint), weights_only=True))
    except Exception as error:  # torch, timm and safetensors each have their own
        blocked = any(isinstance(each, UnpicklingError) for each in (error, error.__cause__))
        why = "it is damaged, or holds more than tensors, which alone are read" if blocked else shorten(error)
        raise PretrainedError(
            f"checkpoint {str(checkpoint)!r} cannot be read: {why}; give the network's state_dict, as "
            "safetensors or saved with torch.save"
        ) from error
    return state


def unwrap_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict without wrappers' prefixes, if most names have one; a wrapper's own entries are left out."""
    for wrapper in WRAPPERS:
        inside = {name.removeprefix(wrapper): value for name, value in state.items() if name.startswith(wrapper)}
        if 2 * len(inside) > len(state):
            return unwrap_names(inside)
    return dict(state)


def overlay(state: dict[str, Any], known: Any, in_chans: int) -> dict[str, Any]:
    """The ``pretrained_cfg_overlay`` with which timm loads all weights, first convolution and head included."""
    result: dict[str, Any] = {
        "state_dict": state,
        "custom_load": False,
        "first_conv": None,
        "input_size": (in_chans, *(known.input_size[1:] if known else (224, 224))),
    }
    heads = as_tuple(known and known.classifier)
    rows = [state[f"{part}.weight"] for part in heads if f"{part}.weight" in state]
    return result | ({"num_classes": len(rows[0]), "label_offset": 0} if rows else {})


def name_all(state: Mapping[str, Any], known: Any, channels: ChannelSet) -> str:
    """The advice for a checkpoint whose first convolution takes another number of channels than were named."""
    for part in as_tuple(known and known.first_conv):
        weight = state.get(f"{part}.weight")
        if weight is not None and weight.ndim == 4 and weight.shape[1] != len(channels):
            return (
                f"; its first convolution takes {weight.shape[1]} channels, but source_channels names {len(channels)} "
                f"({', '.join(channels.names)}): name those that it was trained on, in their order"
            )
    return ""


def shorten(error: Exception) -> str:
    """The start of an error's text on one line; torch lists every tensor."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + " ..."


def trained_normalisation(config: Mapping[str, Any], channels: ChannelSet, source_range: float) -> Normalisation | None:
    """How a network's images were normalised: by the channels' statistics if measured, else as timm's config says."""
    if source_range <= 0:
        raise ValueError(f"source_range must be positive, got {source_range}")
    if channels.measured:
        return Normalisation.of(channels)
    mean, std = config.get("mean") or (), config.get("std") or ()
    if not len(mean) == len(std) == len(channels):
        return None
    return Normalisation(*(tuple(source_range * value for value in values) for values in (mean, std)))


def module_source(module: nn.Module, channels: ChannelSet, *, source_range: float, first_conv: str | None) -> Source:
    """A copy of the user's own network."""
    if type(module).__name__ in WRAPPED:
        raise ValueError(f"{type(module).__name__} wraps a network; adapt the network itself, and wrap the result")
    network = copy.deepcopy(module)
    conv = read_first_conv(network, len(channels), first_conv)
    count = noted_classes(network)
    kind = type(module)
    name = f"{OWN_MODULE}{kind.__module__}.{kind.__qualname__}"
    spec = ModelSpec(name, count, "static", first_conv=first_conv, in_chans=len(channels))
    config = getattr(network, "pretrained_cfg", None) or getattr(network, "default_cfg", None) or {}
    return Source(network, conv, channels, trained_normalisation(config, channels, source_range), spec)


def classifier_source(old: Classifier, target: ChannelSet) -> Source:
    """A trained classifier, reduced to the channels that it shares with ``target``, or with all if it shares none.

    Takes the stem's kernel and the batch norms of exactly these channels, which preserves what the classifier has
    learned about missing channels.
    """
    stem = old.stem
    if stem.per_image:
        raise ValueError(
            f"the model's {type(stem).__name__} makes a kernel for every image and has none to start from; "
            "adapt a network with a static kernel, such as static or completion"
        )
    shared = shared_positions(old.channels, target) or old.channels.full
    bias = stem.bias_for(shared)
    network = plain_copy(old.backbone)
    path = next(path for path, module in network.named_modules() if isinstance(module, AdaptiveConv2d))
    for module in list(network.modules()):
        if isinstance(module, SubsetBatchNorm):  # it is for the old channels' subsets
            replace_module(network, module, module.choose(shared))
    conv = FirstConv(path, stem.kernel(shared).detach(), None if bias is None else bias.detach(), stem.geometry)
    used = old.spec.normalisation or Normalisation.of(old.channels)
    return Source(network, conv, *select(old.channels, used, shared), old.spec, old)


def shared_positions(channels: ChannelSet, target: ChannelSet) -> tuple[int, ...]:
    """Ascending positions of the channels that ``target`` has too."""
    return tuple(sorted(i for i in match_names(channels, target) if i is not None))


def select(channels: ChannelSet, used: Normalisation, positions: Sequence[int]) -> tuple[ChannelSet, Normalisation]:
    """Some of the channels, and their normalisation."""
    kept = Normalisation(tuple(used.mean[i] for i in positions), tuple(used.std[i] for i in positions))
    return channels.select([channels.names[i] for i in positions]), kept
