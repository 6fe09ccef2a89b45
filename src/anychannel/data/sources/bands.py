"""Embedded data set ``bands``: handwritten digits seen through several spectral bands. Half synthetic.

Real are the digits: the 1,797 scans of 8 x 8 pixels that ship with scikit-learn (UCI Optical Recognition of
Handwritten Digits, Alpaydin and Kaynak 1998). Made up are the bands. In each band of an image

    value = level + gain * (max(window * contrast * digit, strength * distractor) + noise)

``digit`` is the scan that gives the label, at one place in all bands; ``window`` is the band's own soft spot, outside
of which the digit is faint; ``distractor`` is a scan of another class, drawn anew for every band and image. So a band
shows two digits and does not show which one counts; what the bands agree on is the label. A small convolutional network
(three layers, five epochs, one seed, 538 test images) reached 60-65 % with one of four bands, 87 % with two, 91 % with
three and 93 % with all.

No scan is in two splits, neither as digit nor as distractor. Everything follows from the number of bands and
a seed.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import compress

import numpy as np

from anychannel.channels import ChannelError, ChannelSet, as_channel_set
from anychannel.data.content import digest_content
from anychannel.data.sources.source import SPLITS, Request, Sample, Source

DEFAULT_BANDS = 4
MOST_BANDS = 64
WAVELENGTHS_NM = (450.0, 2200.0)
SIDE = 24
"""Height and width of the images in pixels."""
GLYPH_SIDE = 20
SHIFT = 1
"""Digits lie up to this many pixels off the centre, up, down, left or right."""
PARTS = {"train": 0.7, "val": 0.15, "test": 0.15}
COPIES = {"train": 4, "val": 2, "test": 2}
"""Renderings of each scan: other place, distractors and noise."""

WINDOW_RADIUS, WINDOW_SIGMA, WINDOW_FLOOR = 4.0, 7.0, 0.45
CONTRAST = (0.7, 1.0)
STRENGTH = (0.5, 0.9)
NOISE = 0.08
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


def open_bands(argument: str | None, request: Request, *, partial: float = 0.0) -> Source:
    """Render the data set in memory.

    Args:
        argument: the number of bands. None: as many as channels are named, else ``DEFAULT_BANDS``.
        request: its channels rename the bands, its seed decides everything.
        partial: share of the images that lack channels, in [0, 1]; see ``hide_channels``.
    """
    named = None if request.channels is None else as_channel_set(request.channels)
    count = parse_count(str(DEFAULT_BANDS if named is None else len(named)) if argument is None else argument)
    names = tuple(f"band_{band + 1}" for band in range(count))
    wavelengths = np.linspace(*WAVELENGTHS_NM, count).round(1).tolist()
    channels = named or ChannelSet(names, wavelengths_nm=tuple(wavelengths))
    splits = make_bands(count, seed=request.seed)
    if len(channels) != count:
        raise ChannelError(
            f"bands:{count} has {count} channels, but {len(channels)} names are given: {', '.join(channels.names)}"
        )
    for split, samples in splits.items() if partial else ():
        present = hide_channels(len(samples), count, partial, seed=request.seed, split=split)
        splits[split] = [
            replace(sample, image=np.asarray(sample.image)[has], channels=tuple(compress(channels.names, has)))
            for sample, has in zip(samples, present, strict=True)
        ]
    return Source(f"bands:{count}", splits, tuple(map(str, range(10))), channels)


def parse_count(argument: str) -> int:
    """``"8"`` of ``"bands:8"`` -> 8. Raises ValueError if it is not a whole number from 1 to ``MOST_BANDS``."""
    if not (argument.isascii() and argument.isdigit()) or not 1 <= int(argument) <= MOST_BANDS:
        raise ValueError(f"bands:{argument} is not a data set; the number of bands is 1 to {MOST_BANDS}, as in bands:8")
    return int(argument)


def make_bands(count: int, *, seed: int = 0) -> dict[str, list[Sample]]:
    """Render images (count, 24, 24) uint8 of each split. The seed decides splits, places, distractors and noise."""
    glyphs, digits = scans()
    order = np.random.default_rng(seed).permutation(len(digits))
    cuts = np.cumsum([round(PARTS[split] * len(digits)) for split in SPLITS[:-1]])
    splits = {}
    for number, (split, pool) in enumerate(zip(SPLITS, np.split(order, cuts), strict=True)):
        pool = np.sort(pool)
        sources = np.repeat(pool, COPIES[split])
        images = render(glyphs, digits, pool, sources, count, (seed, number))
        splits[split] = [
            Sample(
                f"digit_{scan:04d}/{i % COPIES[split]}",
                int(digits[scan]),
                image,
                digest=digest_content(image.tobytes()),
            )
            for i, (scan, image) in enumerate(zip(sources.tolist(), images, strict=True))
        ]
    return splits


def hide_channels(total: int, count: int, share: float, *, seed: int, split: str) -> np.ndarray:
    """Which channels each image keeps: (total, count) booleans, at least one an image.

    A share of the images lacks channels. Each of them keeps a number of channels drawn evenly from 1 to count - 1, and
    a subset of that size drawn evenly. The seed and the split's name decide.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"partial is a share of the images, in [0, 1], got {share}")
    if count < 2:
        raise ValueError("partial needs two channels or more, as an image keeps one at least")
    rng = np.random.default_rng([seed, *split.encode()])
    present = np.ones((total, count), dtype=bool)
    for row in rng.permutation(total)[: round(share * total)]:
        present[row, rng.permutation(count)[rng.integers(1, count) :]] = False
    return present


