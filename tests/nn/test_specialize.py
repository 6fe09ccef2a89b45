from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import fx, nn

from anychannel.channels import ChannelError, ChannelSet
from anychannel.models import MODELS, calibrate, create_model
from anychannel.nn.specialize import SpecializeError
from anychannel.nn.stems import STEMS, Stem
from anychannel.nn.subset_batchnorm import NORMS
from tests.reference.models import specialised

RGB = ChannelSet(
    ("R", "G", "B"),
    mean=(120.0, 110.0, 100.0),
    std=(60.0, 55.0, 50.0),
    correlation=((1.0, 0.9, 0.8), (0.9, 1.0, 0.9), (0.8, 0.9, 1.0)),
)
ABLE = [name for name, kind in STEMS.items() if not kind.per_image or kind.basis_kernels is not Stem.basis_kernels]
"""All but stems whose kernels have no basis."""


UNTRACED = "timm/test_efficientnet"
OPTIONS = {"compact_k7": {"width": 16}, UNTRACED: {"pad_type": "same"}}
"""Padding by the size of the images cannot be traced."""


def make(model: str = "compact_k7", stem: str = "completion", **options):
    options = {"model_options": OPTIONS.get(model)} | options
    classifier = create_model(model, channels=RGB, num_classes=4, stem=stem, **options)
    for module in classifier.modules():  # statistics and gates as after training
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return classifier.eval()


def pixels(channels: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, channels, 32, 32)).float()


def difference(model, names: str) -> float:
    images = pixels(len(names.split(",")))
    plain = model.specialize(names)
    expected = model(images, channels=names)
    return float(((plain(images) - expected).abs().max() / expected.abs().max().clamp(min=1)).detach())


@pytest.mark.parametrize("stem", ABLE)
def test_the_plain_module_equals_the_model(stem):
    model = make(stem=stem)
    for names in [RGB.key(subset) for subset in RGB.subsets()] + ["B,R"]:
        assert difference(model, names) < 1e-5, names


@pytest.mark.parametrize("norm", NORMS)
def test_the_plain_module_equals_its_literal_twin_in_outputs_and_gradients(norm):
    model = make("timm/resnet10t", norm=norm)
    for names in ("G", "B,R", "R,G,B"):
        images = pixels(len(names.split(",")))
        mine, twins = images.clone().requires_grad_(), images.clone().requires_grad_()
        fast, slow = model.specialize(names)(mine), specialised(model, twins, names)
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
        fast.square().sum().backward()
        slow.square().sum().backward()
        assert (mine.grad - twins.grad).abs().max() < 1e-4 * twins.grad.abs().max(), names


@pytest.mark.parametrize("model", [*MODELS, "mobilenetv4_conv_small", "convnext_atto"])
def test_every_network_can_be_specialised(model):
    assert difference(make(model), "G,R") < 1e-5


def test_a_network_that_cannot_be_traced_is_specialised_with_its_batch_norms_left():
    with pytest.warns(UserWarning, match="EfficientNet cannot be traced .* batch norms are left as they are"):
        assert difference(make(UNTRACED), "G,R") < 1e-5


def test_a_layer_that_is_applied_twice_is_folded_into_the_batch_norm_of_each_time():
    model = make("compact_rrdb", model_options={"repeats": 3, "depths": (1, 1, 1), "widths": (8, 8, 16, 16)})
    assert difference(model, "R,G,B") < 1e-5
    norms = [module for module in model.specialize("R").modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 1, "the norm behind the blocks"


def test_norm_banks_and_calibration_become_the_subsets_own_norm():
    assert difference(make(norm="subset"), "R") < 1e-5
    model = make()
    calibrate(model, pixels(1), "G")
    assert difference(model, "G") < 1e-5


def packages(plain: nn.Module) -> set[str]:
    """Whose modules these are."""
    return {
        type(module).__module__.split(".")[0] for module in plain.modules() if not isinstance(module, fx.GraphModule)
    }


@pytest.mark.parametrize("stem", ABLE)
@pytest.mark.filterwarnings("ignore:EfficientNet cannot be traced")
def test_nothing_of_ours_is_left_of_any_stem_even_where_the_network_cannot_be_traced(stem):
    assert packages(make(stem=stem).specialize("R,B")) == {"torch"}
    assert packages(make(UNTRACED, stem=stem).specialize("R,B")) == {"torch", "timm"}


def test_nothing_of_ours_is_left_and_batch_norms_are_folded():
    plain = make("resnet18").specialize(["R", "B"])
    assert isinstance(plain, fx.GraphModule)
    assert packages(plain) == {"torch"}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    assert all(getattr(node.target, "__module__", "torch").split(".")[0] != "anychannel" for node in plain.graph.nodes)


def test_a_model_in_double_precision_stays_so():
    model, images = make().double(), pixels(2).double()
    plain = model.specialize("B,R")
    torch.testing.assert_close(plain(images), model(images, channels="B,R"), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("model", ["compact_k7", UNTRACED], ids=["traced", "not traced"])
@pytest.mark.filterwarnings("ignore:EfficientNet cannot be traced")
def test_it_takes_what_files_hold(model):
    whole = make(model)
    plain = whole.specialize("B,R")
    half = whole.specialize("B,R").to(torch.bfloat16)
    for dtype in (torch.uint8, torch.uint16, torch.int16, torch.int64, torch.float32):
        images = pixels(2).to(dtype)
        torch.testing.assert_close(plain(images), whole(images, channels="B,R"), rtol=1e-4, atol=1e-5)
        assert torch.equal(plain(images), plain(images.float()))
        assert half(images if dtype != torch.float32 else images.bfloat16()).dtype == torch.bfloat16


def test_it_runs_where_anychannel_is_not_installed(tmp_path):
    model, images = make("timm/resnet10t"), pixels(2)
    program = torch.export.export(model.specialize("R,B"), (images,))
    torch.export.save(program, tmp_path / "plain.pt2")
    torch.save(images, tmp_path / "images.pt")
    code = (
        "import sys, torch\nsys.modules['anychannel'] = None\n"
        f"program = torch.export.load(r'{tmp_path / 'plain.pt2'}')\n"
        f"print(program.module()(torch.load(r'{tmp_path / 'images.pt'}')).flatten().tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    got = torch.tensor(eval(done.stdout)).view(3, 4)
    torch.testing.assert_close(got, model(images, channels="R,B").detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stem", [name for name in ABLE if STEMS[name].per_image])
def test_kernels_of_an_image_become_one_convolution_of_pytorch_alone(stem):
    plain = make("timm/resnet10t", stem).specialize("R,B")
    assert all(type(module).__module__.startswith("torch.") for module in plain.modules())


def test_what_cannot_be_specialised_is_refused(monkeypatch):
    model = make(stem="per_size")
    monkeypatch.setattr(type(model.stem), "basis_kernels", Stem.basis_kernels)
    with pytest.raises(SpecializeError, match="PerSizeStem makes a kernel for every image and has no basis kernels"):
        model.specialize("R")
    model = make(stem="masked")
    model.stem.trained = (0, 1)
    assert difference(model, "G,R") < 1e-5
    with pytest.raises(ChannelError, match="the masked stem was trained on the channel positions"):
        model.specialize("R")
    with pytest.raises(ChannelError, match="unknown channel 'X'"):
        make().specialize("X")
