"""A network that learns its own full-set answers from unlabelled images."""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from typer.testing import CliRunner

import anychannel as ac
from anychannel.channels import ChannelError, ChannelSet
from anychannel.cli import app
from anychannel.data import DataError
from anychannel.data.input_images import Reader
from anychannel.data.unlabelled import read_folder
from anychannel.models.own_weights import own_parameters, with_own_weights
from anychannel.models.view import as_view
from anychannel.training import TrainingError, learn_unlabelled
from anychannel.training.unlabelled import Passes, collect
from tests.helpers.image_files import write_image

ALIKE = [[1.0, 0.9, 0.8], [0.9, 1.0, 0.9], [0.8, 0.9, 1.0]]
RGB = ChannelSet(("R", "G", "B"), mean=(120.0,) * 3, std=(60.0,) * 3, correlation=ALIKE)


def network(channels: int = 3, norm: type[nn.Module] = nn.BatchNorm2d) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(channels, 16, 3, 2), norm(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), norm(16), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)),
    )


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A small network whose answers depend on colour; its statistics are those of coloured squares."""
    found = ac.adapt(network(), channels=RGB, source_channels=RGB, channel_sampling=None)
    with torch.no_grad():
        found[-1].weight.mul_(20)
        for module in found.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        found.train()(squares(64))
    return found.eval()


def squares(count: int, seed: int = 0) -> torch.Tensor:
    """Squares of one colour on a background of another, (N, 3, 12, 12) bytes."""
    generator = np.random.default_rng(seed)
    images = np.repeat(np.repeat(generator.integers(0, 256, (count, 3, 4, 4)), 3, axis=2), 3, axis=3)
    return torch.from_numpy(images.astype(np.uint8))


def distance(model: nn.Module, teacher: nn.Module, images: torch.Tensor) -> float:
    """Mean divergence from a teacher's full-set answers, over the six reduced subsets."""
    with torch.no_grad():
        known = teacher(images).log_softmax(1)
        found = [
            model(images[:, list(subset)], channels=[model.channels.names[i] for i in subset]).log_softmax(1)
            for subset in model.channels.subsets()[1:]
        ]
    return sum(float((known.exp() * (known - each)).sum(1).mean()) for each in found) / len(found)


def test_subsets_come_nearer_to_the_full_sets_answers_and_these_stay(model):
    images, unseen = squares(150), squares(60, seed=1)
    before = copy.deepcopy(model.state_dict())
    found = learn_unlabelled(model, images, passes=3000, lr=5e-3, precision="fp32")
    assert found.passes <= 3000
    assert (found.images, found.held_out) == (135, 15)
    assert list(found.agreement) == ["R,G", "R,B", "G,B", "R", "G", "B"]
    torch.testing.assert_close(found.model(unseen), model(unseen), rtol=1e-4, atol=1e-4)
    assert distance(found.model, model, unseen) < 0.9 * distance(model, model, unseen)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not found.model.training
    assert all(parameter.requires_grad for parameter in found.model.parameters())


def test_the_same_seed_gives_the_same_network_saved_and_loaded(model, tmp_path):
    images = squares(40)
    once, again = (ac.adapt_unlabelled(model, images, passes=1500, seed=3) for _ in range(2))
    for names in ("R,G", "B"):
        shown = images[:, [model.channels.names.index(name) for name in names.split(",")]]
        assert torch.equal(once(shown, channels=names), again(shown, channels=names))
    assert distance(once, model, images) < distance(model, model, images)
    ac.save_model(once, tmp_path)
    loaded = ac.load_model(tmp_path, network=network())
    torch.testing.assert_close(loaded(images[:, :2], channels="R,G"), once(images[:, :2], channels="R,G"))


