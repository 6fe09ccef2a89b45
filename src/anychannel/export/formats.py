"""File formats of exported graphs: how each is written, and how it is opened and run again."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from anychannel.utils.extras import need
from anychannel.utils.files import write_atomically
from anychannel.utils.names import unknown_name

METADATA = "anychannel"
"""Key of the metadata: ``metadata_props`` of an ONNX file, ``extra_files`` of a torch.export one."""

INPUTS = ("images", "present")
"""Names of a graph's inputs; the second is there where it takes any subset."""

Run = Callable[..., np.ndarray]
"""Arrays in, in the order of the graph's inputs; logits (B, K) out."""


class FormatError(ValueError):
    """A file's name or contents do not fit a format; the message says what is expected."""


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Args:
        suffix: end of the file's name.
        write: writes a captured graph with its metadata.
        read: gives the metadata and a function that runs the graph.
        needs: packages of the ``onnx`` extra.
    """

    suffix: str
    write: Callable[[ExportedProgram, Path, dict[str, Any]], None]
    read: Callable[[Path], tuple[dict[str, Any], Run]]
    needs: tuple[str, ...] = ()

    def require(self) -> None:
        """Make sure that the packages are there.

        Raises:
            MissingExtraError: one is not.
        """
        for name in self.needs:
            need(name, "onnx", f"a {self.suffix} file")


def write_onnx(program: ExportedProgram, path: Path, metadata: dict[str, Any]) -> None:
    """One ONNX file, weights included; metadata as one JSON value, and each entry by itself as ``anychannel.KEY``.

    Raises:
        FormatError: ONNX has no operation for something that the network does.
    """
    count = len(program.graph_signature.user_inputs)
    axes = ({0: "batch", 2: "height", 3: "width"}, None)  # only names: what is free is decided
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notes to its own developers
        try:
            converted = torch.onnx.export(
                program,
                input_names=INPUTS[:count],
                output_names=["logits"],
                dynamic_shapes=axes[:count],
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).partition("\n")[0]
            raise FormatError(f"PyTorch cannot write this network as ONNX: {reason}; use the format pt2") from error
    assert converted is not None
    properties = converted.model.metadata_props
    properties[METADATA] = json.dumps(metadata)
    for key, value in metadata.items():
        properties[f"{METADATA}.{key}"] = value if isinstance(value, str) else json.dumps(value)
    write_atomically(path, lambda temporary: converted.save(temporary, external_data=False))


def read_onnx(path: Path) -> tuple[dict[str, Any], Run]:
    """The metadata, and the graph in onnxruntime on the CPU."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds of error
        raise FormatError(f"{path} is not an ONNX file that onnxruntime takes: {error}") from error
    names = [value.name for value in session.get_inputs()]

    def run(*arrays: np.ndarray) -> np.ndarray:
        logits: np.ndarray = session.run(None, dict(zip(names, arrays, strict=True)))[0]
        return logits

    return parse_metadata(session.get_modelmeta().custom_metadata_map.get(METADATA), path), run


def write_pt2(program: ExportedProgram, path: Path, metadata: dict[str, Any]) -> None:
    """A ``torch.export`` archive; metadata as the extra file ``anychannel``."""
    extra = {METADATA: json.dumps(metadata)}
    write_atomically(path, lambda temporary: torch.export.save(program, temporary, extra_files=extra))


def read_pt2(path: Path) -> tuple[dict[str, Any], Run]:
    """The metadata, and the reloaded program."""
    extra: dict[str, Any] = {METADATA: ""}
    try:
        module = torch.export.load(path, extra_files=extra).module()
    except Exception as error:  # zip, pickle and torch raise several kinds
        raise FormatError(f"{path} is not a torch.export file: {error}") from error

    @torch.no_grad()
    def run(*arrays: np.ndarray) -> np.ndarray:
        logits: np.ndarray = module(*(torch.from_numpy(array) for array in arrays)).numpy()
        return logits

    return parse_metadata(extra[METADATA], path), run


def parse_metadata(text: str | None, path: Path) -> dict[str, Any]:
    """The metadata of a file that anychannel wrote.

    Raises:
        FormatError: there is none.
    """
    if not text:
        raise FormatError(f"{path} carries no metadata of anychannel; give a file that `anychannel export` wrote")
    values: dict[str, Any] = json.loads(text)
    return values


FORMATS: dict[str, Format] = {
    "onnx": Format(".onnx", write_onnx, read_onnx, needs=("onnx", "onnxscript", "onnxruntime")),
    "pt2": Format(".pt2", write_pt2, read_pt2),
}


def format_named(name: str) -> Format:
    """One of ``FORMATS``.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in FORMATS:
        raise FormatError(unknown_name("format", name, FORMATS))
    return FORMATS[name]


def format_of(path: Path) -> str:
    """Name of the format whose files end as this one.

    Raises:
        FormatError: there is none.
    """
    by_suffix = {kind.suffix: name for name, kind in FORMATS.items()}
    if path.suffix not in by_suffix:
        raise FormatError(f"{path} ends in {path.suffix!r}; exported files end in {' or '.join(by_suffix)}")
    return by_suffix[path.suffix]


def open_export(path: str | Path) -> tuple[dict[str, Any], Run]:
    """Open an exported file again.

    Args:
        path: a file that ``export_model`` wrote.

    Returns:
        Its metadata (see ``anychannel.export.export.describe_export``), and a function that takes float32 images
        (B, k, H, W) (and, for a graph of any subset, a bool vector of the channels that are there) and gives logits.

    Raises:
        FormatError: the file is missing, of another kind, or was not written by anychannel.
        MissingExtraError: a package is missing.
    """
    path = Path(path)
    kind = FORMATS[format_of(path)]
    if not path.is_file():
        raise FormatError(f"{path} is missing")
    kind.require()
    return kind.read(path)
