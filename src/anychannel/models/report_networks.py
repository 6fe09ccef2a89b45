"""The report's eight networks under its own names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from anychannel.channels import ChannelSet
from anychannel.models.registry import create_model
from anychannel.nn.classifier import Classifier


@dataclass(frozen=True)
class ReferenceNetwork:
    """How one of the report's networks is called here, and the batch size of its cost table."""

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
    """One of the report's networks.

    Args:
        name: a key of ``REFERENCE_NETWORKS``.
        channels, num_classes, options: as ``create_model``.

    Raises:
        ValueError: the name is unknown; the message lists the valid ones.
    """
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
