"""Classifiers: stem + backbone, by name; how they are saved and loaded."""

from __future__ import annotations

from anychannel.models.adapt import adapt
from anychannel.models.add_channels import with_channels
from anychannel.models.create import (
    REFERENCE_NETWORKS,
    ReferenceNetwork,
    create_model,
    create_reference,
    load_model,
)
from anychannel.models.hub import Classifier
from anychannel.models.pretrained import PretrainedError
from anychannel.models.registry import MODELS, list_models
from anychannel.models.replace import replace_stem
from anychannel.models.saving import save_model
from anychannel.models.untrusted import ModelFileError
from anychannel.nn.bn_statistics import calibrate
from anychannel.nn.channel_input import ModelSpec

__all__ = [
    "MODELS",
    "REFERENCE_NETWORKS",
    "Classifier",
    "ModelFileError",
    "ModelSpec",
    "PretrainedError",
    "ReferenceNetwork",
    "adapt",
    "calibrate",
    "create_model",
    "create_reference",
    "list_models",
    "load_model",
    "replace_stem",
    "save_model",
    "with_channels",
]
