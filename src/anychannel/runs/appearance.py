"""How images look, in a few numbers for each channel, to recognise an image that is unlike the training images.

Training keeps these numbers for a sample of its images, as ``appearance.npy`` in the run. An image is unlike them if
its Mahalanobis distance from them (Mahalanobis, "On the generalised distance in statistics", 1936) is beyond all of
theirs, in the numbers of exactly those channels that the network is given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anychannel.data import ImageDataset, Stream

FILE = "appearance.npy"
COUNT, LEAST = 512, 16
"""Images of the sample, and the fewest that an image is compared with."""
SCALES = 3
FIGURES = 4 + SCALES
RIDGE = 0.01
"""Added to each variance, in units of the sample's own: numbers that are constant there may differ a little."""


def describe_appearance(pixels: np.ndarray) -> np.ndarray:
    """The figures of each channel of an image (k, H, W): float32 of shape (k, ``FIGURES``).

    Mean and standard deviation, the same of the border's pixels alone, and the mean difference of neighbouring pixels
    in the image, in the one of half its size, and so on. All but the means are logarithms, ln(1 + x).
    """
    image = pixels.astype(np.float32)
    sides = (image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1])
    border = np.concatenate(sides, axis=1)
    figures = [image.std(axis=(1, 2)), border.std(axis=1)]
    for _ in range(SCALES):
        steps = [np.abs(np.diff(image, axis=axis)).reshape(len(image), -1) for axis in (1, 2)]
        figures.append(np.concatenate(steps, axis=1).sum(axis=1) / max(1, sum(step.shape[1] for step in steps)))
        height, width = (max(1, side // 2) for side in image.shape[1:])
        tall, wide = (2 if side > 1 else 1 for side in image.shape[1:])
        image = image[:, : tall * height, : wide * width].reshape(len(image), height, tall, width, wide).mean((2, 4))
    means = (pixels.mean(axis=(1, 2), dtype=np.float64), border.mean(axis=1, dtype=np.float64))
    return np.stack([*means, *np.log1p(figures)], axis=1).astype(np.float32)


def sample_appearance(dataset: ImageDataset) -> np.ndarray:
    """The figures (n, C, ``FIGURES``) of up to ``COUNT`` training images, of validation images if training streams.

    Channels that an image lacks are NaN.
    """
    split = dataset.val if isinstance(dataset.train, Stream) else dataset.train
    rows = np.random.default_rng(0).permutation(len(split))[:COUNT]
    sample = np.full((len(rows), len(dataset.channels), FIGURES), np.nan, np.float32)
    for figures, row in zip(sample, rows.tolist(), strict=True):
        held = slice(None) if split.present is None else split.present[row]
        figures[held] = describe_appearance(np.asarray(split.images[row])[held])
    return sample


def measure_distance(sample: np.ndarray, figures: np.ndarray, positions: Sequence[int]) -> tuple[float, float] | None:
    """Distance of an image from a sample in the channels at these positions, and the largest that is still like it.

    ``figures`` are the image's, (k, ``FIGURES``) in the positions' order. One half of the sample gives mean and
    covariance. The limit is the largest distance of the other half, and more if that is small. Returns None if fewer
    than ``LEAST`` images of the sample have the channels.
    """
    known = sample[:, list(positions)].reshape(len(sample), -1).astype(np.float64)
    known = known[np.isfinite(known).all(axis=1)]
    if len(known) < LEAST:
        return None
    centre, spread = known[::2].mean(axis=0), known[::2].std(axis=0) + 1e-6
    scaled = (np.concatenate([known, figures.reshape(1, -1)]) - centre) / spread
    covariance = np.cov(scaled[:-1:2].T) + RIDGE * np.eye(known.shape[1])
    distances = np.sqrt((scaled * np.linalg.solve(covariance, scaled.T).T).sum(axis=1))
    limit = distances[1:-1:2].max() * (1 + 4 / np.sqrt(len(known) // 2))
    return float(distances[-1]), float(limit)
