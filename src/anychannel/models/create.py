"""Create a classifier by the name of its network, or the report's; load a saved one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from anychannel.channels import ChannelSet, as_channel_set
from anychannel.models.assemble import build_model
from anychannel.models.hub import Classifier
from anychannel.models.saving import BEST, read_model
from anychannel.nn.adapted import ChannelAdaptive
from anychannel.nn.channel_input import ModelSpec
from anychannel.nn.channel_sampling import Sampler
from anychannel.nn.normalisation import Normalisation


def create_model(
    model: str = "resnet18",
    *,
    channels: ChannelSet | str | Sequence[str],
    num_classes: int,
    stem: str = "completion",
    stem_options: dict[str, Any] | None = None,
    model_options: dict[str, Any] | None = None,
    norm: str = "auto",
    classes: Sequence[str] | None = None,
    first_conv: str | None = None,
    in_chans: int | None = None,
    normalisation: Normalisation | None = None,
    channel_sampling: str | Sampler | None = "split",
    sampling_options: dict[str, Any] | None = None,
    sampling_seed: int = 0,
) -> Classifier:
    """Build a channel-adaptive classifier.

    Args:
        model: one of ``list_models()`` or any timm name. ``timm/resnet18`` is timm's own, with its 7x7 stem.
        channels: the full set: ``"R,G,B"``, a list of names, a sensor (``"sentinel2"``), or a ``ChannelSet`` with
            statistics. See ``as_channel_set``.
        num_classes: number of classes.
        stem: one of ``list_stems()``.
        stem_options, model_options: keyword options of the stem and of the network.
        norm: which batch norms the subsets share, one of ``list_norms()`` in ``anychannel.nn.subset_batchnorm``.
            ``auto`` decides (see ``choose_norm``).
        classes: names of the classes, saved with the model.
        first_conv: path of the convolution that the stem replaces, such as ``"patch_embed.proj"``, if it is not found.
        in_chans: number of channels that the network is built for before the stem replaces its first convolution. None
            means the full set.
        normalisation: how images are normalised. None means by the channels' statistics.
        channel_sampling, sampling_options, sampling_seed: what is drawn in training mode; see ``adapt``.

    Raises:
        ValueError: a name or option is unknown; the message lists the valid ones.
        ChannelError: a channel name is not usable.
    """
    spec = ModelSpec(
        model=model,
        num_classes=num_classes,
        stem=stem,
        stem_options=dict(stem_options or {}),
        model_options=dict(model_options or {}),
        classes=None if classes is None else tuple(classes),
        norm=norm,
        first_conv=first_conv,
        in_chans=in_chans,
        normalisation=normalisation,
    )
    made = Classifier.of(build_model(as_channel_set(channels), spec))
    made.channel_input.seed = sampling_seed
    if channel_sampling != "split" or sampling_options:
        made.channel_input.sample(channel_sampling, sampling_options)
    return made


def load_model(folder: str | Path, *, weights: str = BEST, network: nn.Module | None = None) -> Any:
    """Load a saved model, in evaluation mode, on the CPU: a ``Classifier``, or an object of your network's class.

    Args:
        folder: a run's folder, or any folder that ``save_model`` wrote.
        weights: file name of the weights inside the folder.
        network: a fresh network of your own class, if the model was adapted from one.

    Raises:
        ModelFileError: a file is missing or damaged, the weights do not fit the network, a newer version wrote the
            files, or ``network`` is needed.
    """
    model = read_model(folder, weights=weights, network=network)
    return model.backbone if isinstance(model.backbone, ChannelAdaptive) else Classifier.of(model)


@dataclass(frozen=True)
class ReferenceNetwork:
    """The names that build one of the report's networks, and the batch size of the report's cost table."""

    model: str
    stem: str
    batch_size: int
    sampler: str = "full"
    model_options: dict[str, Any] = field(default_factory=dict)


REFERENCE_NETWORKS: dict[str, ReferenceNetwork] = {
    "task_1/resnet18": ReferenceNetwork("resnet18", "static", 64),
    "task_1/v1": ReferenceNetwork("resnet18", "masked", 64, model_options={"max_pool": False}),
    "task_1/v2": ReferenceNetwork("resnet18", "per_size", 64),
    "task_1/v3": ReferenceNetwork("resnet18", "kernel_attention", 64),
    "task_1/v4": ReferenceNetwork("resnet18", "per_size", 64, sampler="dropout"),
    "task_2/resnet34": ReferenceNetwork("resnet34", "static", 16),
    "task_2/v1": ReferenceNetwork("compact_k3", "static", 16),
    "task_2/v2": ReferenceNetwork("compact_k7", "static", 16),
}


def create_reference(
    name: str, *, channels: ChannelSet | str = "R,G,B", num_classes: int = 50, **options: Any
) -> Classifier:
    """One of the report's networks, by its key in ``REFERENCE_NETWORKS``; for the rest see ``create_model``."""
    if name not in REFERENCE_NETWORKS:
        raise ValueError(f"unknown reference network {name!r}; they are {', '.join(REFERENCE_NETWORKS)}")
    network = REFERENCE_NETWORKS[name]
    return create_model(
        network.model,
        channels=channels,
        num_classes=num_classes,
        stem=network.stem,
        model_options=network.model_options,
        **options,
    )