@cache
def scans() -> tuple[np.ndarray, np.ndarray]:
    """All scans as (1797, P, P) values in [0, 1], enlarged and with a margin to shift in, and their (1797,) digits."""
    import torch
    import torch.nn.functional as F
    from sklearn.datasets import load_digits  # here, as it takes a second that no other data set should pay

    digits = load_digits()
    scans = torch.from_numpy(digits.images / 16).float()[:, None]
    glyphs = F.interpolate(scans, size=(GLYPH_SIDE, GLYPH_SIDE), mode="bilinear", align_corners=False)[:, 0]
    margin = (SIDE - GLYPH_SIDE) // 2 + SHIFT
    return F.pad(glyphs, (margin,) * 4).numpy(), digits.target.astype(np.int64)


def render(
    glyphs: np.ndarray, digits: np.ndarray, pool: np.ndarray, sources: np.ndarray, count: int, seeds: tuple[int, int]
) -> np.ndarray:
    """Images of the scans ``sources``, with distractors from ``pool``: (N, count, 24, 24) uint8."""
    total = len(sources)
    shown = place(glyphs, sources, np.random.default_rng([*seeds, 0]))
    images = np.empty((total, count, SIDE, SIDE), np.uint8)
    for band in range(count):
        rng = np.random.default_rng([*seeds, 1 + band])
        distractors = place(glyphs, draw_others(digits, pool, sources, rng), rng)
        contrast = rng.uniform(*CONTRAST, (total, 1, 1)).astype(np.float32)
        strength = rng.uniform(*STRENGTH, (total, 1, 1)).astype(np.float32)
        noise = rng.standard_normal((total, SIDE, SIDE), dtype=np.float32) * np.float32(NOISE)
        values = np.maximum(window(band) * contrast * shown, strength * distractors) + noise
        level, gain = response(band)
        images[:, band] = np.clip(np.rint(level + gain * values), 0, 255)
    return images


def place(glyphs: np.ndarray, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut (N, 24, 24) images out of the glyphs' margins, each shifted at random."""
    rows, columns = rng.integers(0, 2 * SHIFT + 1, (2, len(which), 1)) + np.arange(SIDE)
    return np.asarray(glyphs[which[:, None, None], rows[:, :, None], columns[:, None, :]])


def draw_others(digits: np.ndarray, pool: np.ndarray, sources: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each source a scan of another class, uniformly from the pool."""
    chosen = rng.choice(pool, len(sources))
    while (same := digits[chosen] == digits[sources]).any():
        chosen[same] = rng.choice(pool, int(same.sum()))
    return chosen


def window(band: int) -> np.ndarray:
    """How well a band shows the digit, (24, 24) in [WINDOW_FLOOR, 1]; the bands' spots go round the centre."""
    angle = band * GOLDEN_ANGLE
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    square = (rows - WINDOW_RADIUS * np.sin(angle)) ** 2 + (columns - WINDOW_RADIUS * np.cos(angle)) ** 2
    spot = np.exp(-square / (2 * WINDOW_SIGMA**2))
    return np.asarray(WINDOW_FLOOR + (1 - WINDOW_FLOOR) * spot, dtype=np.float32)


def response(band: int) -> tuple[float, float]:
    """A band's dark level and gain in grey values, so that the bands differ in mean and contrast."""
    return 25 + 40 * (band * 0.618034 % 1), 100 + 60 * (band * 0.381966 % 1)
