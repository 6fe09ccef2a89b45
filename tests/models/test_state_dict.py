"""A state dict carries whatever changes a logit."""

from __future__ import annotations

import copy
import json
import warnings
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import timm
import torch
from safetensors.torch import load, load_file, save, save_file
from timm.utils import ModelEmaV3
from torch.optim.swa_utils import AveragedModel

from anychannel.channels import ChannelError, ChannelSet
from anychannel.models import ModelFileError, PretrainedError, adapt, create_model, load_model, save_model
from anychannel.models.saving import BEST
from anychannel.nn.normalisation import Normalisation
from anychannel.nn.stems import STEMS
from anychannel.nn.subset_batchnorm import list_norms

CORRELATION = ((1.0, 0.8, 0.3), (0.8, 1.0, -0.5), (0.3, -0.5, 1.0))
MEASURED = ChannelSet(
    ("R", "G", "B"), (20.5, 90.1, 41.7), (30.3, 55.5, 50.2), CORRELATION, wavelengths_nm=(665.1, 560.0, 490.0)
)
USED = Normalisation((100.0, 110.0, 120.0), (60.0, 61.0, 62.0))


def make(stem: str = "completion", channels: ChannelSet | str = "R,G,B", norm: str = "shared", **options):
    small = {"width": 16}
    return create_model(
        "compact_k7", channels=channels, num_classes=4, stem=stem, norm=norm, model_options=small, **options
    ).eval()


def trained(stem: str = "completion", norm: str = "shared"):
    """A model whose every parameter and buffer differs from a fresh one's."""
    model = make(stem, MEASURED, norm, normalisation=USED)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.backbone.named_buffers()]:
            if value.is_floating_point() and ".stem." not in name and ".channel_input." not in name:
                value.add_(0.1 * torch.rand_like(value))
    model.stem.anneal(7.0)
    if stem == "masked":
        model.stem.trained = (0, 2)
    return model


def answers(model, images: torch.Tensor) -> dict[str, torch.Tensor | str]:
    found: dict[str, torch.Tensor | str] = {}
    for subset in MEASURED.subsets():
        key = MEASURED.key(subset)
        try:
            found[key] = model(images[:, list(subset)], channels=key).detach()
        except ChannelError as error:
            found[key] = str(error)
    return found


def assert_same_answers(a, b) -> None:
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    one, other = answers(a, images), answers(b, images)
    for key, logits in one.items():
        assert logits == other[key] if isinstance(logits, str) else torch.equal(logits, other[key]), key


@pytest.mark.parametrize("norm", list_norms())
@pytest.mark.parametrize("stem", STEMS)
def test_a_model_that_loads_anothers_state_dict_answers_as_it_does_on_every_subset(stem, norm):
    model, other = trained(stem, norm), make(stem, norm=norm)
    assert other.load_state_dict(load(save(copy.deepcopy(model.state_dict())))).missing_keys == []
    assert_same_answers(model, other)
    assert other.channels.mean == pytest.approx(MEASURED.mean)
    assert other.channels.std == pytest.approx(MEASURED.std)
    assert other.channels.correlation == tuple(pytest.approx(row) for row in CORRELATION)
    assert other.spec.normalisation.mean == pytest.approx(USED.mean)


def test_statistics_that_were_never_measured_replace_measured_ones_too():
    model, other = make(), trained()
    other.load_state_dict(model.state_dict())
    assert_same_answers(model, other)
    assert other.channels.correlation is None
    assert other.spec.normalisation is None
    assert not other.channels.measured


def test_channels_stay_exact_where_the_statistics_are_the_same():
    model = make(channels=MEASURED)
    model.load_state_dict(make(channels=MEASURED).state_dict())
    assert model.channels is MEASURED


@pytest.mark.parametrize("names", ["R,G,NIR", "B,G,R", "R,G", "R,G,B,NIR"])
@pytest.mark.parametrize("strict", [True, False])
def test_a_state_dict_of_other_channels_is_refused(names, strict):
    with pytest.raises(ChannelError, match=f"of a model with the channels {names}, and this model's are R,G,B; create"):
        make().load_state_dict(make(channels=names).state_dict(), strict=strict)


def test_a_state_dict_without_statistics_loads_with_one_warning_that_names_them():
    model = trained()
    state = {name: value for name, value in model.state_dict().items() if name not in model.measured_names()}
    with pytest.warns(
        UserWarning, match=r"lacks mean, std, channel_names, .*stem\.covariance, .*stem\.offset;"
    ) as said:
        model.load_state_dict(state)
    assert len(said) == 1
    assert model.channels is MEASURED
    with pytest.raises(RuntimeError, match="Missing key"), pytest.warns(UserWarning, match="lacks mean, std"):
        model.load_state_dict({name: value for name, value in state.items() if "fc" not in name})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("stem", ["completion", "descriptor", "dofa", "kernel_attention"])
def test_statistics_stay_in_float32_in_half_precision(stem, dtype):
    model = trained(stem)
    exact = {name: model.state_dict()[name].clone() for name in model.measured_names()}
    model.to(dtype)
    expected = torch.promote_types(dtype, torch.float32)
    for name, value in exact.items():
        kept = model.state_dict()[name]
        assert torch.equal(kept, value.to(kept.dtype)), name
        assert kept.dtype == (expected if value.is_floating_point() else value.dtype), name
    if not model.stem.per_image:
        assert model(torch.randint(0, 256, (2, 2, 16, 16)), channels="R,B").isfinite().all()


