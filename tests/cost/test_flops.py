"""Operations against counts by hand, torch's own counter and calflops itself."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from anychannel.channels import ChannelError, ChannelSet
from anychannel.cost.flops import CountError, Flops, count_flops, count_forward
from anychannel.models import create_model
from anychannel.models.attention import SelfAttention
from anychannel.nn.stems import STEMS

RGB = ChannelSet(("R", "G", "B"))


class Products(nn.Module):
    """Matrix products in one of the spellings that calflops does not see."""

    def __init__(self, spelling):
        super().__init__()
        self.spelling = spelling

    def forward(self, x):
        a, b = x, x.transpose(-1, -2)
        return {
            "bmm": lambda: torch.bmm(a, b),
            "tensor.bmm": lambda: a.bmm(b),
            "@": lambda: a @ b,
            "vector @": lambda: a[0, 0] @ b[0],
        }[self.spelling]()


class Attend(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x, x[:, :, :3], torch.cat([x, x], -1)[:, :, :3])


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        features = self.conv(x)
        if features.sum().item() > 0:  # a size says nothing about this
            return features
        raise RuntimeError("never")


def patched_names():
    """What calflops and the count of products replace while they work."""
    functions = [(F, name) for name in vars(F)]
    tensors = [(torch.Tensor, name) for name in ("matmul", "bmm", "__matmul__", "addmm", "mul", "add")]
    whole = [(torch, name) for name in ("matmul", "bmm", "addmm", "mul", "add", "einsum", "baddbmm")]
    return {(owner.__name__, name): getattr(owner, name) for owner, name in functions + tensors + whole}


def test_a_convolution_counted_by_hand():
    flops = count_forward(nn.Conv2d(3, 8, 3, padding=1, bias=True), (2, 3, 5, 6))
    positions = 2 * 5 * 6
    assert flops == Flops(calflops=2 * positions * 8 * 3 * 9 + positions * 8, products=0)


def test_a_small_network_counted_by_hand():
    network = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(3))
    network.append(nn.Flatten()).append(nn.Linear(2, 5))
    # 7 x 7 -> 3 x 3 -> 1 x 1: convolution, two for each normalised element, activation, pooling's input, linear
    expected = 2 * 9 * 2 * 9 + 2 * 18 + 18 + 18 + 2 * 2 * 5
    assert count_forward(network, (1, 1, 7, 7)) == Flops(expected, 0)
    assert count_forward(network, (4, 1, 7, 7)) == Flops(4 * expected, 0)


def test_grouped_convolutions_count_each_group_alone():
    assert count_forward(nn.Conv2d(8, 8, 3, groups=4, bias=False), (1, 8, 5, 5)).calflops == 2 * 9 * 8 * 2 * 9


def test_self_attention_counted_by_hand():
    batch, n, channels, keys = 3, 20, 16, 2
    flops = count_forward(SelfAttention(channels, keys), (batch, channels, 4, 5))
    widths = keys + keys + channels
    convolutions = batch * n * (2 * channels * widths + widths)
    assert flops.calflops == convolutions + batch * n * n
    assert flops.products == 2 * batch * (n * n * keys + n * n * channels)


@pytest.mark.parametrize("spelling", ["bmm", "tensor.bmm", "@", "vector @"])
def test_products_count_in_every_spelling(spelling):
    expected = 2 * 7 * 5 if spelling == "vector @" else 2 * 4 * 5 * 7 * 5
    assert count_forward(Products(spelling), (4, 5, 7)) == Flops(0, expected)


def test_fused_attention_counts_both_products():
    flops = count_forward(Attend(), (2, 4, 6, 8))  # 6 queries over 3 keys and values of 16
    assert flops == Flops(0, 2 * 2 * 4 * 6 * 3 * (8 + 16))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "xcit_nano_12_p16_224"])
def test_a_transformers_products_equal_torchs_own_count(name):
    network = timm.create_model(name, num_classes=4).eval()
    plain = copy.deepcopy(network).to("meta")
    for module in plain.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        plain(torch.empty(2, 3, 224, 224, device="meta"))
    products = counter.get_flop_counts()["Global"][torch.ops.aten.bmm]
    assert products > 0
    assert count_forward(network, (2, 3, 224, 224)).products == products


def test_multi_head_attention_is_counted_although_torch_would_take_a_fused_path():
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    flops = count_forward(layer, (3, 5, 8))
    assert flops.products == 2 * 3 * 2 * (5 * 5 * 4 + 5 * 5 * 4)
    assert flops.calflops > 2 * 3 * 5 * (8 * 24 + 8 * 8 + 2 * 8 * 16)
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("network", ["resnet18", "compact_k7"])
def test_the_count_equals_calflops_own(network):
    from calflops import calculate_flops

    model = create_model(network, channels=RGB, num_classes=5).eval()
    for module in model.modules():
        if isinstance(module, SelfAttention):
            module.literal = True
    images = torch.zeros(2, 3, 20, 20)
    expected, _, _ = calculate_flops(copy.deepcopy(model), args=[images], print_results=False, output_as_string=False)
    assert count_flops(model, batch_size=2, image_size=20)["gflops_calflops"] == expected / 1e9


@pytest.mark.parametrize("stem", STEMS)
def test_every_stem_is_counted_on_subsets_of_each_size(stem):
    model = create_model("resnet18", channels=RGB, num_classes=5, stem=stem)
    counts = {
        names: count_flops(model, batch_size=2, image_size=16, channels=names)["gflops_calflops"]
        for names in ("R,G,B", "R,B", "G")
    }
    assert all(count > 0 for count in counts.values())
    # the order in which channels are named changes nothing
    assert count_flops(model, batch_size=2, image_size=16, channels="B,R")["gflops_calflops"] == counts["R,B"]


def test_a_plain_stem_costs_less_on_fewer_channels():
    model = create_model("resnet18", channels=RGB, num_classes=5, stem="static")
    full, two = (count_flops(model, batch_size=2, image_size=16, channels=key) for key in ("R,G,B", "R,B"))
    one_plane = 2 * 2 * 16 * 16 * 64 * 9
    assert full["gflops_calflops"] - two["gflops_calflops"] == pytest.approx(one_plane / 1e9, rel=1e-9)


def test_counting_leaves_the_model_and_torch_as_they_were():
    model = create_model("compact_k7", channels=RGB, num_classes=5).train()
    before, names = patched_names(), {name: id(value) for name, value in model.named_parameters()}
    count_flops(model, batch_size=2, image_size=16)
    assert patched_names() == before
    assert {name: id(value) for name, value in model.named_parameters()} == names
    assert model.channel_input.step == 0
    assert model.training
    assert not any(module.literal for module in model.modules() if isinstance(module, SelfAttention))
    assert not any(module._forward_hooks or hasattr(module, "__flops__") for module in model.modules())
    assert model(torch.zeros(2, 3, 16, 16)).isfinite().all()


def test_a_network_that_looks_at_numbers_cannot_be_counted_and_torch_is_put_back():
    before = patched_names()
    with pytest.raises(CountError, match=r"operations of Broken on images of shape \(1, 3, 9, 9\) cannot be counted"):
        count_forward(Broken(), (1, 3, 9, 9))
    assert patched_names() == before
    test_a_convolution_counted_by_hand()


def test_height_and_width_are_counted_each():
    model = create_model("resnet18", channels="R,G", num_classes=2, stem="static")
    square, wide = (count_flops(model, batch_size=2, image_size=size)["gflops_calflops"] for size in (64, (64, 128)))
    assert wide == count_flops(model, batch_size=2, image_size=(128, 64))["gflops_calflops"]
    assert wide == pytest.approx(2 * square, rel=1e-3), "all but the classifier are maps twice as wide"


@pytest.mark.parametrize("sizes", [{"batch_size": 0, "image_size": 8}, {"batch_size": 2, "image_size": 0}])
def test_a_batch_without_a_pixel_is_refused(sizes):
    model = create_model("compact_k7", channels="R,G", num_classes=2, model_options={"width": 16})
    with pytest.raises(ValueError, match=r"(batch|image)_size must be at least 1 (image, got 0|pixel, got 0 x 0)"):
        count_flops(model, **sizes)


def test_large_attention_is_counted_without_its_memory():
    model = create_model("compact_k3", channels=RGB, num_classes=5)
    positions = 512 * 512  # literal scores would take a terabyte in float32
    counts = count_flops(model, batch_size=4, image_size=512)
    products = 1e9 * (counts["gflops_with_attention"] - counts["gflops_calflops"])
    assert products == pytest.approx(2 * 2 * 4 * positions**2 * (8 + 64), rel=1e-9)


def test_a_subset_that_the_stem_refuses_is_named():
    model = create_model("resnet18", channels=RGB, num_classes=5, stem="masked", stem_options={"trained": [0, 1, 2]})
    with pytest.raises(ChannelError, match="was trained on the channel positions"):
        count_flops(model, batch_size=1, image_size=16, channels="R")
    with pytest.raises(ChannelError, match="unknown channel 'X'"):
        count_flops(model, batch_size=1, image_size=16, channels="X")
