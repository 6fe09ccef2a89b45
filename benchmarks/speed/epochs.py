"""Rows about whole epochs from image files, against a literal loop and against timm's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

import anychannel as ac
from anychannel.models import create_model
from benchmarks.speed.inference import CLASSES, write_jpegs
from benchmarks.speed.plain import plain_network
from benchmarks.speed.timing import Row, faster, take_turns

SIZE, BATCH, WORKERS = 84, 64, 2


def write_photos(folder: Path, count: int) -> None:
    """A folder of classes: ``train`` and, a tenth of it, ``val`` and ``test``."""
    for place, (split, share) in enumerate({"train": 1.0, "val": 0.1, "test": 0.1}.items()):
        for number in range(CLASSES):
            few = max(int(count * share) // CLASSES, 2)
            write_jpegs(folder / split / f"class_{number}", few, SIZE, seed=place * CLASSES + number)


def literal_epoch(folder: Path) -> Callable[[], None]:
    """A loop as most people write it: PIL in each epoch, two workers, float32, validation."""
    normal = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    tensors = [transforms.ToTensor(), normal]
    augmented = transforms.Compose(
        [transforms.RandomCrop(SIZE, padding=8), transforms.RandomHorizontalFlip(), *tensors]
    )
    train = datasets.ImageFolder(str(folder / "train"), augmented)
    val = datasets.ImageFolder(str(folder / "val"), transforms.Compose(tensors))
    model = plain_network("resnet18", "R,G,B", CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def epoch() -> None:
        model.train()
        for images, labels in DataLoader(train, BATCH, shuffle=True, num_workers=WORKERS, drop_last=True):
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for images, labels in DataLoader(val, BATCH, num_workers=WORKERS):
                (model(images).argmax(1) == labels).sum().item()

    return epoch


def bare_epoch(network: str, data: Any) -> Callable[[], None]:
    """Steps in bfloat16 on images in memory, and nothing else."""
    model = plain_network(network, "R,G,B", CLASSES).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, labels = torch.as_tensor(data.train.images[:]), torch.as_tensor(data.train.labels)

    def epoch() -> None:
        model.train()
        for start in range(0, len(images) - BATCH + 1, BATCH):
            batch = (images[start : start + BATCH].float() / 255).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(batch)
            loss = F.cross_entropy(logits.float(), labels[start : start + BATCH])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def timm_epoch(network: str, folder: Path) -> Callable[[], None]:
    """The steps of timm's training script: its reader, its loader with two workers, bfloat16, validation."""
    import timm
    from timm.data import create_dataset, create_loader

    model = timm.create_model(network, num_classes=CLASSES).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def loader(split: str, training: bool) -> Any:
        data = create_dataset("", root=str(folder), split=split, is_training=training)
        return create_loader(
            data,
            input_size=(3, SIZE, SIZE),
            batch_size=BATCH,
            is_training=training,
            use_prefetcher=False,
            num_workers=WORKERS,
            device=torch.device("cpu"),
        )

    def epoch() -> None:
        model.train()
        for images, labels in loader("train", True):
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(images.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            for images, labels in loader("val", False):
                (model(images.contiguous(memory_format=torch.channels_last)).argmax(1) == labels).sum().item()

    return epoch


def our_epoch(network: str, data: Any) -> Callable[[], None]:
    """``fit`` of a plain network for an epoch, validation included."""

    def epoch() -> None:
        model = create_model(network, channels=data.channels, num_classes=CLASSES, stem="static", norm="shared")
        settings = ac.TrainingSettings(
            epochs=1,
            batch_size=BATCH,
            lr=0.01,
            sampler="full",
            crop_padding=8,
            flip=True,
            device="cpu",
            precision="bf16",
        )
        ac.fit(model, data.train, data.val, settings)

    return epoch


def from_files(rounds: int, images: int) -> Iterator[Row]:
    """Rows 1 and 2."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "photos"
        write_photos(folder, images)
        data = ac.load_dataset(str(folder), channels="R,G,B", cache_dir=Path(place) / "cache")
        ways = {
            "ours": our_epoch("resnet18", data),
            "literal": literal_epoch(folder),
            "bare": bare_epoch("resnet18", data),
        }
        seconds = take_turns(ways, rounds)
        what = f"ResNet18, {images:,} JPEGs of 84 x 84, an epoch of fit with validation"
        yield faster(
            "1a", f"{what}, against a literal loop (PIL, two workers, float32)", seconds, "ours", "literal", 2.5
        )
        yield faster("1b", f"{what}, against bare steps on images in memory", seconds, "ours", "bare", 0.95)
        for letter, network in (("a", "resnet18"), ("b", "tf_efficientnet_lite0")):
            ways = {"ours": our_epoch(f"timm/{network}", data), "timm": timm_epoch(network, folder)}
            what = f"timm/{network}, {images:,} JPEGs of 84 x 84, an epoch of fit with validation"
            yield faster(
                f"2{letter}",
                f"{what}, against timm's data and steps (bfloat16, two workers)",
                take_turns(ways, rounds),
                "ours",
                "timm",
                1.3,
            )
