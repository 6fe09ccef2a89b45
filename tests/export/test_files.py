"""Exported files, in onnxruntime and torch.export, against the model."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from transformers import ViTConfig, ViTForImageClassification
from transformers.modeling_outputs import ImageClassifierOutput

import anychannel as ac
from anychannel.channels import ChannelError
from anychannel.export import FORMATS, check_export, export_model, open_export
from anychannel.export.any_subset import AnySubsetError
from anychannel.export.formats import ExportError
from anychannel.nn.stems import STEMS, Stem
from anychannel.nn.temperatures import Temperatures
from anychannel.utils.extras import MissingExtraError
from tests.helpers.export_networks import RGB, Tiny, pixels, tiny

BANKED = [name for name, kind in STEMS.items() if kind.basis_kernels is not Stem.basis_kernels]
WARM = Temperatures((2.5, 1.7, 1.3), {"R,B": 0.6, "G": 3.0})
ANY_SUBSET = [name for name in STEMS if name not in ("masked", "per_size")]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return tiny(norm="subset")


@pytest.fixture(scope="module")
def onnx_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "br.onnx"
    export_model(model, path, channels=["B", "R"], image_size=24)
    return path


def differ(a, b) -> float:
    return float(np.abs(np.asarray(a) - np.asarray(b.detach())).max())


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("size", [(24, 24), (40, 33)])
def test_onnxruntime_gives_the_models_logits_for_pixels_in_the_files_own_units(model, onnx_file, batch, size):
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    assert entry.name == "images"
    assert entry.shape == ["batch", 2, "height", "width"]
    images = pixels(batch, 2, *size)
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    assert logits.shape == (batch, 4)
    assert differ(logits, model(images, channels=["B", "R"])) < 1e-4
    assert differ(logits, model(images, channels=["R", "B"])) > 1e-3, "the order of the channels matters"


@pytest.mark.parametrize("several", [False, True])
def test_the_probabilities_of_one_subset_are_those_of_predict(several, tmp_path):
    model = tiny()
    model.spec = replace(model.spec, **({"thresholds": (0.5,) * 4} if several else {"temperatures": WARM}))
    export_model(model, tmp_path / "br.onnx", channels=["B", "R"], image_size=24)
    session = onnxruntime.InferenceSession(tmp_path / "br.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["logits", "probabilities"]
    images = pixels(3, 2)
    (found,) = session.run(["probabilities"], {"images": images.numpy()})
    expected = ac.predict(model, images.numpy(), channels=["B", "R"]).probabilities
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_onnx_file_tells_its_channels_units_and_classes_and_is_one_valid_file(onnx_file):
    loaded = onnx.load(onnx_file, load_external_data=False)
    onnx.checker.check_model(loaded)
    properties = {entry.key: entry.value for entry in loaded.metadata_props}
    assert json.loads(properties["anychannel.channels"]) == ["B", "R"]
    assert json.loads(properties["anychannel.classes"]) == ["a", "b", "c", "d"]
    assert properties["anychannel.units"].startswith("the files' own (0-255 for 8-bit images)")
    assert json.loads(properties["anychannel"])["mean"] == [100.0, 120.0]
    assert [file.name for file in onnx_file.parent.iterdir()] == ["br.onnx"]


@pytest.mark.parametrize("stem", [name for name in STEMS if not STEMS[name].per_image or name in BANKED])
def test_every_stem_is_exported_for_one_subset_with_torch_export(stem, tmp_path):
    model = tiny(stem)
    export_model(model, tmp_path / "x.pt2", channels="G,R", format="pt2", image_size=24)
    parity = check_export(model, tmp_path / "x.pt2", image_size=24)
    assert parity.passed, str(parity)
    assert (parity.batches, parity.subsets, parity.image_sizes) == ((1, 7), 1, ((24, 24), (25, 27)))


@pytest.mark.parametrize("stem", ["completion", "kernel_attention", "dofa"])
def test_one_onnx_file_answers_for_every_subset(stem, tmp_path):
    model = tiny(stem, norm="subset")
    model.spec = replace(model.spec, temperatures=WARM)
    export_model(model, tmp_path / "x.onnx", channels="any", image_size=24, free_size=False)
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["images", "present"]
    for subset in model.channels.subsets():
        for batch in (1, 7):
            images = pixels(batch, len(subset))
            whole = np.zeros((batch, 3, 24, 24), np.float32)
            whole[:, list(subset)] = images
            present = np.isin(np.arange(3), subset)
            logits, shares = session.run(None, {"images": whole, "present": present})
            names = [model.channels.names[position] for position in subset]
            expected = model(images, channels=names)
            assert differ(logits, expected) < 1e-4
            assert differ(shares, (expected / WARM.of(names)).softmax(1)) < 1e-5
    parity = check_export(model, tmp_path / "x.onnx", image_size=24)
    assert parity.passed, str(parity)
    assert (parity.subsets, parity.of_subsets, parity.image_sizes) == (7, 7, ((24, 24),))
    assert parity.largest_probability_difference < 1e-5
    model.spec = replace(model.spec, temperatures=replace(WARM, subsets={}))
    cooled = check_export(model, tmp_path / "x.onnx", image_size=24)
    assert cooled.largest_difference <= cooled.allowed, "the logits are the same"
    assert not cooled.passed, str(cooled)
    assert cooled.largest_probability_difference > cooled.tolerance
    assert f"of probabilities {cooled.largest_probability_difference:.2e} > 0.0001; " in str(cooled)


@pytest.mark.parametrize("stem", ANY_SUBSET)
def test_one_torch_export_file_answers_for_every_subset(stem, tmp_path):
    model = tiny(stem)
    metadata = export_model(model, tmp_path / "x.pt2", channels="any", format="pt2", image_size=24)
    assert (metadata["subset"], metadata["channels"]) == ("any", ["R", "G", "B"])
    parity = check_export(model, tmp_path / "x.pt2", image_size=24)
    assert parity.passed, str(parity)
    assert parity.subsets == 7


def test_a_network_that_has_answered_is_exported_without_a_warning(tmp_path):
    model = tiny()
    ac.predict(model, pixels(2, 3).numpy())  # which leaves its weights in another memory format
    export_model(model, tmp_path / "x.pt2", channels="any", format="pt2", image_size=24)
    assert check_export(model, tmp_path / "x.pt2", image_size=24).passed


def test_a_network_of_timm_is_exported(tmp_path):
    model = ac.create_model("timm/resnet10t", channels=["NIR", "R", "G", "B"], num_classes=5).eval()
    export_model(model, tmp_path / "x.pt2", channels="NIR,G", format="pt2", image_size=64)
    assert check_export(model, tmp_path / "x.pt2", image_size=64).passed


def assert_exported(model, path, channels: str, size: int = 24):
    """The file answers as the model does."""
    export_model(model, path, channels=channels, format=path.suffix[1:], image_size=size, free_size=False)
    parity = check_export(model, path, image_size=size)
    assert parity.passed, str(parity)


class Wrapped(nn.Module):
    """A network whose output holds the logits among others."""

    def __init__(self, output) -> None:
        super().__init__()
        self.network, self.output = Tiny(), output

    def forward(self, images):
        """(B, 3, H, W) images -> what ``output`` makes of logits."""
        return self.output(self.network(images))


@pytest.mark.parametrize("channels", ["G,R", "any"])
@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("x.onnx", lambda logits: {"features": logits.relu(), "logits": logits}),
        ("x.pt2", lambda logits: {"out": logits, "aux": logits.relu()}),
        ("x.onnx", lambda logits: (logits, logits.relu())),
        ("x.pt2", lambda logits: [logits, logits.relu()]),
        ("x.onnx", lambda logits: ImageClassifierOutput(logits=logits)),
    ],
    ids=["dict", "out", "tuple", "list", "transformers"],
)
@pytest.mark.filterwarnings("ignore:.*cannot be traced")
def test_a_network_that_gives_more_than_logits_is_exported_with_its_logits(name, output, channels, tmp_path):
    model = ac.adapt(Wrapped(output).eval(), channels=RGB, source_channels=RGB)
    assert_exported(model, tmp_path / name, channels)


@pytest.mark.parametrize("stem", ["completion", "dofa", "kernel_attention"])
def test_a_vision_transformer_that_looks_at_its_convolutions_type_is_exported(stem, tmp_path):
    width = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    network = ViTForImageClassification(ViTConfig(**width, image_size=24, patch_size=8, num_labels=4)).eval()
    model = ac.adapt(network, channels=RGB, source_channels=RGB, stem=stem)
    assert_exported(model, tmp_path / "x.onnx", "any")
    assert_exported(model, tmp_path / "x.pt2", "B,G")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("channels", ["B,G", "any"])
def test_a_network_of_another_precision_is_exported_in_float32(dtype, channels, tmp_path):
    model = tiny().to(dtype)
    assert_exported(model, tmp_path / "x.onnx", channels)
    assert model.stem.weight_like.dtype == dtype


def test_a_network_that_pads_by_the_images_size_keeps_its_size_and_says_so(tmp_path):
    options = {"pad_type": "same"}
    model = ac.create_model("timm/test_efficientnet", channels=["R", "G"], num_classes=3, model_options=options).eval()
    metadata = export_model(model, tmp_path / "x.pt2", channels="G", format="pt2", image_size=32)
    assert metadata["sizes"] == "32 x 32"
    assert check_export(model, tmp_path / "x.pt2").image_sizes == ((32, 32),)


def test_images_that_are_no_squares_are_exported_at_their_height_and_width(model, tmp_path):
    metadata = export_model(model, tmp_path / "x.pt2", format="pt2", image_size=(24, 40), free_size=False)
    assert (metadata["sizes"], metadata["fixed_size"]) == ("24 x 40", [24, 40])
    assert check_export(model, tmp_path / "x.pt2", image_size=84).image_sizes == ((24, 40),), "the file's own size"
    free = export_model(model, tmp_path / "y.onnx", image_size=(24, 40))
    assert (free["fixed_size"], free["least_size"]) == (None, 24)
    parity = check_export(model, tmp_path / "y.onnx", image_size=(24, 40))
    assert parity.passed, str(parity)
    assert "images of 24 x 40 and 25 x 43 pixels" in str(parity)


def test_an_onnx_file_runs_where_torch_and_anychannel_are_not_installed(model, onnx_file, tmp_path):
    images = pixels(2, 2)
    np.save(tmp_path / "images.npy", images.numpy())
    code = (
        "import sys\nsys.modules['torch'] = sys.modules['anychannel'] = None\nimport numpy, onnxruntime\n"
        f"session = onnxruntime.InferenceSession({str(onnx_file)!r}, providers=['CPUExecutionProvider'])\n"
        f"print(session.run(None, {{'images': numpy.load({str(tmp_path / 'images.npy')!r})}})[0].tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert differ(json.loads(done.stdout), model(images, channels=["B", "R"])) < 1e-4


def tamper_onnx(path):
    loaded = onnx.load(path)
    weight = max(loaded.graph.initializer, key=lambda tensor: np.prod(tensor.dims, dtype=int))
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    onnx.save(loaded, path)


def test_the_check_fails_on_an_onnx_file_whose_weights_were_tampered_with(model, onnx_file, tmp_path):
    path = tmp_path / "tampered.onnx"
    path.write_bytes(onnx_file.read_bytes())
    untouched = check_export(model, path, image_size=24)
    assert untouched.passed
    assert 0 <= untouched.largest_difference < 1e-4
    tamper_onnx(path)
    tampered = check_export(model, path, image_size=24)
    assert not tampered.passed
    assert tampered.largest_difference > tampered.allowed
    assert "B,R, " in str(tampered)


def test_the_check_fails_where_answers_are_not_numbers(model, tmp_path):
    export_model(model, tmp_path / "x.pt2", channels="R", format="pt2", image_size=24)
    broken = tiny(norm="subset")
    torch.nn.init.constant_(broken.backbone.get_submodule("8").weight, float("nan"))
    parity = check_export(broken, tmp_path / "x.pt2", image_size=24)
    assert not parity.passed
    assert parity.to_dict()["largest_difference"] is None


def test_what_cannot_be_exported_is_told(model, tmp_path):
    with pytest.raises(AnySubsetError, match="the PerSizeStem has no kernel that one graph could compute"):
        export_model(tiny("per_size"), tmp_path / "x.pt2", channels="any", format="pt2")
    with pytest.raises(ValueError, match=r"unknown format 'tflite'.*onnx, pt2"):
        export_model(model, tmp_path / "x.tflite", format="tflite")
    with pytest.raises(ExportError, match=r"a file of format onnx ends in .onnx, got x.pt2"):
        export_model(model, tmp_path / "x.pt2")
    with pytest.raises(ChannelError, match="unknown channel 'NIR'"):
        export_model(model, tmp_path / "x.pt2", format="pt2", channels="NIR")
    with pytest.raises(ValueError, match="image_size must be at least 1 pixel, got 0"):
        export_model(model, tmp_path / "x.pt2", format="pt2", image_size=0)
    named = ac.create_model("compact_k7", channels=["any", "R"], num_classes=2)
    with pytest.raises(ExportError, match="a channel is called 'any'"):
        export_model(named, tmp_path / "x.pt2", format="pt2", channels="any")
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_place_that_takes_no_file_is_refused_before_anything_is_captured(model, tmp_path, monkeypatch):
    monkeypatch.setattr("anychannel.export.export.capture", None)
    (tmp_path / "folder.pt2").mkdir()
    (tmp_path / "file").write_text("not a folder")
    for path, error in (("folder.pt2", IsADirectoryError), ("file/x.pt2", NotADirectoryError)):
        with pytest.raises(error):
            export_model(model, tmp_path / path, format="pt2")


def test_a_file_that_is_no_export_is_told(tmp_path, onnx_file):
    with pytest.raises(ExportError, match=r"ends in '.pth'; exported files end in .onnx or .pt2"):
        open_export(tmp_path / "x.pth")
    for suffix in (".onnx", ".pt2"):
        path = tmp_path / f"x{suffix}"
        with pytest.raises(ExportError, match="is missing"):
            open_export(path)
        path.write_bytes(b"nothing of the kind")
        with pytest.raises(ExportError, match=r"is not an? (ONNX|torch.export) file"):
            open_export(path)
    foreign = onnx.load(onnx_file)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(ExportError, match="has no metadata of anychannel"):
        open_export(tmp_path / "foreign.onnx")


def test_without_the_extra_the_error_says_how_to_install_it(model, tmp_path, monkeypatch):
    onnx_format = replace(FORMATS["onnx"], needs=("onnx_that_is_not_there",))
    monkeypatch.setitem(FORMATS, "onnx", onnx_format)
    message = r"a .onnx file needs the package onnx_that_is_not_there, .*; pip install 'anychannel\[onnx\]'"
    with pytest.raises(MissingExtraError, match=message):
        export_model(model, tmp_path / "x.onnx")
