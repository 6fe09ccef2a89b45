"""A channel-adaptive network in a plain PyTorch loop against ``fit``: test accuracy on every subset, quick protocol.

    python -m benchmarks.measure.plain_loop --data mini-imagenet-50 --out benchmarks/results/plain_loop.json

Both sides have the same network, seed, number of passes, optimiser, learning rates and augmentation. The plain loop is
the user's: a ``DataLoader`` over ``data.train``, torchvision's transforms, the loss of PyTorch, and the network, which
draws the subsets itself. It ends with the last epoch's weights. ``fit`` validates, recomputes batch norm statistics and
keeps the better one of its best and its last epoch.

What ``--out`` holds already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import anychannel as ac
from anychannel.models import create_model
from anychannel.runs.environment import describe_environment
from anychannel.training.optim import create_optimizer, create_schedule
from anychannel.utils.files import write_json
from benchmarks.tables.results import paired_interval

SIZE, CLASSES, EPOCHS, BATCH, RATE, DECAY, SMOOTHING = 42, 25, 10, 128, 0.1, 5e-4, 0.1
"""``recipes/quick.toml``."""


class Augmented(Dataset[Any]):
    """Images with random crops and mirroring."""

    def __init__(self, images: Any) -> None:
        self.images = images
        self.transform = v2.Compose([v2.RandomCrop(SIZE, padding=4), v2.RandomHorizontalFlip()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        image, label = self.images[row]
        return self.transform(image), label


def build(data: Any, seed: int) -> ac.Classifier:
    """The network, with initial weights of a seed."""
    torch.manual_seed(seed)
    return create_model(
        "resnet18",
        channels=data.channels,
        num_classes=len(data.classes),
        classes=data.classes,
        stem="completion",
        norm="statistics",
        sampling_seed=seed,
    )


def plain_loop(data: Any, seed: int) -> ac.Classifier:
    """Train as any network; a step whose gradients are not finite is left out, as bfloat16 may give on a CPU."""
    model = build(data, seed).to(memory_format=torch.channels_last).train()
    loader = DataLoader(Augmented(data.train), batch_size=BATCH, shuffle=True, drop_last=True)
    optimizer = create_optimizer(model, lr=RATE, weight_decay=DECAY)
    schedule = create_schedule(optimizer, total_steps=EPOCHS * len(loader))
    for epoch in range(EPOCHS):
        for images, labels in loader:
            shown = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(shown)
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            if torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0).isfinite():
                optimizer.step()
            schedule.step()
        print(f"plain loop, seed {seed}, epoch {epoch + 1}: loss {float(loss.detach()):.3f}", flush=True)
    return model.eval()


def our_fit(data: Any, seed: int) -> ac.Classifier:
    """Train with ``fit`` under the quick protocol."""
    model = build(data, seed)
    settings = ac.TrainingSettings(
        epochs=EPOCHS,
        batch_size=BATCH,
        lr=RATE,
        weight_decay=DECAY,
        label_smoothing=SMOOTHING,
        crop_padding=4,
        flip=True,
        seed=seed,
        device="cpu",
        precision="bf16",
    )
    ac.fit(model, data.train, data.val, settings, on_epoch=lambda row: print(f"fit, seed {seed}: {row}", flush=True))
    return model


def measure(model: ac.Classifier, data: Any) -> dict[str, float]:
    """Test accuracy in percent by subset."""
    found = ac.evaluate(model, data.test, precision="bf16").to_dict()["subsets"]
    return {key: round(100 * figures["accuracy"], 2) for key, figures in found.items()}


def summarise(seeds: dict[str, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Mean over all subsets of plain loop minus ``fit``, by seed, with the paired 95 % interval of its mean."""
    both = [found for found in seeds.values() if len(found) == 2]
    gaps = [statistics.fmean(found["plain"].values()) - statistics.fmean(found["fit"].values()) for found in both]
    summary: dict[str, Any] = {"differences": [round(gap, 2) for gap in gaps]}
    if len(gaps) > 2:
        interval = [round(edge, 2) for edge in paired_interval(gaps)]
        summary |= {"mean": round(statistics.fmean(gaps), 2), "interval": interval}
    return summary


def main() -> None:
    """Train what is missing, seed by seed, and write the results after each training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of the photographs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--commit", help="commit of this tree, where it is a copy without its history")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = ac.load_dataset(options.data, size=SIZE, classes=CLASSES)
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {"seeds": {}}
    result["command"] = "python -m benchmarks.measure.plain_loop --data mini-imagenet-50 --out " + str(options.out)
    result["data"] = {"name": data.name, "fingerprint": data.fingerprint, "n_test": len(data.test)}
    result["environment"] = describe_environment("cpu") | ({"commit": options.commit} if options.commit else {})
    for seed in options.seeds:
        found = result["seeds"].setdefault(str(seed), {})
        for name, train in (("plain", plain_loop), ("fit", our_fit)):
            if name not in found:
                found[name] = measure(train(data, seed), data)
                print(seed, name, found[name], flush=True)
                write_json(options.out, result | summarise(result["seeds"]))
    write_json(options.out, result | summarise(result["seeds"]))


if __name__ == "__main__":
    main()