def test_subsets_that_do_not_come_nearer_keep_their_weights(model):
    images = squares(60)
    with pytest.warns(UserWarning, match=r"all weights stay as they were; give more images \(there were 60\)"):
        found = learn_unlabelled(model, images, passes=1000, lr=100.0, precision="fp32")
    assert not any(each.kept for each in found.agreement.values())
    torch.testing.assert_close(found.model(images[:, :2], channels="R,G"), model(images[:, :2], channels="R,G"))


@pytest.mark.parametrize("given", ["batches", "pairs", "array", "dataset", "loader"])
def test_images_may_be_batches_pairs_an_array_a_dataset_or_a_loader(model, given):
    images = squares(24)
    batches = {
        "batches": list(images.split(10)),
        "pairs": [(batch, torch.zeros(len(batch))) for batch in images.split(10)],
        "array": images.numpy(),
        "dataset": TensorDataset(images, torch.zeros(24, dtype=torch.long)),
        "loader": DataLoader(TensorDataset(images, torch.zeros(24, dtype=torch.long)), batch_size=7),
    }
    one, other = (ac.adapt_unlabelled(model, shown, passes=200) for shown in (images, batches[given]))
    assert torch.equal(one(images[:, :1], channels="R"), other(images[:, :1], channels="R"))


@pytest.mark.parametrize("stem", ["static", "sliced", "grey", "completion", "table"])
def test_own_weights_start_from_every_stems_answers(stem):
    channels = ChannelSet(RGB.names, mean=(100.0, 120.0, 90.0), std=(60.0, 50.0, 55.0), correlation=ALIKE)
    model = ac.adapt(network(), channels=channels, source_channels=channels, stem=stem, norm="shared").eval()
    own, images = with_own_weights(model), squares(2)
    for subset in model.channels.subsets():
        names = [model.channels.names[i] for i in subset]
        expected = model(images[:, list(subset)], channels=names)
        torch.testing.assert_close(own(images[:, list(subset)], channels=names), expected, rtol=1e-4, atol=1e-4)


def test_many_channels_share_weights_by_their_number_and_layer_norms_stay_shared():
    names = tuple(f"b{i}" for i in range(9))
    many = ac.adapt(network(9), channels=names, source_channels=ChannelSet(names, (1.0,) * 9, (2.0,) * 9)).eval()
    images = torch.randn(30, 9, 12, 12)
    with warnings.catch_warnings(action="ignore"):  # so few images of noise may teach nothing
        found = learn_unlabelled(many, images, passes=900)
    assert as_view(found.model).spec.norm == "size"
    assert len(found.agreement) <= 14
    torch.testing.assert_close(found.model(images), many(images), rtol=1e-4, atol=1e-4)
    plain = as_view(with_own_weights(ac.adapt(network(norm=nn.Identity), channels=RGB, source_channels=RGB)))
    assert len(own_parameters(plain)) == 6 + 1
    assert plain.spec.norm == "shared"


GROUPED = ChannelSet(
    ("R", "G", "B", "NIR"),
    mean=(120.0,) * 4,
    std=(60.0,) * 4,
    correlation=[[1.0 if i == j else 0.8 for j in range(4)] for i in range(4)],
    groups=("camera", "camera", "camera", None),
)


