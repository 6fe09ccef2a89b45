from __future__ import annotations

import functools
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from anychannel.channels import ChannelError, ChannelSet
from anychannel.models import (
    REFERENCE_NETWORKS,
    Classifier,
    ModelFileError,
    adapt,
    create_model,
    create_reference,
    list_models,
    load_model,
    save_model,
)
from anychannel.models.compact import CompactNet
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.channel_sampling import FullSampler, create_sampler
from anychannel.nn.stems import StaticStem

RG = ChannelSet(("R", "G"), mean=(0.5, 0.5), std=(0.2, 0.2))

FAMILIES = {
    "resnet10t": 32,
    "convnext_atto": 32,
    "efficientnet_b0": 32,
    "mobilenetv4_conv_small": 32,
    "regnetx_002": 32,
    "densenet121": 32,
    "vit_tiny_patch16_224": 224,
    "tf_efficientnet_lite0": 33,
}


def test_the_report_networks_have_the_reports_parameter_counts():
    expected = {
        "task_1/resnet18": 11_194_482,
        "task_1/v1": 11_199_730,
        "task_1/v2": 11_204_274,
        "task_1/v4": 11_204_274,
        "task_2/resnet34": 21_302_642,
        "task_2/v1": 205_204,
        "task_2/v2": 212_884,
    }
    counted = {name: sum(p.numel() for p in create_reference(name).parameters()) for name in REFERENCE_NETWORKS}
    # the report's v3 count (11,192,700) lies below a ResNet18 without any first convolution, so it left the kernels out
    assert counted.pop("task_1/v3") == 11_194_482 - 1_728 + 4 * 1_728 + (3 * 4 + 4) + (4 * 4 + 4)
    assert counted == expected


@pytest.mark.parametrize(("name", "size"), FAMILIES.items())
@pytest.mark.parametrize("stem", ["static", "per_size"])
def test_a_timm_model_takes_a_stem_and_any_subset(name, size, stem):
    model = create_model(name, channels="R,G,B,NIR", num_classes=5, stem=stem).eval()
    for names in ("R,G,B,NIR", "NIR", "R,NIR"):
        with torch.no_grad():
            logits = model(torch.randn(1, len(names.split(",")), size, size), channels=names)
        assert logits.shape == (1, 5)
        assert torch.isfinite(logits).all()


def test_the_static_stem_leaves_a_timm_model_what_it_was():
    import timm

    plain = timm.create_model("resnet10t", num_classes=5).eval()
    model = create_model("timm/resnet10t", channels="R,G,B", num_classes=5, stem="static").eval()
    state = {name.replace(".stem.weight", ".weight"): value for name, value in model.backbone.state_dict().items()}
    plain.load_state_dict({name: value for name, value in state.items() if ".channel_input." not in name})
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images), plain(images))


def test_our_names_are_the_reports_networks_and_the_prefix_reaches_timms():
    ours, timms = (create_model(name, channels="R,G,B", num_classes=5) for name in ("resnet18", "timm/resnet18"))
    assert ours.stem.geometry.kernel_size == (3, 3)
    assert ours.stem.geometry.stride == (1, 1)
    assert timms.stem.geometry.kernel_size == (7, 7)
    assert {"resnet18", "compact_k7"} <= set(list_models())
    assert "timm/convnext_atto" in list_models(with_timm=True)


def test_the_stem_sits_where_the_first_convolution_was():
    model = create_model("mobilenetv4_conv_small", channels="a,b", num_classes=3)
    slots = [name for name, module in model.named_modules() if isinstance(module, AdaptiveConv2d)]
    assert slots == ["backbone.conv_stem"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "resnet81"}, r"unknown model 'resnet81' \(did you mean .*the models are resnet18"),
        ({"model": "compact_k7", "model_options": {"wide": 3}}, "'compact_k7' does not take these options.*are width"),
        ({"model": "compact_k7", "model_options": {"in_chans": 3}}, "model 'compact_k7' does not take these options"),
        ({"model": "resnet10t", "model_options": {"wide": 3}}, "model 'resnet10t' does not take these options"),
        ({"stem_options": {"wide": 3}}, "stem 'completion' does not take these options.*settings are ridge"),
        ({"model": "compact_k7", "model_options": {"width": 8}}, "width is .* at least 16, got 8"),
        ({"model_options": {"max_pool": "False"}}, "max_pool must be true or false, got 'False'"),
        ({"stem": "dynamic"}, "unknown stem 'dynamic'; the stems are static"),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"classes": ["a"]}, "num_classes is 4, but 1 class names were given"),
        ({"model": "mixer_s32_224", "channels": "R,G,B", "stem": "nope"}, "unknown stem"),
    ],
)
def test_a_wrong_name_or_option_is_refused_with_the_valid_ones(options, message):
    with pytest.raises(ValueError, match=message):
        create_model(**({"channels": "R,G,B", "num_classes": 4} | options))


