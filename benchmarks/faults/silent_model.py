"""Wrong answers without a word, of networks and training: each is now right, warned of or refused.

``silent`` takes these cases and those of the data.
"""

from __future__ import annotations

import copy
import tomllib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import anychannel as ac
from anychannel.channels import ChannelError, ChannelSet
from anychannel.data import Split
from anychannel.evaluation import compare
from anychannel.models import Classifier, calibrate, create_model
from anychannel.nn.channel_sampling import Part, create_sampler
from anychannel.nn.stems import STEMS
from anychannel.nn.stems.completion import CompletionStem, completion_matrix
from anychannel.nn.subset_batchnorm import list_norms
from anychannel.runs import RunConfig
from anychannel.runs.config import merge
from anychannel.training import TrainingSettings, fit
from anychannel.training.optim import parameter_groups
from benchmarks.faults.case import Case

STATE_DICT = (
    "A state dict carries everything that changes an answer; one of other channels is refused, one without is told."
)
FULL_SET = "The full set is validated with batch norm statistics that belong to the weights, after few steps too."
BY_NAME = "Channels and classes are matched by name in training, evaluation, calibration and comparison, or refused."
OWN_STATISTICS = (
    "A model that was made from names takes mean, deviation and correlations from its training images, and says so."
)
RANGE = "Images of another range than the model expects are warned of once; dark, black and no-data images are not."
ADDED = "Adding channels to a model changes no answer that it gave before, or is refused."
IDLE = "An option that has no effect is refused where it is given."
PARTS = "A part of a batch that lies outside it is refused."
DECAY = "No bias gets weight decay, whatever its shape."
CACHED = "A completion matrix is solved once for each subset, and again when its covariance changes."

CORRELATION = ((1.0, 0.8, 0.3), (0.8, 1.0, -0.5), (0.3, -0.5, 1.0))
MEASURED = ChannelSet(("R", "G", "B"), (120.0, 90.0, 40.0), (60.0, 50.0, 30.0), CORRELATION, (665.0, 560.0, 490.0))
PHOTOS = ChannelSet(("R", "G", "B"), (124.0, 116.0, 104.0), (58.0, 57.0, 57.0))
CLASSES = ("ant", "bee", "cat", "dog")
QUICK = TrainingSettings(epochs=3, batch_size=16, lr=0.02, crop_padding=0, flip=False, device="cpu", precision="fp32")
ROOT = Path(__file__).parents[2]


def make(channels: ChannelSet | str | Sequence[str] = MEASURED, seed: int = 0, **options: Any) -> Classifier:
    torch.manual_seed(seed)
    common = {"num_classes": 4, "classes": CLASSES, "model_options": {"width": 16}}
    return create_model("compact_k7", channels=channels, **(common | options)).eval()


def coloured(order: str = "RGB", classes: Sequence[str] = CLASSES) -> ac.ImageDataset:
    """Images whose class is the bright quadrant, with channels that differ, in this order."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 96)
    images = random.integers(60, 120, (96, 3, 12, 12)).astype(np.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = divmod(label, 2)
        image[:, 6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += 80
    images //= np.array([1, 2, 4], np.uint8)[:, None, None]
    images = np.stack([images[:, "RGB".index(name) if name in "RGB" else 0] for name in order], axis=1)
    names = [CLASSES[label] for label in labels]
    splits = ["train"] * 64 + ["val"] * 16 + ["test"] * 16
    return ac.dataset_from_arrays(images, names, channels=tuple(order), classes=classes, splits=splits)


def states_equal(first: Classifier, second: Classifier) -> bool:
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


def answers(model: Classifier, names: Sequence[str] = MEASURED.names) -> dict[str, Tensor]:
    """Logits on every subset of these channels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, len(names), 16, 16), dtype=torch.uint8, generator=generator)
    own, found = ChannelSet(tuple(names)), {}
    for subset in own.subsets():
        with torch.no_grad():
            found[own.key(subset)] = model(images[:, list(subset)], channels=own.key(subset))
    return found


def agree(first: dict[str, Tensor], second: dict[str, Tensor], tolerance: float = 0.0) -> None:
    for key, logits in first.items():
        assert torch.allclose(logits, second[key], rtol=tolerance, atol=tolerance), f"the answers for {key} differ"


def stirred(model: Classifier) -> Classifier:
    """The model with other weights and batch norm statistics than a fresh one's."""
    torch.manual_seed(9)
    with torch.no_grad():
        for name, value in [*model.backbone.named_parameters(), *model.backbone.named_buffers()]:
            if value.is_floating_point() and ".stem." not in name and ".channel_input." not in name:
                value.add_(0.1 * torch.rand_like(value))
    model.stem.anneal(7.0)
    return model


