"""Export: ONNX and torch.export files for one subset or any, and folders for the Hugging Face Hub."""

from __future__ import annotations

from anychannel.export.any_subset import AnySubset
from anychannel.export.export import ANY, export_model
from anychannel.export.formats import FORMATS, ExportError, format_of, open_export
from anychannel.export.hub import card_facts, export_run_to_hub_folder, run_image_size
from anychannel.export.parity import Parity, check_export, check_hub_folder

__all__ = [
    "ANY",
    "FORMATS",
    "AnySubset",
    "ExportError",
    "Parity",
    "card_facts",
    "check_export",
    "check_hub_folder",
    "export_model",
    "export_run_to_hub_folder",
    "format_of",
    "open_export",
    "run_image_size",
]
