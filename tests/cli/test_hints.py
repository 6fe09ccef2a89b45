"""Messages about data name the flags of the command at hand."""

from __future__ import annotations

import pytest

from anychannel.cli.app import COMMANDS
from anychannel.cli.common import list_flags, name_flags

TRAIN = list_flags(COMMANDS["train"])


@pytest.mark.parametrize(
    ("command", "text", "expected"),
    [
        ("train", "give nodata='keep' or nodata=NUMBER", "give --nodata keep or --nodata NUMBER"),
        ("predict", "give nodata='keep', or leave it out", "give --nodata keep, or leave it out"),
        ("train", "give layout='planar' (channels first)", "give --set data_options.layout=planar (channels first)"),
        ("predict", "give layout='planar' (channels first)", "give --layout planar (channels first)"),
        ("train", "give scaled=True to use", "give --set data_options.scaled=true to use"),
        ("train", "or check_names=False if", "or --set data_options.check_names=false if"),
        ("train", "give skip_bad=True to leave it out", "give --skip-bad to leave it out"),
        ("train", "Give channels='first,second,...' in", "Give --channels first,second,... in"),
        ("train", "give label='json.class'", "give --set data_options.label=json.class"),
        ("train", "give class_names=['a', 'b'] in", "give --set \"data_options.class_names=['a', 'b']\" in"),
        ("train", "leave epoch_images out", "leave --epoch-images out"),
        ("train", "set ANYCHANNEL_CACHE or cache_dir to", "set ANYCHANNEL_CACHE or --cache to"),
        ("train", "name the labels, as classes='forest,river'", "name the labels, as --classes forest,river"),
        ("evaluate", "with classes=data.classes", "with classes=data.classes"),
        ("sweep", "name the labels, as classes='forest,river'", "name the labels, as --set classes=forest,river"),
        ("sweep", "give convert='rgb'", "give --set data_options.convert=rgb"),
        ("evaluate", "give convert='rgb'", "give `anychannel train` with --convert rgb"),
        ("export", "give layout='planar'", "give `anychannel train` with --set data_options.layout=planar"),
        ("train", "/data/class_names/check_names.png: no such size", "/data/class_names/check_names.png: no such size"),
        ("train", "training.lr=0.1 and mean=3", "training.lr=0.1 and mean=3"),
    ],
)
def test_arguments_become_flags_that_the_command_has(command: str, text: str, expected: str):
    assert name_flags(text, list_flags(COMMANDS[command]), TRAIN) == expected


def test_a_model_that_is_nearly_named_is_suggested_once():
    from anychannel.models import create_model

    with pytest.raises(ValueError, match=r"did you mean ([^?]*)\?") as caught:
        create_model("resnet19", channels="R,G,B", num_classes=2)
    text = str(caught.value)
    near = text[text.index("did you mean ") + 13 : text.index("?")].split(", ")
    assert len(near) == len(set(near))