def answers(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Logits from each subset."""
    with torch.no_grad():
        return {
            model.channels.key(subset): model(
                images[:, list(subset)], channels=[model.channels.names[i] for i in subset]
            )
            for subset in model.channels.subsets()
        }


@pytest.mark.parametrize("norm", ["statistics", "shared", "subset", "size"])
def test_own_weights_of_groups_start_from_the_models_answers_and_only_groups_are_taught(norm):
    model = ac.adapt(network(4), channels=GROUPED, source_channels=GROUPED, norm=norm)
    with torch.no_grad():
        for number, entry in enumerate(model.modules()):
            if isinstance(entry, nn.BatchNorm2d):
                entry.running_mean.add_(0.1 * number)
    model.eval()
    ac.calibrate(model, torch.randint(0, 256, (64, 2, 12, 12)), "R,G") if norm in ("statistics", "shared") else None
    images = torch.cat([squares(60), squares(60, seed=2)[:, :1]], dim=1)
    before = answers(model, images)
    for key, found in answers(with_own_weights(model), images).items():
        if norm != "shared" or key in ("R,G,B,NIR", "R,G,B", "NIR", "R,G"):
            torch.testing.assert_close(found, before[key], rtol=1e-4, atol=1e-4)
    with warnings.catch_warnings(action="ignore"):  # so few images may teach nothing
        learned = learn_unlabelled(model, images, passes=400, precision="fp32")
    assert list(learned.agreement) == ["R,G,B", "NIR"]
    assert as_view(learned.model).spec.norm == "subset"
    torch.testing.assert_close(answers(learned.model, images)["R,G,B,NIR"], before["R,G,B,NIR"], rtol=1e-4, atol=1e-4)


def test_a_subset_that_comes_no_nearer_changes_no_other_subsets_weights(model, monkeypatch):
    images, compare = squares(60), Passes.compare
    kept, undone = (answers(rigged(model, images, compare, worse, monkeypatch), images) for worse in (None, (0,)))
    start = answers(model, images)
    assert torch.allclose(undone["R"], start["R"], atol=1e-4)
    assert not torch.allclose(kept["R"], start["R"], atol=1e-4)
    for key in ("R,G", "R,B", "G,B", "G", "B"):
        assert torch.equal(undone[key], kept[key])


def rigged(model, images, compare, worse, monkeypatch):
    """A network after learning, of which one subset is said to be no nearer and all other subsets to be nearer."""
    seen: set[tuple[int, ...]] = set()

    def judged(passes, rows, subset):
        found = compare(passes, rows, subset)
        again = subset in seen
        seen.add(subset)
        return replace(found, distance=(1.0 if subset == worse else 0.0) if again else 0.5)

    monkeypatch.setattr(Passes, "compare", judged)
    return ac.adapt_unlabelled(model, images, passes=1500, lr=1e-2, precision="fp32")


def test_frozen_weights_stay_frozen(model):
    frozen = copy.deepcopy(model)
    for name, parameter in frozen.named_parameters():
        parameter.requires_grad_(name.startswith("8"))
    adapted = ac.adapt_unlabelled(frozen, squares(40), passes=300)
    assert adapted[8].weight.requires_grad
    assert not adapted[0].stem.weight.requires_grad
    assert not any(value.requires_grad for value in adapted[3].parameters())


class Counts(nn.Module):
    """A network that reads the number of its images before its first convolution, and its images after it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = x.shape[0]
        return self.net(x).reshape(count, -1) + 0 * x.mean((1, 2, 3))[:, None]


@pytest.mark.parametrize(
    "made", [Counts, lambda: torchvision.models.VisionTransformer(12, 4, 1, 2, 8, 16, num_classes=5)]
)
def test_networks_that_count_their_images_are_taught_and_calibrated(made):
    torch.manual_seed(0)
    theirs = ac.adapt(made(), channels=RGB, source_channels=RGB).eval()
    with warnings.catch_warnings(action="ignore"):
        adapted = ac.adapt_unlabelled(theirs, squares(40), passes=300)
    torch.testing.assert_close(adapted(squares(8)), theirs(squares(8)), rtol=1e-4, atol=1e-4)
    if made is Counts:
        ac.calibrate(theirs, squares(64), "R,B")


def test_it_learns_where_gradients_are_off(model):
    with torch.no_grad():
        found = learn_unlabelled(model, squares(60), passes=1500, lr=1e-2, precision="fp32")
    assert any(each.kept for each in found.agreement.values())


def test_adapting_again_tells_that_what_subsets_learned_is_lost(model):
    taught = ac.adapt_unlabelled(model, squares(40), passes=300)
    with pytest.warns(UserWarning, match="the model has weights of its own for subsets of its channels"):
        ac.adapt(taught, channels="R,G,B")
    assert ac.adapt(taught, channels="G").channels.names == ("G",)


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        (
            [squares(4), squares(4)[:, :, :8]],
            {},
            ValueError,
            r"several sizes given, \(3, 8, 12\) and \(3, 12, 12\); resize",
        ),
        (squares(1), {}, ValueError, "at least two images, got 1"),
        (squares(8)[:, :2], {}, ChannelError, r"\(8, 2, 12, 12\) given; .* all of the model's channels .*R, G, B"),
        (squares(8), {"passes": 0}, ValueError, "at least 1, got 0 and 24"),
        (
            squares(20),
            {"passes": 73},
            ValueError,
            "73 passes are too few: .* 24 images take 74",
        ),
        (squares(8), {"size": 12}, ValueError, "size has no effect"),
        (torch.full((8, 3, 12, 12), torch.nan), {"passes": 200}, TrainingError, "loss is nan at step 0"),
        ("nowhere", {}, DataError, "nowhere is not a folder"),
    ],
)
def test_what_cannot_be_used_is_refused(model, images, options, error, message):
    with pytest.raises(error, match=message):
        ac.adapt_unlabelled(model, images, **options)