# 1: the state dict


def carried(stem: str, norm: str, folder: Path) -> None:
    model, other = stirred(make(stem=stem, norm=norm)), make("R,G,B", 1, stem=stem, norm=norm)
    save_file(copy.deepcopy(model.state_dict()), folder / "state.safetensors")
    assert not other.load_state_dict(load_file(folder / "state.safetensors")).missing_keys
    agree(answers(model), answers(other))
    half = copy.deepcopy(model).half()
    assert torch.equal(half.mean, model.mean)
    assert half.mean.dtype == torch.float32


def wrapped(prefix: str, folder: Path) -> None:
    """As Lightning, DistributedDataParallel, torch.compile and averaged models write it."""
    model, other = stirred(make()), make("R,G,B", 1)
    state = {prefix + name: value for name, value in model.state_dict().items()} | {"loss.weight": torch.ones(4)}
    torch.save({"state_dict": state, "epoch": 3}, folder / "last.ckpt")
    other.load_state_dict(torch.load(folder / "last.ckpt", weights_only=True))
    agree(answers(model), answers(other))


def averaged(_: Path) -> None:
    from torch.optim.swa_utils import AveragedModel

    model = stirred(make())
    average = AveragedModel(model, use_buffers=True)
    for _number in range(3):
        average.update_parameters(model)
    other = make("R,G,B", 1)
    other.load_state_dict(average.state_dict())
    agree(answers(model), answers(other))


def of_other_channels(names: str, _: Path) -> None:
    with pytest.raises(ChannelError, match=f"of a model with the channels {names}, and this model's are R,G,B"):
        make("R,G,B").load_state_dict(make(names).state_dict())


def without_statistics(_: Path) -> None:
    model = make()
    state = {name: value for name, value in model.state_dict().items() if name not in model.measured_names()}
    with pytest.warns(UserWarning, match="the state dict lacks mean, std"):
        make(seed=1).load_state_dict(state)


# 2: the full set's statistics


def few_steps(norm: str, sampler: str, _: Path) -> None:
    """After eight steps the running averages lag behind: with them 64 to 94 % of the training images are right."""
    data = coloured()
    torch.manual_seed(0)
    stem = "completion" if sampler == "split" else "static"
    model = create_model("resnet18", channels=data.channels, num_classes=4, norm=norm, stem=stem)
    fit(model, data.train, data.val, replace(QUICK, epochs=2, sampler=sampler))
    measured = ac.evaluate(model, data.train, subsets="R,G,B").subsets["R,G,B"]["accuracy"]
    assert measured > 0.95, f"{100 * measured:.1f} % of its own training images"


# 5: matched by name


def any_order(order: str, _: Path) -> None:
    straight, turned = make(coloured().channels), make(coloured().channels)
    for model, data in ((straight, coloured()), (turned, coloured(order))):
        fit(model, data.train, data.val, replace(QUICK, epochs=1))
    assert states_equal(straight, turned)


def evaluates_as_it_validates(order: str, _: Path) -> None:
    data = coloured(order)
    model = make(coloured().channels)
    best = max(row["val_accuracy"] for row in fit(model, data.train, data.val, QUICK).rows)
    for images in (data.val, replace(data, test=data.val)):
        assert ac.evaluate(model, images).subsets["R,G,B"]["accuracy"] == best


def other_channels(order: str, words: str, _: Path) -> None:
    data = coloured(order)
    with pytest.raises(ChannelError, match=words):
        fit(make(), data.train, data.val, QUICK)


def other_classes(change: dict[str, Any], use: str, _: Path) -> None:
    data, model = coloured(), make(**change)
    with pytest.raises(ValueError, match="other classes than the model"):
        fit(model, data.train, data.val, QUICK) if use == "fit" else ac.evaluate(model, data.val)


def bare_labels(_: Path) -> None:
    split = replace(coloured().train, channels=None, classes=None)
    with pytest.raises(ValueError, match=r"labels from 0 to 3 .* but the model has 3 classes"):
        fit(make(num_classes=3, classes=None), split, split, QUICK)


