"""Small real image files for the tests, from (C, H, W) arrays."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image


def write_class_folders(
    root: Path, counts: Mapping[str, int], classes: Sequence[str], draw: Callable[[int], np.ndarray]
) -> Path:
    """Write ``split/class/0.png`` and so on.

    Args:
        root: the data folder.
        counts: images a class in each split.
        classes: folders' names.
        draw: makes an image (C, H, W) of a class's number.
    """
    for split, count in counts.items():
        for label, name in enumerate(classes):
            for i in range(count):
                write_image(root / split / name / f"{i}.png", draw(label))
    return root


def bright_halves(random: np.random.Generator, height: int, width: int) -> Callable[[int], np.ndarray]:
    """Draws RGB images of two classes: bright on the left, bright on the right."""

    def draw(label: int) -> np.ndarray:
        pixels = random.integers(0, 120, (height, width, 3))
        half = width // 2
        pixels[:, half * label : half * label + half] += 120
        return np.moveaxis(pixels.astype(np.uint8), -1, 0)

    return draw


def write_image(path: Path, pixels: np.ndarray, layout: str = "planar", **options) -> Path:
    """Write by the path's suffix: JPEG, PNG (8 or 16 bit), TIFF (planar or interleaved samples), BMP, WebP.

    Args:
        path: its folder is made if missing.
        pixels: (C, H, W).
        layout: of TIFFs.
        options: for the encoder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    interleaved = np.ascontiguousarray(np.moveaxis(pixels, 0, -1))
    flat = interleaved[..., 0] if len(pixels) == 1 else interleaved
    if path.suffix in (".tif", ".tiff"):
        options.setdefault("photometric", "minisblack")
        if len(pixels) == 1:
            tifffile.imwrite(path, pixels[0], **options)
        elif layout == "planar":
            tifffile.imwrite(path, pixels, planarconfig="separate", **options)
        else:
            tifffile.imwrite(path, interleaved, planarconfig="contig", **options)
    elif pixels.dtype == np.uint16:
        path.write_bytes(imagecodecs.png_encode(flat))
    else:
        Image.fromarray(flat).save(path, **options)
    return path


def write_lists(root: Path, entries: dict[str, list[tuple[str, int]]]) -> None:
    """Write train.txt, val.txt and test.txt."""
    for split, lines in entries.items():
        (root / f"{split}.txt").write_text("".join(f"{path} {label}\n" for path, label in lines), encoding="utf-8")


def add_line(root: Path, split: str, line: str) -> None:
    """Append a line to a list."""
    with (root / f"{split}.txt").open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def age(root: Path, seconds: float = 3600) -> None:
    """Make all files look as if they had last changed some time ago."""
    then = time.time() - seconds
    for path in root.rglob("*"):
        os.utime(path, (then, then))


def smooth(channels: int, height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    """(C, H, W) waves over the whole range of an integer type, different in each channel; they survive JPEG."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / height * (3 + c) + c) * np.cos(columns / width * (2 + c)) for c in range(channels)]
    return np.rint((np.stack(waves) + 1) / 2 * np.iinfo(dtype).max).astype(dtype)