def test_half_precision_is_refused(model):
    with pytest.raises(ValueError, match=r"the network's weights are float16; adapt model.float\(\) instead"):
        ac.adapt_unlabelled(copy.deepcopy(model).half(), squares(4))


def test_a_model_without_subsets_or_kernels_of_their_own_is_refused(model):
    masked = ac.adapt(network(), channels=RGB, source_channels=RGB, stem="masked", norm="shared")
    with pytest.raises(ValueError, match="kernels of the model's MaskedStem cannot be corrected"):
        ac.adapt_unlabelled(masked, squares(4))
    with pytest.raises(ValueError, match="one channel, R, which cannot be missing"):
        ac.adapt_unlabelled(ac.adapt(model, channels="R"), squares(4)[:, :1])


def write_photos(folder, count: int = 24, size: int = 12) -> None:
    (folder / "deeper").mkdir(parents=True)
    for number, image in enumerate(squares(count).numpy()):
        pixels = Image.fromarray(image.transpose(1, 2, 0)).resize((size, size))
        pixels.save(folder / ("deeper" if number % 2 else "") / f"{number}.png")


def test_a_folder_is_read_at_any_depth(tmp_path):
    write_photos(tmp_path / "photos")
    assert read_folder(tmp_path / "photos", Reader(RGB)).shape == (24, 3, 12, 12)
    assert read_folder(tmp_path / "photos", Reader(RGB, (8, 8), True)).shape == (24, 3, 8, 8)
    Image.new("RGB", (20, 20)).save(tmp_path / "photos" / "large.png")
    with pytest.raises(DataError, match=r"large.png is uint8 of 20 x 20 pixels, but .* of 12 x 12 pixels; give a size"):
        read_folder(tmp_path / "photos", Reader(RGB))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image file"):
        read_folder(tmp_path / "empty", Reader(RGB))