def teacher_order(_: Path) -> None:
    """A teacher whose channels are in another order teaches the same."""
    data = coloured()
    states = []
    for order in ("RGB", "BRG"):
        teacher = make(data.channels, seed=3)
        if order != "RGB":
            permutation = [data.channels.names.index(name) for name in order]
            twin = make(data.channels.select(tuple(order)), seed=3)
            stem = next(name for name, _ in twin.named_parameters() if name.endswith("stem.weight"))
            state = teacher.state_dict() | {
                name: value for name, value in twin.state_dict().items() if name in twin.measured_names()
            }
            twin.load_state_dict(state | {stem: teacher.state_dict()[stem][:, permutation]})
            teacher = twin
        model = make(data.channels)
        fit(model, data.train, data.val, replace(QUICK, epochs=1, distill=0.5), teacher=teacher)
        states.append(model.state_dict())
    for name, value in states[0].items():
        assert torch.allclose(value.float(), states[1][name].float(), rtol=1e-3, atol=1e-4), name


def calibrated(_: Path) -> None:
    straight, turned = (make(coloured().channels, norm="statistics") for _number in range(2))
    calibrate(straight, coloured().train, "R,B")
    calibrate(turned, coloured("BGR").train, "B,R")
    assert states_equal(straight, turned)


def compared(_: Path) -> None:
    data = coloured()
    one, two = (ac.evaluate(make(data.channels.select(order)), data) for order in ("R,G,B", "B,G,R"))
    assert compare(one, two, subset="R,B").second == two.subsets["B,R"]["accuracy"]


# 6: statistics of the training images, and the warning


def takes_statistics(kind: str, folder: Path) -> None:
    data = coloured("BGR")
    train = data.train if kind == "data set" else replace(data.train, channels=None, classes=None).arrange((2, 1, 0))
    model = make("R,G,B")
    with pytest.warns(UserWarning, match="fit took mean, standard deviation and correlations") as said:
        fit(model, train, data.val, replace(QUICK, epochs=1), folder=folder)
    assert len(said) == 1
    expected = data.channels.select("R,G,B")
    assert np.allclose(model.channels.mean, expected.mean)
    assert np.allclose(model.channels.std, expected.std)
    stem = ac.load_model(folder).stem
    assert isinstance(stem, CompletionStem)
    assert np.allclose(stem.covariance, expected.correlation, atol=1e-6)


def noise(channels: ChannelSet, scale: float = 1.0) -> Tensor:
    torch.manual_seed(1)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (channels.mean, channels.std))
    images = (mean + std * torch.randn(4, 3, 24, 24)).clamp(0, 255)
    return (images if scale != 1 else images.round()) * scale


UNIT = ChannelSet(("R", "G", "B"), (0.48, 0.45, 0.4), (0.23, 0.22, 0.22))
SATELLITE = ChannelSet(("R", "G", "B"), (3000.0, 2800.0, 2500.0), (300.0, 280.0, 400.0))
TOLD: dict[str, tuple[ChannelSet, Tensor]] = {
    "0-1 for 8 bits": (PHOTOS, noise(PHOTOS, 1 / 255)),
    "normalised already": (PHOTOS, torch.randn(2, 3, 24, 24)),
    "8 bits for 0-1": (UNIT, noise(PHOTOS)),
    "16 bits for 8": (PHOTOS, noise(PHOTOS, 257.0)),
    "reflectance for digital numbers": (SATELLITE, noise(SATELLITE, 1e-4)),
}
LEFT: dict[str, tuple[ChannelSet, Tensor]] = {
    "its own statistics": (PHOTOS, noise(PHOTOS)),
    "black": (PHOTOS, torch.zeros(2, 3, 24, 24)),
    "no data": (SATELLITE, torch.zeros(2, 3, 24, 24)),
    "half no data": (SATELLITE, 3000 * (torch.arange(24) < 12).expand(2, 3, 24, 24).float()),
    "night": (PHOTOS, noise(PHOTOS, 0.03)),
    "white": (PHOTOS, torch.full((2, 3, 24, 24), 255.0)),
    "0-1 where it is expected": (UNIT, torch.rand(2, 3, 24, 24)),
}


def told(kind: str, use: str, _: Path) -> None:
    channels, images = TOLD[kind]
    model = make(channels)
    split = Split(images.numpy(), np.arange(len(images)) % 4, tuple(map(str, range(len(images)))))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if use == "model":
            model(images)
            model(images[:, :1], channels="R")
        elif use == "evaluate":
            ac.evaluate(model, split, batch_size=1)
        else:
            fit(model, split, split, replace(QUICK, epochs=1, batch_size=2, ema=0.9))
    messages = [str(each.message) for each in said if "the model expects those of its training" in str(each.message)]
    assert len(messages) == 1, messages


