"""The module that takes any subset by a presence vector, against the model on each subset by itself."""

from __future__ import annotations

import pytest
import torch

import anychannel as ac
from anychannel import create_model
from anychannel.channels import ChannelSet
from anychannel.export.any_subset import AnySubset, AnySubsetError, TabledStem
from anychannel.nn.stems import STEMS, Stem
from anychannel.nn.subset_batchnorm import SubsetBatchNorm
from tests.helpers.export_networks import RGB, pixels, tiny

REFUSING = ("masked", "per_size")
ABLE = [name for name in STEMS if name not in REFUSING]


def assert_equal_on_every_subset(model):
    module = AnySubset(model)
    names = model.channels.names
    for subset in model.channels.subsets():
        images = pixels(3, len(subset))
        whole = torch.full((3, len(names), *images.shape[2:]), float("nan"))
        whole[:, list(subset)] = images
        present = torch.tensor([position in subset for position in range(len(names))])
        expected = model(images, channels=[names[position] for position in subset])
        torch.testing.assert_close(module(whole, present), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stem", ABLE)
def test_one_module_answers_as_the_model_does_on_every_subset(stem):
    assert_equal_on_every_subset(tiny(stem))


@pytest.mark.parametrize(
    "options",
    [{"learn_covariance": True}, {"residual": "missing"}, {"residual": "subset"}, {"ridge": 0.3}, {"presence": True}],
    ids=str,
)
def test_it_knows_the_options_of_completion(options):
    model = tiny(stem_options=options)
    for name, parameter in model.stem.named_parameters():
        if name.startswith(("presence", "residual")):
            torch.nn.init.normal_(parameter, std=0.3)
    assert_equal_on_every_subset(model)


def test_it_carries_the_constant_of_completion_where_a_pretrained_networks_own_normalisation_is_kept():
    channels = ChannelSet(RGB.names, mean=(20.0, 90.0, 200.0), std=RGB.std, correlation=RGB.correlation)
    model = ac.adapt("timm/resnet10t", channels=channels, num_classes=3, pretrained=False, normalise="source").eval()
    assert model.stem.offset.any()
    assert_equal_on_every_subset(model)


@pytest.mark.parametrize("norm", ["size", "statistics", "subset", "stem"])
def test_norm_banks_are_chosen_by_the_presence_vector(norm):
    model = tiny(norm=norm)
    for name, value in model.named_buffers():
        if ".entries." in name and name.endswith("running_mean"):
            value.normal_()
    assert_equal_on_every_subset(model)


def test_statistics_that_were_calibrated_for_a_subset_are_its_own():
    model = tiny()
    ac.calibrate(model, pixels(16, 1), "G")
    ac.calibrate(model, 2 * pixels(16, 2), "R,B")
    assert_equal_on_every_subset(model)


def test_a_network_that_pads_by_the_images_size_can_be_taken():
    options = {"pad_type": "same"}
    model = ac.create_model("timm/test_efficientnet", channels=RGB, num_classes=3, model_options=options)
    assert_equal_on_every_subset(model.eval())


@pytest.mark.parametrize("stem", ["completion", "dofa", "grey"])
def test_a_stem_without_a_closed_form_is_tabled_with_its_biases(stem, monkeypatch):
    monkeypatch.setattr(STEMS[stem], "kernel_where", Stem.kernel_where)
    model = tiny(stem)
    if stem == "completion":
        model.stem.register_buffer("offset", torch.tensor([0.4, -0.3, 0.2]), persistent=False)
    assert any(isinstance(module, TabledStem) for module in AnySubset(model).modules())
    assert_equal_on_every_subset(model)


@pytest.mark.parametrize("name", ["kernel", "bias_for"])
def test_a_stem_of_ones_own_that_inherits_a_form_which_is_not_its_own_is_tabled(name, monkeypatch):
    model = tiny("static")
    kernel, bias = model.stem.kernel, model.stem.bias_for
    changed = {
        "kernel": lambda subset: kernel(subset) * len(subset),
        "bias_for": lambda subset: bias(subset) + len(subset),
    }
    monkeypatch.setattr(STEMS["static"], name, lambda self, subset: changed[name](subset))
    assert any(isinstance(module, TabledStem) for module in AnySubset(model).modules())
    assert_equal_on_every_subset(model)


@pytest.mark.parametrize("stem", REFUSING)
def test_a_stem_that_has_no_such_form_is_refused_by_name(stem):
    message = f"the {STEMS[stem].__name__} has no kernel .* train one of the stems static, completion, sliced"
    with pytest.raises(AnySubsetError, match=message) as error:
        AnySubset(tiny(stem))
    assert stem not in str(error.value).partition("stems ")[2].split(", ")


def test_the_model_stays_as_it_is():
    model = tiny(norm="subset")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    AnySubset(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


GROUPED = ChannelSet(tuple("RGBH"), (120.0,) * 4, (60.0,) * 4, groups={"camera": "R,G", "rest": "B,H"})


@pytest.mark.parametrize("norm", ["statistics", "stem"])
def test_a_subset_of_no_whole_groups_takes_the_statistics_that_the_model_takes(norm):
    model = create_model("compact_k7", channels=GROUPED, num_classes=3, norm=norm, model_options={"width": 16}).eval()
    for module in model.modules():
        if isinstance(module, SubsetBatchNorm):
            for number, entry in enumerate(module.entries.values()):
                torch.nn.init.constant_(entry.running_mean, 0.3 * number + 0.2)
    assert_equal_on_every_subset(model)