def test_the_command_adapts_a_file_of_weights_and_writes_a_folder(tmp_path):
    import timm

    theirs = timm.create_model("test_resnet", num_classes=4)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    write_photos(tmp_path / "photos", size=32)
    arguments = [tmp_path / "theirs.pth", "--model", "timm/test_resnet", "--images", tmp_path / "photos"]
    arguments += ["--out", tmp_path / "out", "--passes", 300, "--json", "--quiet"]
    done = CliRunner().invoke(app, ["adapt", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["images"] + result["held_out"] == 24
    assert set(result["agreement"]) == {"R,G", "R,B", "G,B", "R", "G", "B"}
    assert ac.load_model(tmp_path / "out").spec.norm == "subset"
    again = CliRunner().invoke(app, ["adapt", *map(str, arguments)])
    assert again.exit_code == 2
    assert "is not empty; choose a new folder for --out" in again.output


def write_planes(folder, order: str, held=lambda _: "RGB") -> None:
    """Squares as files whose planes are the channels ``held`` of each, in the order given."""
    for number, image in enumerate(squares(6).numpy()):
        planes = [image["RGB".index(name)] for name in order if name in held(number)]
        write_image(folder / f"{number}.tif", np.stack(planes))


def test_a_folder_names_its_files_channels_as_for_prediction(tmp_path, model):
    write_planes(tmp_path / "plain", "RGB")
    write_planes(tmp_path / "turned", "BGR")
    plain = read_folder(tmp_path / "plain", Reader(RGB))
    assert np.array_equal(read_folder(tmp_path / "turned", Reader(RGB)), plain[:, ::-1])
    named = read_folder(tmp_path / "turned", Reader(RGB), channels="B,G,R")
    assert np.array_equal(collect(tmp_path / "turned", as_view(model), None, "B,G,R"), plain)
    (tmp_path / "turned" / "channels.txt").write_text("B\nG\nR\n")
    assert np.array_equal(named, plain)
    assert np.array_equal(read_folder(tmp_path / "turned", Reader(RGB)), plain)
    assert np.array_equal(read_folder(tmp_path / "turned", Reader(RGB.select("R,B"))), plain[:, [0, 2]])
    assert np.array_equal(collect(tmp_path / "turned", as_view(model), None), plain)
    (tmp_path / "turned" / "channels.txt").write_text("B\nG\nNIR\n")
    with pytest.raises(DataError, match=r"no image in .* all channels of the network, R, G, B \(.*B, G, NIR"):
        read_folder(tmp_path / "turned", Reader(RGB))


def test_images_that_lack_a_channel_are_left_out(tmp_path):
    write_planes(tmp_path / "plain", "RGB")
    write_planes(tmp_path / "partial", "RGB", lambda number: "RG" if number in (1, 4) else "RGB")
    lines = [f'{number}.tif,"R,G"' for number in (1, 4)]
    (tmp_path / "partial" / "channels.csv").write_text("\n".join(["path,channels", *lines]))
    plain = read_folder(tmp_path / "plain", Reader(RGB))
    assert np.array_equal(read_folder(tmp_path / "partial", Reader(RGB)), plain[[0, 2, 3, 5]])
    assert len(read_folder(tmp_path / "partial", Reader(RGB.select("R,G")), channels="R,G,-")) == 6


def test_a_run_of_some_channels_is_adapted_on_its_own_data(tmp_path):
    for label in ("dark", "light"):
        for number, image in enumerate(squares(6, seed=len(label)).numpy()):
            write_image(tmp_path / "data" / label / f"{number}.tif", image)
    (tmp_path / "data" / "channels.txt").write_text("R\nG\nB\n")

    def start(*arguments):
        return CliRunner().invoke(app, [*map(str, arguments), "--quiet", "--device", "cpu"])

    network = ["--model", "compact_k7", "--model-option", "width=16", "--epochs", 1, "--no-cost"]
    cache = ["--cache", tmp_path / "cache"]
    trained = start("train", "--data", tmp_path / "data", "--use", "R,B", *network, *cache, "--out", tmp_path / "run")
    assert trained.exit_code == 0, trained.output
    adapted = ["adapt", tmp_path / "run", "--images", tmp_path / "data", "--passes", 100]
    done = start(*adapted, "--out", tmp_path / "named")
    assert done.exit_code == 0, done.output
    (tmp_path / "data" / "channels.txt").unlink()
    done = start(*adapted, "--out", tmp_path / "unnamed")
    assert done.exit_code == 2
    assert "it has 3 channels, but 2 expected (R, B); name the files' channels in their order" in done.output
    done = start(*adapted, "--channels", "R,-,B", "--out", tmp_path / "given")
    assert done.exit_code == 0, done.output
    for name in ("named", "given"):
        record = json.loads((tmp_path / name / "adaptation.json").read_text())
        assert record["images"] + record["held_out"] == 12