def left_alone(kind: str, _: Path) -> None:
    channels, images = LEFT[kind]
    model = make(channels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answered = [model(images), model(images[:, 2:], channels="B")]
    assert len(answered) == 2


# 12: channels that are added


def added(stem: str, norm: str, new: str | None, _: Path) -> None:
    model = stirred(make(stem=stem, norm=norm))
    names = ("N", *MEASURED.names, "S")
    wider = ChannelSet(
        names,
        (80.0, *MEASURED.mean, 70.0),
        (30.0, *MEASURED.std, 20.0),
        None,
        (842.0, *MEASURED.wavelengths_nm, 1600.0),
    )
    before = answers(model)
    try:
        after = ac.with_channels(model, wider, new=new)
    except ValueError as error:
        if not any(word in str(error) for word in ("generates no kernels", "use new=", "parts that belong")):
            raise
        return
    agree(before, answers(after), 1e-5)


# 13: options without effect


IDLE_SETTINGS: dict[str, dict[str, Any]] = {
    "momentum under one cycle": {"momentum": 0.8},
    "momentum under AdamW": {"momentum": 0.8, "optimizer": "adamw", "schedule": "cosine"},
    "warm-up under one cycle": {"warmup_epochs": 2},
    "a temperature without distillation": {"distill_temperature": 4},
    "a least improvement without patience": {"min_delta": 0.01},
}
IDLE_SAMPLERS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "parts without drops": ("dropout", 3, {"drop": 0.0, "parts": 2}),
    "more ranges than sizes": ("split", 3, {"ranges": 3}),
    "pairs without reduced parts": ("split", 3, {"full": 1.0, "paired": True}),
    "fractions beside full": ("split", 3, {"full": 0.5, "fractions": [0.5, 0.3, 0.2]}),
    "drops of a single channel": ("dropout", 1, {"drop": 0.5}),
    "an option of another sampler": ("full", 3, {"parts": 2}),
}


def idle_setting(values: dict[str, Any], _: Path) -> None:
    with pytest.raises(ValueError, match="has no effect"):
        TrainingSettings(**values)
    with pytest.raises(ValueError, match="has no effect"):
        RunConfig.from_dict({"data": "bands:3", "training": values})


def idle_sampler(name: str, channels: int, options: dict[str, Any], _: Path) -> None:
    with pytest.raises(ValueError, match=r"no effect|ranges must be|leave full and ranges out|does not take"):
        create_sampler(name, channels, **options)


def idle_teacher(_: Path) -> None:
    data = coloured()
    with pytest.raises(ValueError, match="a teacher is given, but distill is 0"):
        fit(make(data.channels), data.train, data.val, QUICK, teacher=make(data.channels))


def idle_resume(_: Path) -> None:
    data = coloured()
    with pytest.raises(ValueError, match="resume needs the folder"):
        fit(make(data.channels), data.train, data.val, QUICK, resume=True)


def idle_adapt(options: dict[str, Any], _: Path) -> None:
    with pytest.raises(ValueError, match="has no effect"):
        ac.adapt(make(), channels="R,G", **options)


def recipes(_: Path) -> None:
    """All recipes and studies of the repository are free of such options."""
    paths = [*(ROOT / "recipes").glob("*.toml"), *(ROOT / "benchmarks" / "studies").glob("*.toml")]
    assert len(paths) > 8
    for path in paths:
        values = tomllib.loads(path.read_text())
        for run in values.get("runs", {"": values}).values():
            base = values.get("base", {}) if "runs" in values else {}
            recipe = (path.parent / values["recipe"]) if "recipe" in values else None
            start = {} if recipe is None else tomllib.loads(recipe.read_text())
            RunConfig.from_dict(merge(merge(merge(start, base), run), {"data": "bands:3"}))


# also


def beyond(parts: list[Part], words: str, _: Path) -> None:
    with pytest.raises(ValueError, match=words):
        make()(noise(PHOTOS), parts=parts)


def undecayed(_: Path) -> None:
    model = make([f"band_{i}" for i in range(8)])
    free = {id(parameter) for parameter in parameter_groups(model, 0.1)[1]["params"]}  # type: ignore[attr-defined]
    stem = model.stem
    assert isinstance(stem, CompletionStem)
    assert id(stem.presence) in free
    assert all(id(p) in free for name, p in model.named_parameters() if p.ndim < 2 or name.endswith("bias"))


def solved_once(_: Path) -> None:
    model = make()
    stem = model.stem
    assert isinstance(stem, CompletionStem)
    first = stem.matrix((0, 2))
    assert stem.matrix((0, 2)) is first
    assert torch.equal(first, completion_matrix(stem.covariance, (0, 2), stem.ridge))
    other = torch.tensor([[1.0, 0.1, 0.2], [0.1, 1.0, 0.3], [0.2, 0.3, 1.0]])
    stem.covariance.copy_(other)
    assert torch.equal(stem.matrix((0, 2)), completion_matrix(other, (0, 2), stem.ridge))


