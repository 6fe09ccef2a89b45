"""Measure how many images a core can feed to training: from shards, from Arrow files, and from decoded files.

    python -m benchmarks.measure.streaming_speed --images 4000 --side 128

The images are smooth RGB pictures as JPEG files of quality 90, written to a temporary folder, so that the disk's cache
holds them: what is measured is reading, decoding and putting batches together, not a disk or a network. Figures are
images for each second of processor time, of all threads and processes together, which other work on the machine hardly
changes: the median over epochs, after one that does not count. Nothing is trained. The result goes to
``benchmarks/results/streaming_speed.json``.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import webdataset
from PIL import Image

from anychannel.data import ImageDataset, load_dataset
from anychannel.runs.environment import describe_environment
from anychannel.utils.files import write_json
from anychannel.utils.processes import Share

RESULT = Path(__file__).parents[1] / "results" / "streaming_speed.json"
SPLITS = {"train": 1.0, "val": 0.01, "test": 0.01}


def pictures(count: int, side: int, seed: int) -> Iterator[bytes]:
    """JPEG files of smooth noise, no two alike."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        yield file.getvalue()


def write(root: Path, images: int, side: int, per_shard: int) -> None:
    """The same images as shards, as a saved Hugging Face data set, and as a folder."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["0", "1"])})
    tables = {}
    for seed, (split, part) in enumerate(SPLITS.items()):
        files = list(pictures(max(8, round(images * part)), side, seed))
        for start in range(0, len(files), per_shard):
            with webdataset.TarWriter(str(root / "shards" / f"{split}-{start // per_shard:04d}.tar")) as shard:
                for i, data in enumerate(files[start : start + per_shard], start=start):
                    shard.write({"__key__": f"{i:06d}", "jpg": data, "cls": str(i % 2)})
        for i, data in enumerate(files):
            path = root / "folder" / split / str(i % 2) / f"{i:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        rows = {"image": [{"bytes": data, "path": None} for data in files], "label": [i % 2 for i in range(len(files))]}
        tables[split] = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(tables).save_to_disk(root / "saved")


def time_epochs(data: ImageDataset, batch_size: int, epochs: int) -> dict[str, Any]:
    """Images a second of processor time over whole epochs, the first of which does not count."""
    rates = []
    for epoch in range(epochs + 1):
        started, images = sum(os.times()[:4]), 0
        for batch in data.train.batches(seed=0, epoch=epoch, batch_size=batch_size, share=Share()):
            images += len(batch.labels)
        rates.append(images / (sum(os.times()[:4]) - started))
    return {"images_per_core_second": round(statistics.median(rates[1:])), "all": [round(rate) for rate in rates[1:]]}


def main() -> None:
    """Write, load, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--per-shard", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix="streaming-speed-") as temporary:
        root = Path(temporary)
        (root / "shards").mkdir()
        write(root, chosen.images, chosen.side, chosen.per_shard)
        figures = {}
        for name, source, options in (
            ("shards", "wds:{}/shards", {}),
            ("shards, two processes", "wds:{}/shards", {"workers": 2}),
            ("arrow", "hf:{}/saved", {}),
            ("decoded files", "{}/folder", {}),
        ):
            data = load_dataset(source.format(root), channels="R,G,B", cache_dir=root / "cache", **options)
            figures[name] = time_epochs(data, chosen.batch_size, chosen.epochs)
            print(name, figures[name])
    write_json(
        RESULT,
        {
            "command": f"python -m benchmarks.measure.streaming_speed --images {chosen.images} --side {chosen.side}",
            "settings": vars(chosen),
            "environment": describe_environment("cpu", "fp32"),
            "figures": figures,
        },
    )


if __name__ == "__main__":
    main()