@pytest.mark.parametrize("stem", ["completion", "masked", "kernel_attention"])
@pytest.mark.parametrize("average", [lambda model: AveragedModel(model, use_buffers=True), ModelEmaV3])
def test_averaging_weights_keeps_what_was_measured(stem, average):
    model = trained(stem)
    averaged = average(model)
    for _ in range(3):
        averaged.update_parameters(model) if isinstance(averaged, AveragedModel) else averaged.update(model)
    kept = averaged.module.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())
    assert_same_answers(model, averaged.module.eval())
    other = make(stem)
    other.load_state_dict(kept)
    assert_same_answers(model, other)


@pytest.mark.parametrize("stem", ["completion", "masked", "descriptor"])
def test_a_model_saved_by_version_0_1_loads_without_a_warning(stem, tmp_path):
    """Its weights' file holds weights alone; the statistics stand in model.json."""
    model = trained(stem)
    save_model(model, tmp_path)
    state, description = load_file(tmp_path / BEST), json.loads((tmp_path / "model.json").read_text())
    save_file({n: v for n, v in state.items() if n not in model.measured_names()}, tmp_path / BEST)
    (tmp_path / "model.json").write_text(json.dumps(description | {"format": 1}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        old = load_model(tmp_path)
    assert_same_answers(model, old)
    assert old.channels == MEASURED


def test_a_model_of_a_newer_format_is_refused_by_name(tmp_path):
    save_model(trained(), tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(description | {"format": 9}))
    with pytest.raises(
        ModelFileError, match=r"the model is of format 9, and this version .* reads formats up to 2; upg"
    ):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "prefix", ["model.", "module.", "_orig_mod.", "net.", "module.model.", "classifier.", "backbone."]
)
def test_a_wrappers_prefix_and_its_own_entries_are_understood(prefix):
    model, other = trained(), make()
    state = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    state |= {"n_averaged": torch.tensor(3), "loss.weight": torch.ones(4)}
    other.load_state_dict({"state_dict": state, "epoch": 3, "optimizer_states": []})
    assert_same_answers(model, other)
    again = make()
    again.load_state_dict(state)
    assert_same_answers(model, again)


def test_a_prefix_does_not_hide_other_channels_or_missing_weights():
    state = {f"model.{name}": value for name, value in make(channels="R,G,NIR").state_dict().items()}
    with pytest.raises(ChannelError, match="of a model with the channels R,G,NIR"):
        make().load_state_dict(state)
    state = {f"model.{name}": value for name, value in make().state_dict().items() if "fc" not in name}
    with pytest.raises(RuntimeError, match="Missing key"):
        make().load_state_dict(state)


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "_orig_mod.", "net.", "module.model."])
def test_adapt_reads_a_checkpoint_of_a_wrapped_network(prefix, tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=4)
    state = {prefix + name: value for name, value in network.state_dict().items()}
    state |= {"loss.weight": torch.ones(4)} if prefix in ("model.", "net.") else {}
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "last.ckpt")
    images = torch.rand(2, 3, 32, 32) * 255
    expected = adapt(network.eval(), channels="R,G,B", stem="static", norm="shared")(images)
    for checkpoint in (tmp_path / "last.ckpt", state):
        model = adapt("timm/test_resnet", channels="R,G,B", checkpoint=checkpoint, stem="static", norm="shared")
        torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"channels": {"names": [f"c{i}" for i in range(10**5)]}}, "channels.names is a list of at most 4,096 texts"),
        ({"num_classes": 10**12}, "it has 1,000,000,000,000 classes, and no tensor of .* has as many rows"),
        ({"num_classes": "4"}, "num_classes must be a whole number, got '4'"),
        ({"num_classes": -1}, "num_classes and in_chans are at least 1"),
        ({"model_options": {"width": 10**9}}, "it describes a network that is larger than its weights"),
        ({"code": 1}, "it has the unknown entry code"),
        ({"format": "2"}, "format is a whole number from 1, got '2'"),
        ({"in_chans": float("nan")}, "NaN is not a number that JSON has"),
        ({"calibrated": ["../x"]}, "describes no model"),
    ],
)
def test_a_strangers_description_is_checked_before_anything_is_allocated(entries, message, tmp_path):
    save_model(make(), tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    with pytest.raises(ModelFileError, match=rf"model\.json.*{message}"):
        load_model(tmp_path)


def test_weights_without_the_statistics_or_with_impossible_ones_are_refused(tmp_path):
    save_model(make(channels=MEASURED), tmp_path)
    state = load_file(tmp_path / BEST)
    for change, message in (
        ({"std": None}, "best.safetensors does not hold.*: it lacks std"),
        ({"mean": torch.full_like(state["mean"], torch.nan)}, "finite"),
        ({"channel_std": torch.zeros(3)}, "positive"),
    ):
        save_file({n: v for n, v in (state | change).items() if v is not None}, tmp_path / BEST)
        with pytest.raises(ModelFileError, match=message):
            load_model(tmp_path)


def test_a_compressed_checkpoint_is_refused_before_it_is_unfolded(tmp_path):
    torch.save({"fc.weight": torch.zeros(1_000_000)}, tmp_path / "stored.pt")
    with ZipFile(tmp_path / "stored.pt") as stored, ZipFile(tmp_path / "packed.pt", "w", ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    with pytest.raises(PretrainedError, match=r"packed.pt' cannot be read: it is compressed"):
        adapt("timm/test_resnet", channels="R,G,B", checkpoint=tmp_path / "packed.pt")
