"""File formats of exported graphs: writing a file, and opening and running it again."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from anychannel.utils.extras import need
from anychannel.utils.files import write_atomically

METADATA = "anychannel"
"""Key of the metadata: in ``metadata_props`` of an ONNX file, in ``extra_files`` of a torch.export file."""

INPUTS = ("images", "present")
"""Names of a graph's inputs. Only graphs for any subset have the second."""

OUTPUTS = ("logits", "probabilities")
"""Names of the outputs of an ONNX file."""

Run = Callable[..., np.ndarray]
"""Takes arrays in the order of the graph's inputs, and returns (B, K) logits."""

RunAll = Callable[..., list[np.ndarray]]
"""Likewise, and returns all outputs in the order of ``OUTPUTS``."""


class ExportError(ValueError):
    """The export cannot be done as requested, or a file is not an export; the message says what to change."""


@dataclass(frozen=True)
class Format:
    """A file format, and the packages of the extra ``onnx`` that it needs.

    ``write`` takes a captured graph and its metadata. ``read`` returns the metadata and a function that runs the graph.
    Graphs give ``outputs`` tensors: logits or, with two, also probabilities.
    """

    suffix: str
    write: Callable[[ExportedProgram, Path, dict[str, Any]], None]
    read: Callable[[Path], tuple[dict[str, Any], RunAll]]
    needs: tuple[str, ...] = ()
    outputs: int = 1

    def require(self) -> None:
        """Raise MissingExtraError if a package is not installed."""
        for name in self.needs:
            need(name, "onnx", f"a {self.suffix} file")


def write_onnx(program: ExportedProgram, path: Path, metadata: dict[str, Any]) -> None:
    """Write one ONNX file with weights. The metadata are one JSON value, and each entry again as ``anychannel.KEY``."""
    count = len(program.graph_signature.user_inputs)
    axes = ({0: "batch", 2: "height", 3: "width"}, None)  # only names; the program says which ones are free
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notes to its own developers
        try:
            converted = torch.onnx.export(
                program,
                input_names=INPUTS[:count],
                output_names=OUTPUTS,
                dynamic_shapes=axes[:count],
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).partition("\n")[0]
            raise ExportError(f"PyTorch cannot write this network as ONNX: {reason}; use the format pt2") from error
    assert converted is not None
    properties = converted.model.metadata_props
    properties[METADATA] = json.dumps(metadata)
    for key, value in metadata.items():
        properties[f"{METADATA}.{key}"] = value if isinstance(value, str) else json.dumps(value)
    write_atomically(path, lambda temporary: converted.save(temporary, external_data=False))


def read_onnx(path: Path) -> tuple[dict[str, Any], RunAll]:
    """Open an ONNX file in onnxruntime on the CPU."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds of error
        raise ExportError(f"{path} is not an ONNX file that onnxruntime takes: {error}") from error
    names = [value.name for value in session.get_inputs()]

    def run(*arrays: np.ndarray) -> list[np.ndarray]:
        outputs: list[np.ndarray] = session.run(None, dict(zip(names, arrays, strict=True)))
        return outputs

    return parse_metadata(session.get_modelmeta().custom_metadata_map.get(METADATA), path), run


def write_pt2(program: ExportedProgram, path: Path, metadata: dict[str, Any]) -> None:
    """Write a ``torch.export`` archive with the metadata as the extra file ``anychannel``."""
    extra = {METADATA: json.dumps(metadata)}
    buffer = BytesIO()  # PyTorch's own writing aborts the process if the disk is full
    torch.export.save(program, buffer, extra_files=extra)
    write_atomically(path, lambda temporary: temporary.write_bytes(buffer.getbuffer()))


def read_pt2(path: Path) -> tuple[dict[str, Any], RunAll]:
    """Open a ``torch.export`` archive on the CPU."""
    extra: dict[str, Any] = {METADATA: ""}
    try:
        module = torch.export.load(path, extra_files=extra).module()
    except Exception as error:  # zip, pickle and torch raise several kinds
        raise ExportError(f"{path} is not a torch.export file: {error}") from error

    @torch.no_grad()
    def run(*arrays: np.ndarray) -> list[np.ndarray]:
        return [module(*(torch.from_numpy(array) for array in arrays)).numpy()]

    return parse_metadata(extra[METADATA], path), run


def parse_metadata(text: str | None, path: Path) -> dict[str, Any]:
    """Read the metadata of a file that anychannel wrote."""
    if not text:
        raise ExportError(f"{path} has no metadata of anychannel; give a file that `anychannel export` wrote")
    values: dict[str, Any] = json.loads(text)
    return values


FORMATS: dict[str, Format] = {
    "onnx": Format(".onnx", write_onnx, read_onnx, needs=("onnx", "onnxscript", "onnxruntime"), outputs=len(OUTPUTS)),
    "pt2": Format(".pt2", write_pt2, read_pt2),
}


def format_of(path: Path) -> str:
    """Name of the format of a file, by its ending."""
    by_suffix = {kind.suffix: name for name, kind in FORMATS.items()}
    if path.suffix not in by_suffix:
        raise ExportError(f"{path} ends in {path.suffix!r}; exported files end in {' or '.join(by_suffix)}")
    return by_suffix[path.suffix]


def open_export(path: str | Path) -> tuple[dict[str, Any], Run]:
    """Open an exported file.

    Args:
        path: a file that ``export_model`` wrote.

    Returns:
        The metadata (see ``anychannel.export.export.describe_export``) and a function that runs the graph. It takes
        (B, k, H, W) float32 images and, for a graph for any subset, a bool vector of the present channels. It returns
        (B, K) logits.

    Raises:
        ExportError: the file is missing, has another format, or was not written by anychannel.
        MissingExtraError: a package is not installed.
    """
    metadata, run = open_outputs(path)
    return metadata, lambda *arrays: run(*arrays)[0]


def open_outputs(path: str | Path) -> tuple[dict[str, Any], RunAll]:
    """As ``open_export``, with a function that returns all outputs."""
    path = Path(path)
    kind = FORMATS[format_of(path)]
    if not path.is_file():
        raise ExportError(f"{path} is missing")
    kind.require()
    return kind.read(path)