@pytest.mark.parametrize("owner", [CompactNet, StaticStem, FullSampler])
def test_a_bug_in_a_constructor_is_not_taken_for_a_wrong_option(owner, monkeypatch):
    @functools.wraps(owner.__init__)
    def broken(*_, **__):
        raise TypeError("unsupported operand type(s) for +: 'int' and 'str'")

    monkeypatch.setattr(owner, "__init__", broken)
    make_model = functools.partial(create_model, "compact_k7", channels="R,G,B", num_classes=2, stem="static")
    make_sampler = functools.partial(create_sampler, "full", 3)
    with pytest.raises(TypeError, match="unsupported operand"):
        make_sampler() if owner is FullSampler else make_model()


def test_an_unknown_reference_network_lists_the_eight():
    with pytest.raises(ValueError, match="unknown reference network 'v2'; they are task_1/resnet18, task_1/v1"):
        create_reference("v2")


def test_images_that_are_no_tensor_are_refused_with_how_to_make_one():
    model = create_model("compact_k7", channels="R,G,B", num_classes=2)
    with pytest.raises(TypeError, match=r"images are a torch tensor .*got ndarray; of an array give torch\.from_numpy"):
        model(np.zeros((2, 3, 8, 8), np.uint8))


def test_a_classifiers_channels_are_as_many_as_its_stems():
    model = create_model("compact_k7", channels="R,G,B", num_classes=2)
    with pytest.raises(ChannelError, match="the stem has 3 input channels"):
        Classifier(model.backbone, ChannelSet(("R", "G")), model.spec)


class Opened:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


class TestLoading:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        save_model(create_model("compact_k7", channels="R,G", num_classes=2, model_options={"width": 16}), tmp_path)
        return tmp_path

    def test_a_missing_file_is_named(self, saved):
        (saved / "weights" / "best.safetensors").unlink()
        with pytest.raises(ModelFileError, match=r"best\.safetensors is missing"):
            load_model(saved)

    def test_a_damaged_description_is_named(self, saved):
        (saved / "model.json").write_text("{")
        with pytest.raises(ModelFileError, match=r"model\.json describes no model"):
            load_model(saved)

    def test_no_file_that_a_description_names_is_opened(self, tmp_path):
        model = create_model("timm/test_resnet", channels="R,G,B", num_classes=2).eval()
        save_model(model, tmp_path)
        description = json.loads((tmp_path / "model.json").read_text())
        foreign = tmp_path / "foreign.pth"
        foreign.write_bytes(pickle.dumps(Opened(tmp_path / "opened")))
        for options in (
            {"checkpoint_path": str(foreign)},
            {"pretrained": True, "pretrained_cfg": {"file": str(foreign)}},
            {"pretrained": True, "pretrained_cfg_overlay": {"file": str(foreign)}, "cache_dir": str(tmp_path / "hub")},
        ):
            (tmp_path / "model.json").write_text(json.dumps(description | {"model_options": options}))
            again = load_model(tmp_path)
            assert again.spec.model_options == {}
            assert torch.equal(again.stem.weight, model.stem.weight)
        assert not (tmp_path / "opened").exists()

    def test_truncated_weights_are_named(self, saved):
        weights = saved / "weights" / "best.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(ModelFileError, match=r"best\.safetensors does not hold the weights"):
            load_model(saved)

    def test_weights_of_another_network_are_named(self, saved):
        description = json.loads((saved / "model.json").read_text())
        (saved / "model.json").write_text(json.dumps(description | {"num_classes": 3, "classes": None}))
        with pytest.raises(ModelFileError, match="does not hold the weights"):
            load_model(saved)

    def test_a_module_under_two_names_and_an_array_among_the_options_are_saved(self, tmp_path):
        network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
        network.append(network[3])
        model = adapt(network, channels=RG, source_channels=RG, stem_options={"correlation": np.eye(2)}).eval()
        save_model(model, tmp_path)
        again = load_model(tmp_path, network=network)
        images = torch.rand(2, 2, 8, 8)
        assert torch.equal(again(images), model(images))


@pytest.mark.parametrize(
    ("count", "options", "learns"),
    [
        (6, {}, False),
        (7, {}, True),
        (7, {"norm": "shared"}, False),
        (7, {"stem_options": {"presence": False}}, False),
        (7, {"stem": "sliced"}, False),
        (6, {"norm": "shared", "stem_options": {"presence": True}}, True),
    ],
)
def test_with_many_channels_completion_learns_to_tell_which_are_missing(count, options, learns, tmp_path):
    names = [f"band_{i}" for i in range(count)]
    model = create_model("compact_k7", channels=names, num_classes=3, model_options={"width": 16}, **options).eval()
    assert (getattr(model.stem, "presence", None) is not None) is learns
    if learns:
        torch.nn.init.normal_(model.stem.presence)
    save_model(model, tmp_path)
    images = torch.rand(2, 3, 12, 12)
    torch.testing.assert_close(load_model(tmp_path)(images, channels=names[:3]), model(images, channels=names[:3]))
    plain = model.specialize(names[:3])
    torch.testing.assert_close(plain(images), model(images, channels=names[:3]), rtol=1e-4, atol=1e-5)
