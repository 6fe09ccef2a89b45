"""Model files of strangers: what they say is checked before anything is allocated for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from math import isfinite, prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from anychannel.channels import ChannelSet
from anychannel.nn.channel_input import ModelSpec
from anychannel.nn.subset_batchnorm import by_subset
from anychannel.nn.temperatures import Temperatures
from anychannel.utils.options import coerce_options, is_number, is_texts

FORMAT = 2
"""In format 1 (versions before 0.2) the weights' file lacks the statistics, which are only in ``model.json``."""

OWN_MODULE = "module:"
"""Prefix of the class of a user's own network in ``ModelSpec.model``."""

MOST_CHANNELS = 4096
MOST_BYTES = 64 * 2**20
"""Largest ``model.json``; 1,300 channels with their correlations need about as much."""

SPEC = {part.name for part in fields(ModelSpec)}
CHANNELS = {part.name for part in fields(ChannelSet) if part.init}
DRAWS = (torch.ops.aten.normal_, torch.ops.aten.uniform_)
"""Random numbers, of which a network of millions needs as long as for the rest; the saved weights take their place."""

DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors of reading a description or of building what it describes."""


class ModelFileError(ValueError):
    """A model's files are missing, damaged or of another kind; the message names the file."""


def read_description(path: Path) -> dict[str, Any]:
    """The content of ``model.json``; ModelFileError if it cannot describe a model."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, and no description has more than {MOST_BYTES:,}")
        return check_description(json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant))
    except DAMAGE as error:
        raise ModelFileError(f"{path} describes no model that this version reads: {error or repr(error)}") from error


def refuse_constant(name: str) -> None:
    """Refuse NaN and infinity, which JSON does not have."""
    raise ValueError(f"{name} is not a number that JSON has")


def check_description(values: dict[str, Any]) -> dict[str, Any]:
    """Refuse entries that are unknown, missing, of another type or absurd; return plain values."""
    found = values["format"]
    if type(found) is not int or found < 1:
        raise ValueError(f"format is a whole number from 1, got {found!r}")
    if found > FORMAT:
        raise ValueError(
            f"the model is of format {found}, and this version of anychannel reads formats up to {FORMAT}; upgrade "
            "anychannel"
        )
    channels = values["channels"]
    unknown = [*(values.keys() - SPEC - {"format", "bias", "channels"}), *(channels.keys() - CHANNELS)]
    if unknown:
        raise ValueError(f"it has the unknown entry {min(unknown)}")
    plain = coerce_options(ModelSpec, {name: value for name, value in values.items() if name in SPEC})
    least = 0 if plain["model"].startswith(OWN_MODULE) else 1  # a network of somebody's own may be no classifier
    if plain["num_classes"] < least or (plain.get("in_chans") or 1) < 1:
        raise ValueError("num_classes and in_chans are at least 1")
    if not is_texts(channels["names"]) or len(channels["names"]) > MOST_CHANNELS:
        raise ValueError(f"channels.names is a list of at most {MOST_CHANNELS:,} texts")
    rows = [channels.get("mean"), channels.get("std"), *(channels.get("correlation") or ())]
    rows += (plain.get("normalisation") or {}).values()
    if not all(is_number(value) and isfinite(value) for row in rows for value in row or ()):
        raise ValueError("mean, std, correlation and normalisation are finite numbers")
    if (heat := plain.get("temperatures")) is not None:
        Temperatures(**heat)
    thresholds = plain.get("thresholds")
    if thresholds is not None and not (
        len(thresholds) == plain["num_classes"] and all(0 <= value <= 1 for value in thresholds)
    ):
        raise ValueError("thresholds is a number from 0 to 1 for each class")
    known = set(range(len(channels["names"])))
    for key in plain.get("calibrated") or ():
        if by_subset(tuple(sorted(known & {int(position) for position in key.split("_")}))) != key:
            raise ValueError(f"calibrated names {key!r}, which is no subset of the channels")
    return values | plain


def read_shapes(path: Path) -> dict[str, list[int]]:
    """The shapes of the tensors in a safetensors file, without reading them."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  # not a mapping


@cache
def creates(func: Callable[..., Any]) -> bool:
    """Whether an operation of PyTorch's creates a tensor, and so can be asked for one on some device."""
    return any(argument.name == "device" for argument in func._schema.arguments)  # type: ignore[attr-defined]


class Allowance(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Ends the building of a network that outgrows its weights, before the tensor is allocated.

    ``shapes`` are those of the weights' file; the safetensors library has compared them with its size.
    """

    def __init__(self, shapes: dict[str, list[int]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 2**28 + 64 * sum(map(prod, shapes.values()))
        self.calls = 50_000 + 100 * len(shapes)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No network is compiled meanwhile, and PyTorch would import its compiler to keep out of its way: seconds."""
        return False

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Count an operation and the bytes that it creates."""
        options = kwargs or {}
        self.calls -= 1
        if func.overloadpacket in DRAWS:  # type: ignore[attr-defined]
            return args[0].zero_()
        makes = creates(func)
        first, second = (*args, None, None)[:2]
        if isinstance(first, list | tuple) and all(isinstance(size, int) for size in first):
            self.bytes -= prod(first) * 8  # torch.empty and its like
        elif makes and isinstance(first, Tensor):
            self.bytes -= prod(second if isinstance(second, list | tuple) else first.shape) * 8  # torch.zeros_like ...
        elif func.overloadpacket is torch.ops.aten.eye:  # type: ignore[attr-defined]
            self.bytes -= args[0] * args[-1] * 8
        elif func.overloadpacket is torch.ops.aten.randperm:  # type: ignore[attr-defined]
            self.bytes -= args[0] * 8
        elif makes:  # not for the others, as on the meta device some import PyTorch's compiler
            made = func(*args, **(options | {"device": "meta"}))
            self.bytes -= made.numel() * made.element_size()
        if self.bytes < 0 or self.calls < 0:
            raise ValueError("it describes a network that is larger than its weights")
        return func(*args, **options)