def cases() -> list[Case]:
    found = [
        Case(STATE_DICT, f"{stem}, {norm}", partial(carried, stem, norm), (stem, norm) == ("completion", "statistics"))
        for stem in STEMS
        if stem != "masked"
        for norm in list_norms()
    ]
    prefixes = ("model.", "module.", "_orig_mod.", "net.", "module.model.")
    found += [Case(STATE_DICT, f"names with {each}", partial(wrapped, each), each == "model.") for each in prefixes]
    found.append(Case(STATE_DICT, "averaged weights", averaged))
    found.append(Case(STATE_DICT, "without statistics", without_statistics))
    others = ("R,G,NIR", "B,G,R", "R,G", "R,G,B,NIR")
    found += [Case(STATE_DICT, f"of {names}", partial(of_other_channels, names)) for names in others]
    trainings = (("shared", "full"), ("shared", "split"), ("statistics", "split"), ("subset", "split"))
    found += [Case(FULL_SET, " and ".join(each), partial(few_steps, *each)) for each in trainings]
    for order in ("BGR", "GBR", "RBG"):
        found.append(Case(BY_NAME, f"{order} trains as RGB", partial(any_order, order), order == "BGR"))
        check = partial(evaluates_as_it_validates, order)
        found.append(Case(BY_NAME, f"{order} evaluates as it validates", check))
    for order, words in (("RG", "lack B"), ("RGBN", "does not know N"), ("RGN", "lack B; the model does not know N")):
        found.append(Case(BY_NAME, f"{order} is refused", partial(other_channels, order, words), order == "RGN"))
    classes: dict[str, dict[str, Any]] = {
        "too few classes": {"num_classes": 3, "classes": None},
        "too many classes": {"num_classes": 5, "classes": None},
        "classes in another order": {"classes": CLASSES[::-1]},
    }
    for name, change in classes.items():
        uses = ("fit", "evaluate")
        found += [Case(BY_NAME, f"{name}, {use}", partial(other_classes, change, use), use == "fit") for use in uses]
    by_name: dict[str, Callable[[Path], None]] = {
        "labels of bare arrays": bare_labels,
        "a teacher in another order": teacher_order,
        "calibration": calibrated,
        "comparison": compared,
    }
    found += [Case(BY_NAME, name, check) for name, check in by_name.items()]
    for kind in ("data set", "bare arrays"):
        found.append(Case(OWN_STATISTICS, kind, partial(takes_statistics, kind), kind == "data set"))
    for kind in TOLD:
        for use in ("model", "evaluate", "fit"):
            found.append(Case(RANGE, f"{kind}, {use}", partial(told, kind, use), use == "model"))
    found += [Case(RANGE, f"not of {kind}", partial(left_alone, kind), kind == "black") for kind in LEFT]
    for stem in STEMS:
        for norm in ("shared", "statistics"):
            for new in (None, "nearest", "zero"):
                short = (stem, norm, new) == ("sliced", "shared", None)
                found.append(Case(ADDED, f"{stem}, {norm}, new={new}", partial(added, stem, norm, new), short))
    found += [Case(IDLE, name, partial(idle_setting, values), short=True) for name, values in IDLE_SETTINGS.items()]
    found += [Case(IDLE, name, partial(idle_sampler, *each)) for name, each in IDLE_SAMPLERS.items()]
    idle: dict[str, Callable[[Path], None]] = {
        "a teacher without distillation": idle_teacher,
        "resume without a folder": idle_resume,
        "recipes and studies": recipes,
    }
    found += [Case(IDLE, name, check) for name, check in idle.items()]
    for name, value in {"source_channels": "B,G", "first_conv": "x", "source_range": 1.0, "pretrained": False}.items():
        found.append(Case(IDLE, f"{name} of a classifier", partial(idle_adapt, {name: value})))
    for parts, words in (
        ([Part((0, 1, 2), 0, 5)], "outside the batch"),
        ([Part((0,), -2, 2)], "outside the batch"),
        ([Part((0,), 3, 1)], "outside the batch"),
        ([Part((0,), 2, 2)], "no image"),
    ):
        found.append(Case(PARTS, str(parts), partial(beyond, parts, words), short=True))
    return [
        *found,
        Case(DECAY, "eight bands", undecayed, short=True),
        Case(CACHED, "completion", solved_once, short=True),
    ]
