"""The configuration of a run: the settings of a recipe (TOML), which command-line flags override."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from anychannel.channels import parse_names
from anychannel.data.sources.registry import SOURCES, find_folder, split_address
from anychannel.data.sources.source import parse_classes
from anychannel.training.settings import MIXING, OFF, TrainingSettings
from anychannel.utils.options import check_options, coerce_option, coerce_options, is_texts

NAMES = ("channels", "only_channels", "source_channels", "track")
"""Settings that list names. A recipe may give them as one string, ``"R,G,B"``."""


class ConfigError(ValueError):
    """A recipe or a flag cannot be used; the message names the setting and the valid ones."""


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run.

    Args:
        data: folder of images, name of an embedded data set, shards (``wds:``) or a Hugging Face data set (``hf:``).
        channels: channel names in the files' order, or a sensor's name. None uses the data set's own names.
        groups: channels by the name of their group, ``{"camera": "R,G,B"}``. None uses the data's or sensor's own; an
            empty table means none.
        only_channels: train and evaluate a network dedicated to these channels. None uses all.
        size: height and width in pixels to which images are resized and cropped. None keeps the files' size.
        classes: use only the first so many classes, or those named, see ``load_dataset``. None uses all.
        data_options: further keyword options of ``load_dataset``.
        model, model_options: see ``create_model``. The folder of a finished run starts from its network.
        pretrained: start from timm's published weights of ``model``; see ``adapt``.
        checkpoint: start from the weights in this file; see ``adapt``.
        source_channels: channels that these weights were trained on. None means R, G, B.
        adapt_options: further options of ``adapt``: fill, normalise, source_range, first_conv.
        stem, stem_options: see ``create_model``.
        norm: see ``create_model``.
        teacher: folder of a finished run whose network is the teacher for ``training.distill``.
        subsets: channel subsets to evaluate, as ``["R,G", "B"]``; a string is one subset. None evaluates all, or a
            sample if there are too many.
        report_name: name of the network in the report, as ``task_1/v2``; None if it is not one of them.
        name: name of the run. None uses the folder's name.
        track: experiment trackers; see ``anychannel.tracking``. None uses none.
        training: see ``TrainingSettings``.

    Raises:
        ValueError: a value has another type; the message names it.
    """

    data: str
    channels: tuple[str, ...] | None = None
    groups: dict[str, Any] | None = None
    only_channels: tuple[str, ...] | None = None
    size: int | None = None
    classes: int | tuple[str, ...] | None = None
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
        if isinstance(values["groups"], Mapping):
            values["groups"] = {name: list(parse_names(members)) for name, members in values["groups"].items()}
        values["classes"] = parse_classes(values["classes"])
        if isinstance(values["subsets"], str):
            values["subsets"] = (values["subsets"],)
        for name, value in coerce_options(RunConfig, values).items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """Build a configuration from plain values, with ``training`` as a nested table.

        Raises:
            ConfigError: a setting is unknown (the message lists the valid ones), ``data`` is missing, or a value has
                another type or is out of range; the message names it.
        """
        try:
            check_options(cls, values)
            table = coerce_option("training", values.get("training", {}), dict[str, Any])
            check_options(TrainingSettings, table, "training.")
            if not values.get("data"):
                raise ConfigError("data is missing: name a folder of images or an embedded data set (--data)")
            settings = TrainingSettings(**coerce_options(TrainingSettings, table, "training."))
            return cls(**{**values, "training": settings})
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values without those that are None, because TOML has no null."""
        values: dict[str, Any] = without_none(asdict(self))
        return values

    def to_toml(self) -> str:
        """The configuration as a recipe."""
        return tomli_w.dumps(self.to_dict())

    def differences(self, other: RunConfig) -> list[str]:
        """Settings whose values differ, as ``training.lr: 0.1 -> 0.2``.

        Paths are compared as absolute paths. Trackers and the time limit are not compared.
        """
        free = dict.fromkeys(("track", "training.time_limit"))
        mine, theirs = (flatten(absolute_paths(config.to_dict())) for config in (self, other))
        return list_changes(mine | free, theirs | free)


def absolute_paths(values: Mapping[str, Any]) -> dict[str, Any]:
    """Make the paths in plain values absolute.

    A path that does not exist stays as it is. The name of a model or of embedded data stays as well, even if a folder
    has the same name; ``./bands`` is the folder.
    """
    found = (("data", is_folder), ("model", is_network), ("teacher", os.path.isdir), ("checkpoint", os.path.isfile))
    located = [key for key in (*dict(found), "data_options") if key in values]
    values = dict(values) | coerce_options(RunConfig, {key: values[key] for key in located})
    given = {key: (os.path.expanduser(values[key]), there) for key, there in found if values.get(key) is not None}
    result = dict(values) | {key: str(Path(path).resolve()) for key, (path, there) in given.items() if there(path)}
    scheme, spec = split_address(result.get("data", ""))
    if spec is None or SOURCES[scheme].embedded:
        return result
    make_absolute = SOURCES[scheme].make_absolute
    options = dict(result.get("data_options", {}))
    files = [split for split in ("val", "test") if set("./") & set(str(options.get(split, "")))]
    options |= {split: make_absolute(options[split]) for split in files}
    return result | {"data": f"{scheme}:{make_absolute(spec)}"} | ({"data_options": options} if options else {})


def check_source(data: str) -> None:
    """Raise DataError if the data are a folder that does not exist."""
    if not split_address(data)[0]:
        find_folder(data)


def is_folder(data: str) -> bool:
    """Whether this is a folder, and not embedded data of the same name."""
    return not split_address(data)[0] and Path(data).is_dir()


def is_network(model: str) -> bool:
    """Whether this is the folder of a saved network, and not a network of the same name."""
    if not (Path(model) / "model.json").is_file():
        return False
    from anychannel.models.adapt import is_saved  # here, since it imports torch

    return is_saved(model)


def without_none(values: Any) -> Any:
    """Copy nested values without entries that are None, and with lists for tuples."""
    if isinstance(values, dict):
        return {key: without_none(value) for key, value in values.items() if value is not None}
    if isinstance(values, list | tuple):
        return [without_none(value) for value in values]
    return values


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested tables to dotted keys: ``{"training": {"lr": 0.1}}`` -> ``{"training.lr": 0.1}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def list_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Entries of two flat tables that differ, as ``training.lr: 0.1 -> 0.2``."""
    return [
        f"{key}: {before.get(key, 'unset')} -> {now.get(key, 'unset')}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Override ``base`` by ``over``; nested tables are merged key by key.

    A preset of augmentation also takes the place of the single options of ``base``.
    """
    merged = {key: value for key, value in base.items() if "augment" not in over or key not in OFF | MIXING}
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def check_typed(values: Mapping[str, Any], typed: Mapping[str, Any]) -> None:
    """Refuse settings that say where data come from, unless they are among those ``typed`` on the command line."""
    given, known = flatten(typed), flatten(values)
    for key in ("data", "data_options.val", "data_options.test"):
        if key in known and known[key] != given.get(key):
            raise ConfigError(
                f"--allow-pipe runs only commands that are typed, and {key} comes from the recipe; give it with "
                f"{'--data' if key == 'data' else f'--set {key}=...'}"
            )


def load_recipe(path: str | Path) -> dict[str, Any]:
    """Read a TOML recipe as plain values."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"recipe {path} does not exist") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"recipe {path} is not valid TOML: {error}") from error


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted keys into nested tables: ``{"training.lr": 0.1}`` -> ``{"training": {"lr": 0.1}}``."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        for part in reversed(key.split(".")[1:]):
            value = {part: value}
        nested = merge(nested, {key.split(".")[0]: value})
    return nested
