"""A model on disk: ``model.json`` says how to rebuild it, a safetensors file holds its weights."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from anychannel.channels import ChannelSet
from anychannel.models.assemble import assemble, build_model
from anychannel.models.head import count_classes, replace_head
from anychannel.models.untrusted import (
    DAMAGE,
    FORMAT,
    OWN_MODULE,
    Allowance,
    ModelFileError,
    read_description,
    read_shapes,
)
from anychannel.models.view import as_view
from anychannel.nn.bn_statistics import add_entries
from anychannel.nn.channel_input import ModelSpec
from anychannel.nn.classifier import Classifier
from anychannel.nn.normalisation import Normalisation
from anychannel.nn.temperatures import Temperatures
from anychannel.utils.files import write_atomically, write_json

BEST = "weights/best.safetensors"
"""The weights of the best validation epoch, in a run's folder."""

WEIGHTS = "model.safetensors"
"""The weights in a folder that ``save_pretrained`` wrote."""

DIGEST = "sha256"
"""Entry of a safetensors file's metadata: the digest of its tensors. Files of other programs have none."""

SOURCES_OF_WEIGHTS = ("pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
"""timm options that load weights from files or the hub; a saved model brings its own weights."""


def describe_model(model: Classifier) -> dict[str, Any]:
    """The content of ``model.json``. Refuses options that JSON cannot hold."""
    options = {**model.spec.stem_options, **model.stem.options}
    plain = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in options.items()}
    spec = replace(model.spec, stem_options=plain)
    for kind in ("stem_options", "model_options"):
        for name, value in getattr(spec, kind).items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise ModelFileError(
                    f"{kind} {name}={value!r} cannot be written to model.json ({error}), so that no one could load the "
                    "model again; give numbers, text and lists (timm takes names of layers, as act_layer='silu')"
                ) from error
    bias = model.stem.bias is not None
    values = {name: value for name, value in asdict(spec).items() if (name, value) != ("thresholds", None)}
    return {"format": FORMAT, **values, "bias": bias, "channels": model.channels.to_dict()}


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors with their digest, atomically; without the state of training's draws."""
    tensors: dict[str, Tensor] = {}
    stored: set[int] = set()
    for name, value in state.items():
        if name == "_extra_state":
            continue
        tensor = value.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if place in stored else tensor  # safetensors takes no two names for one tensor
        stored.add(place)
    digest = {DIGEST: digest_of(tensors)}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, digest))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, and check its tensors if it holds a digest; ModelFileError if they do not match it."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        recorded = (file.metadata() or {}).get(DIGEST)
    if recorded is not None and recorded != digest_of(tensors):
        raise ModelFileError(
            f"{path} is damaged: its tensors do not match the digest in it; restore a copy (a program that changes "
            f"weights has to drop the metadata's entry {DIGEST!r})"
        )
    return tensors


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of contiguous tensors of the CPU: their names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_model(model: nn.Module, folder: str | Path, *, weights: str = BEST) -> None:
    """Write ``model.json`` and the weights.

    Args:
        model: a ``Classifier``, or a network that ``adapt`` returned.
        folder: the folder, created if it does not exist.
        weights: file name of the weights inside the folder.

    Raises:
        ModelFileError: an option of the model cannot be written as JSON.
    """
    folder = Path(folder)
    shown = as_view(model)
    write_json(folder / "model.json", describe_model(shown))
    save_weights(shown.state_dict(), folder / weights)


def rebuild_model(description: dict[str, Any], network: nn.Module | None = None, *, twin: bool = False) -> Classifier:
    """The classifier that ``describe_model`` described, with fresh weights.

    The description may be untrusted: no file that it names is opened, and nothing is downloaded. ``network`` is a fresh
    one of the user's own class, if one was adapted; it is copied. For ``twin`` see ``create_backbone``.
    """
    channels = ChannelSet.from_dict(description["channels"])
    values = {part.name: description[part.name] for part in fields(ModelSpec) if part.name in description}
    options = {name: value for name, value in values["model_options"].items() if name not in SOURCES_OF_WEIGHTS}
    classes, used, heat = values["classes"], values.get("normalisation"), values.get("temperatures")
    values |= {"model_options": options, "classes": classes and tuple(classes), "calibrated": ()}
    values |= {"normalisation": used and Normalisation(**used), "temperatures": heat and Temperatures(**heat)}
    values["thresholds"] = None if values.get("thresholds") is None else tuple(values["thresholds"])
    spec = ModelSpec(**values)
    if not spec.model.startswith(OWN_MODULE):
        model = build_model(channels, spec, twin=twin)
    elif network is None:
        raise ModelFileError(
            f"the model was adapted from a network of your own, {spec.model.removeprefix(OWN_MODULE)}; "
            "make one and pass it: load_model(folder, network=...)"
        )
    else:
        given = copy.deepcopy(network)
        now = count_classes(given, spec.in_chans or len(channels)) if spec.num_classes else 0
        if now and now != spec.num_classes:
            replace_head(given, spec.num_classes, now)
        model = assemble(given, channels, spec, keep_kind=True)
    if description.get("bias") and model.stem.bias is None:  # its kernel came from channels that are no longer there
        model.stem.bias = nn.Parameter(torch.zeros(model.stem.out_chans))
    add_entries(model, description.get("calibrated") or ())
    return model


def find_weights(folder: Path) -> str:
    """File name of the weights in a run's folder, or in one of ``save_model`` or ``save_pretrained``."""
    return WEIGHTS if (folder / WEIGHTS).is_file() else BEST


def read_model(
    folder: str | Path, *, weights: str = BEST, network: nn.Module | None = None, twin: bool = False
) -> Classifier:
    """See ``load_model``, and for ``twin`` ``create_backbone``."""
    folder = Path(folder)
    description, tensors = folder / "model.json", folder / weights
    for file in (description, tensors):
        if not file.is_file():
            raise ModelFileError(f"{file} is missing; {folder} is not a folder written by save_model or by training")
    values = read_description(description)
    try:
        shapes = read_shapes(tensors)
        if values["num_classes"] and not any(values["num_classes"] in shape for shape in shapes.values()):
            raise ValueError(f"it has {values['num_classes']:,} classes, and no tensor of {tensors} has as many rows")
        with Allowance(shapes):
            model = rebuild_model(values, network, twin=twin)
    except SafetensorError as error:
        raise ModelFileError(f"{tensors} does not hold the weights of {description}: {error}") from error
    except DAMAGE as error:
        raise ModelFileError(f"{description} cannot be used: {error or repr(error)}") from error
    try:
        state = load_weights(tensors)
        model.channel_input.trained = True
        own, lacking = model.state_dict(), [name for name in model.measured_names() if name not in state]
        if lacking and values["format"] > 1:
            raise ValueError(f"it lacks {', '.join(lacking)}")
        state |= {name: own[name] for name in lacking}
        model.load_state_dict(state)
    except ModelFileError:
        raise
    except Exception as error:  # safetensors and torch raise several kinds
        raise ModelFileError(f"{tensors} does not hold the weights of {description}: {error}") from error
    return model.eval()
