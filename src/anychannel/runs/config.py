"""A run's configuration: what a recipe (TOML) may set and flags may override."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import tomli_w

from anychannel.channels import parse_names
from anychannel.data.sources.registry import SOURCES, split_address
from anychannel.models.adapt import is_saved
from anychannel.training import TrainingSettings
from anychannel.utils.options import coerce_option, coerce_options, is_texts

NAMES = ("channels", "only_channels", "source_channels", "track")
"""Settings that list names, and may do so in one text."""


class ConfigError(ValueError):
    """A recipe or a flag that cannot be used; the message names the key and the valid ones."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run.

    Args:
        data: folder of images, an embedded data set's name, or shards or a Hugging Face data set (``wds:``, ``hf:``).
        channels: names of the files' channels in the files' order, or a sensor's name; None takes the data set's own.
        only_channels: train and evaluate on just these of them, as a network dedicated to them; None takes all.
        size: height and width in pixels to which images are brought; None keeps the files' size.
        classes: use only the first so many classes; None uses all.
        data_options: further keyword options of ``load_dataset``.
        model, model_options: see ``create_model``; the folder of a finished run starts from its network.
        pretrained: start from timm's published weights of ``model``; see ``adapt``.
        checkpoint: start from the weights in this file; see ``adapt``.
        source_channels: what these weights were trained on; None means R, G, B.
        adapt_options: further options of ``adapt``: fill, normalise, source_range, first_conv.
        stem, stem_options: see ``create_model``.
        norm: see ``create_model``.
        teacher: folder of a finished run whose network ``training.distill`` learns from.
        subsets: channel subsets to evaluate, as ``["R,G", "B"]``; text is one subset. None takes all, or a sample
            where there are too many.
        report_name: which of the report's networks this is, as ``task_1/v2``; None if none.
        name: what to call the run; None takes the folder's name.
        track: experiment trackers to log to, see ``anychannel.tracking``; None logs to none.
        training: see ``TrainingSettings``.

    Raises:
        ValueError: a value is of another type; the message names it.
    """

    data: str
    channels: tuple[str, ...] | None = None
    only_channels: tuple[str, ...] | None = None
    size: int | None = None
    classes: int | None = None
    data_options: dict[str, Any] = field(default_factory=dict)
    model: str = "resnet18"
    model_options: dict[str, Any] = field(default_factory=dict)
    pretrained: bool = False
    checkpoint: str | None = None
    source_channels: tuple[str, ...] | None = None
    adapt_options: dict[str, Any] = field(default_factory=dict)
    stem: str = "completion"
    stem_options: dict[str, Any] = field(default_factory=dict)
    norm: str = "auto"
    teacher: str | None = None
    subsets: tuple[str, ...] | None = None
    report_name: str | None = None
    name: str | None = None
    track: tuple[str, ...] | None = None
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        values: dict[str, Any] = dict(vars(self))
        named = [key for key in NAMES if isinstance(values[key], str) or is_texts(values[key])]
        values |= {key: parse_names(values[key]) for key in named}
        if isinstance(values["subsets"], str):
            values["subsets"] = (values["subsets"],)
        for name, value in coerce_options(RunConfig, values).items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """Build from plain values, ``training`` being a table of its own.

        Raises:
            ConfigError: a key is unknown (the message lists the valid ones), ``data`` is missing, or a value is of
                another type or out of range; the message names it.
        """
        check_keys(values, cls, "")
        try:
            table = coerce_option("training", values.get("training", {}), dict[str, Any])
            check_keys(table, TrainingSettings, "training.")
            if not values.get("data"):
                raise ConfigError("data is missing: name a folder of images or an embedded data set (--data)")
            settings = TrainingSettings(**coerce_options(TrainingSettings, table, "training."))
            return cls(**{**values, "training": settings})
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is None is left out, since TOML has no null."""
        values: dict[str, Any] = without_none(asdict(self))
        return values

    def to_toml(self) -> str:
        """The configuration as a recipe."""
        return tomli_w.dumps(self.to_dict())

    def differences(self, other: RunConfig) -> list[str]:
        """Keys whose values differ, as ``training.lr: 0.1 -> 0.2``.

        Two ways to write a path make no difference, nor does who is told of the run.
        """
        mine, theirs = (flatten(absolute_paths(config.to_dict())) for config in (self, other))
        keys = sorted(mine.keys() | theirs.keys())
        return [
            f"{key}: {mine.get(key, 'unset')} -> {theirs.get(key, 'unset')}"
            for key in keys
            if key != "track" and mine.get(key) != theirs.get(key)
        ]


def absolute_paths(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values whose folders and files are absolute, so that they mean the same from anywhere.

    What is not there stays as it is, and so does the name of a network or of embedded data, even where a folder is
    called the same; ``./bands`` is the folder.

    Raises:
        ValueError: one that says where something is is of another type.
    """
    found = (("data", is_folder), ("model", is_saved), ("teacher", os.path.isdir), ("checkpoint", os.path.isfile))
    located = [key for key in (*dict(found), "data_options") if key in values]
    values = dict(values) | coerce_options(RunConfig, {key: values[key] for key in located})
    given = {key: (expand(values[key]), there) for key, there in found if values.get(key) is not None}
    result = dict(values) | {key: str(Path(path).resolve()) for key, (path, there) in given.items() if there(path)}
    scheme, spec = split_address(result.get("data", ""))
    if spec is None or SOURCES[scheme].embedded:
        return result
    make_absolute = SOURCES[scheme].make_absolute
    options = dict(result.get("data_options", {}))
    files = [split for split in ("val", "test") if set("./") & set(str(options.get(split, "")))]
    options |= {split: make_absolute(options[split]) for split in files}
    return result | {"data": f"{scheme}:{make_absolute(spec)}"} | ({"data_options": options} if options else {})


def expand(path: str) -> str:
    """The home folder written out; a leading ``./``, which tells a folder from a name, stays."""
    return str(Path(path).expanduser()) if path.startswith("~") else path


def is_folder(data: str) -> bool:
    """Whether this is a folder, and not embedded data of the same name."""
    return not split_address(data)[0] and Path(data).is_dir()


def check_keys(values: Mapping[str, Any], kind: type, prefix: str) -> None:
    """Refuse keys that a dataclass does not have."""
    valid = [entry.name for entry in fields(kind)]
    for key in values:
        if key not in valid:
            near = get_close_matches(key, valid, n=1)
            hint = f" (did you mean {prefix}{near[0]}?)" if near else ""
            raise ConfigError(f"unknown setting {prefix}{key}{hint}; the settings are {', '.join(valid)}")


def without_none(values: Any) -> Any:
    """A copy without entries that are None, tuples turned into lists."""
    if isinstance(values, dict):
        return {key: without_none(value) for key, value in values.items() if value is not None}
    if isinstance(values, list | tuple):
        return [without_none(value) for value in values]
    return values


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``; tables are merged key by key."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def load_recipe(path: str | Path) -> dict[str, Any]:
    """Values of a TOML recipe.

    Raises:
        ConfigError: the file is missing or not TOML, which is UTF-8.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"recipe {path} does not exist") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path} is not valid TOML: {error}") from error


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as tables: ``{"training.lr": 0.1}`` -> ``{"training": {"lr": 0.1}}``."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        for part in reversed(key.split(".")[1:]):
            value = {part: value}
        nested = merge(nested, {key.split(".")[0]: value})
    return nested
