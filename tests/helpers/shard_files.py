"""Small real shards for the tests, written by webdataset's own writer."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import webdataset
from PIL import Image

CHANNELS = ("R", "G", "B")


def encode(pixels: np.ndarray, kind: str = "png") -> bytes:
    """A (C, H, W) array as the bytes of a file."""
    buffer = BytesIO()
    if kind == "png":
        Image.fromarray(np.moveaxis(pixels, 0, -1).squeeze()).save(buffer, "PNG")
    elif kind == "npy":
        np.save(buffer, pixels)
    else:
        tifffile.imwrite(buffer, pixels.squeeze(), photometric="minisblack")
    return buffer.getvalue()


def quadrants(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, 3, 12, 12) uint8 images, no two alike, and their labels: which quadrant is bright."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, count)
    images = random.integers(60, 120, (count, 3, 12, 12)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[:, 6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += 80
    return images, labels


def write_shard(path: Path, samples: dict[str, dict[str, Any]]) -> Path:
    """A tar file of samples: by key, their fields."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as shard:
        for key, fields in samples.items():
            shard.write({"__key__": key, **fields})
    return path


def write_shards(
    root: Path, sizes: dict[str, list[int]], kind: str = "png"
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A folder of shards of the given numbers of images; the images and labels by split, in the shards' order."""
    made = {}
    for seed, (split, counts) in enumerate(sizes.items()):
        images, labels = quadrants(sum(counts), seed)
        made[split] = images, labels
        start = 0
        for number, count in enumerate(counts):
            rows = range(start, start + count)
            samples = {f"{split}{row:04d}": {kind: encode(images[row], kind), "cls": str(labels[row])} for row in rows}
            write_shard(root / f"{split}-{number:03d}.tar", samples)
            start += count
    return made
