"""Rows about inference: one subset, all subsets, the start of a command, a thousand files."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import anychannel as ac
from anychannel import ChannelSet, Classifier
from anychannel.data import Split
from anychannel.models import create_model, save_model
from benchmarks.speed.plain import plain_network
from benchmarks.speed.steps import RGB
from benchmarks.speed.timing import Row, compare, costs, take_turns

CLASSES = 10


def one_subset(rounds: int) -> Iterator[Row]:
    """Row 5: ResNet18 with two of three channels."""
    torch.manual_seed(0)
    names = ["R", "G"]
    model = create_model("resnet18", channels=RGB, num_classes=CLASSES).eval()
    special = model.specialize(names)
    plain = plain_network("resnet18", names, CLASSES).eval()
    mean, std = torch.tensor([120.0, 115.0]).view(1, 2, 1, 1), torch.tensor([60.0, 60.0]).view(1, 2, 1, 1)
    for network in (model, special, plain):
        network.to(memory_format=torch.channels_last)
    for letters, batch, repeat in (("ab", 64, 1), ("cd", 1, 20)):
        images = torch.randint(0, 256, (batch, 2, 84, 84)).float().contiguous(memory_format=torch.channels_last)
        ways: dict[str, Callable[[], object]] = {
            "plain": lambda images=images: plain((images - mean) / std),
            "adaptive": lambda images=images: model(images, channels=names),
            "specialised": lambda images=images: special(images),
        }
        with torch.inference_mode():
            seconds = take_turns({name: times(way, repeat) for name, way in ways.items()}, rounds)
        what = f"ResNet18, 84 x 84, batch {batch}, two of three channels, against a plain network of two"
        yield costs(f"5{letters[0]}", f"{what}: the adaptive call", seconds, "adaptive", "plain", 1.05)
        yield costs(f"5{letters[1]}", f"{what}: the specialised module", seconds, "specialised", "plain", 1.0)


def times(run: Callable[[], object], count: int) -> Callable[[], None]:
    """Run something several times."""

    def repeat() -> None:
        for _ in range(count):
            run()

    return repeat


def all_subsets(rounds: int, images: int) -> Iterator[Row]:
    """Rows 7a and 7b."""
    model, split, keys = evaluated(RGB, images)
    ways = {
        "at once": lambda: ac.evaluate(model, split, precision="bf16"),
        "one by one": lambda: [ac.evaluate(model, split, subsets=key, precision="bf16") for key in keys],
    }
    what = f"ResNet18, {images} images of 84 x 84, all 7 subsets in one evaluation against 7 evaluations"
    yield costs("7a", what, take_turns(ways, rounds), "at once", "one by one", 1.0)
    names = tuple(f"band_{number}" for number in range(1, 9))
    eight = ChannelSet(names, mean=(120.0,) * 8, std=(60.0,) * 8, correlation=(0.1 * np.eye(8) + 0.9).tolist())
    bands, tiles, more = evaluated(eight, images)
    drawn = np.random.default_rng(0).permutation(more)[: 2 * len(keys)].tolist()
    ways = {
        "3 channels": lambda: ac.evaluate(model, split, precision="bf16"),
        "8 bands": lambda: ac.evaluate(bands, tiles, subsets=drawn, precision="bf16"),
    }
    seconds = take_turns(ways, max(rounds // 2, 1))
    what = f"a subset of 8 bands ({len(drawn)} of 255, drawn) in one evaluation against a subset of 3 channels"
    pairs = zip(seconds["8 bands"], seconds["3 channels"], strict=True)
    yield compare(
        "7b", f"The same: {what}", seconds, [many * len(keys) / few / len(drawn) for many, few in pairs], 1, 1.05
    )


def evaluated(channels: ChannelSet, images: int) -> tuple[Classifier, Split, list[str]]:
    """A ResNet18 of these channels, random images, and all subsets."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (images, len(channels), 84, 84), dtype=np.uint8)
    split = Split(pixels, np.arange(images) % CLASSES, [str(number) for number in range(images)])
    model = create_model("resnet18", channels=channels, num_classes=CLASSES).eval()
    return model.to(memory_format=torch.channels_last), split, [channels.key(each) for each in channels.subsets()]


def commands(rounds: int, files: int) -> Iterator[Row]:
    """Rows 8 and 10: ``anychannel predict`` on one image, and on many, start included."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("resnet18", "timm/resnet18"):
            model = create_model(name, channels=RGB, num_classes=CLASSES)
            save_model(model, folder / Path(name).name / name.split("/")[0])
        write_jpegs(folder / "images", files)
        own, timms = folder / "resnet18" / "resnet18", folder / "resnet18" / "timm"
        first = folder / "images" / "0.jpg"
        ways = {
            "torch": lambda: run(["-c", "import torch"]),
            "predict": lambda: run(["-m", "anychannel", "predict", str(own), str(first), "--json"]),
        }
        what = "the command predict on one image against importing torch"
        yield costs("8a", what, take_turns(ways, rounds), "predict", "torch", 1.3)
        out = folder / "found.csv"
        many = ["-m", "anychannel", "predict", str(timms), str(folder / "images"), "--out", str(out), "--quiet"]
        seconds = take_turns({"predict": lambda: (out.unlink(missing_ok=True), run(many))}, rounds)
        speed = [files / value for value in seconds["predict"]]
        what = f"images a second, predict on {files:,} JPEGs of 84 x 84 with timm/resnet18, start included"
        yield compare("10a", what, seconds, speed, 0, 300.0)


def run(arguments: list[str]) -> None:
    """Run Python and wait for it."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def write_jpegs(folder: Path, count: int, side: int = 84, seed: int = 0) -> None:
    """Smooth coloured pictures, no two alike."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
