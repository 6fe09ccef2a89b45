"""The flags of ``train`` are the settings of a recipe, with the same defaults."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import get_type_hints

from anychannel.cli.train import settings_of, train
from anychannel.runs import RunConfig

HINTS = get_type_hints(train, include_extras=True)
FLAGS = {name: hint.__metadata__[0] for name, hint in HINTS.items() if name != "return"}
SETTINGS = asdict(RunConfig(data="bands"))
SETTINGS |= SETTINGS.pop("training")
NOT_SETTINGS = {
    "out",
    "config",
    "epoch_images",
    "split_by",
    "fold_by",
    "fold",
    "skip_bad",
    "convert",
    "nodata",
    "bands",
    "option",
    "resume",
    "run",
    "cache",
    "cost",
    "quiet",
    "allow_pipe",
}


def test_every_flag_is_a_setting_or_says_how_to_run():
    several = {name: f"{name}s" for name in FLAGS if name.endswith("_option") or name == "group"}
    settings = {several.get(name, name) for name in FLAGS.keys() - NOT_SETTINGS}
    assert settings <= SETTINGS.keys()


def test_defaults_in_the_help_are_the_settings_own():
    found = {name: re.search(r"Default: ([\w.]+)\.$", flag.help) for name, flag in FLAGS.items()}
    stated = {name: match[1] for name, match in found.items() if match and SETTINGS.get(name) is not None}
    assert stated == {name: str(SETTINGS[name]) for name in stated}
    assert stated.keys() >= {"model", "stem", "sampler", "norm", "epochs", "batch_size", "seed", "device"}


def test_flags_become_the_settings_of_a_recipe_and_others_are_left_out():
    given = dict.fromkeys(FLAGS) | {"out": Path("x"), "quiet": False, "cost": True, "resume": False}
    assert settings_of(given) == {"training": {}}
    given |= {"lr": 0.1, "stem": "static", "stem_option": ["a=2"], "sampler_option": ["drop=0.5"], "epoch_images": 9}
    assert settings_of(given | {"checkpoint": Path("w.pt"), "model_option": []}) == {
        "stem": "static",
        "stem_options": {"a": 2},
        "checkpoint": "w.pt",
        "data_options": {"epoch_images": 9},
        "training": {"lr": 0.1, "sampler_options": {"drop": 0.5}},
    }
    given |= {"nodata": "-1", "skip_bad": True, "convert": "rgb", "bands": "{scene}_{band}.tif"}
    options = {"epoch_images": 9, "nodata": -1, "skip_bad": True, "convert": "rgb", "bands": "{scene}_{band}.tif"}
    assert settings_of(given)["data_options"] == options


def test_classes_are_a_number_or_names():
    given = {"5": 5, "oak,pine": ("oak", "pine"), "oak, sea pine": ("oak", "sea pine")}
    for text, expected in given.items():
        assert (
            RunConfig.from_dict({"data": "bands", **settings_of(dict.fromkeys(FLAGS) | {"classes": text})}).classes
            == expected
        )
