"""How images look, in a few numbers for each channel, to recognise an image that is unlike the training images.

Training keeps these numbers for a sample of its images, as ``appearance.npy`` in the run. An image is unlike them if
its Mahalanobis distance from them (Mahalanobis, "On the generalised distance in statistics", 1936) is beyond all of
theirs, in the numbers of exactly those channels that the network is given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anychannel.data.batches.stream import Stream
from anychannel.data.dataset import ImageDataset

FILE = "appearance.npy"
COUNT, LEAST = 512, 16
"""Images of the sample, and the fewest that an image is compared with."""
SCALES = 3
FIGURES = 4 + SCALES
RIDGE = 0.01
"""Added to each variance, in units of the sample's own: numbers that are constant there may differ a little."""


def describe_appearance(pixels: np.ndarray) -> np.ndarray:
    """The figures of each channel of images (..., k, H, W): float32 of shape (..., k, ``FIGURES``).

    Mean and standard deviation, the same of the border's pixels alone, and the mean difference of neighbouring pixels
    in the image, in the one of half its size, and so on. All but the means are logarithms, ln(1 + x).
    """
    image, outer = pixels.astype(np.float32), pixels.shape[:-2]
    sides = (image[..., 0, :], image[..., -1, :], image[..., 0], image[..., -1])
    border = np.concatenate(sides, axis=-1)
    figures = [image.std(axis=(-2, -1)), border.std(axis=-1)]
    for _ in range(SCALES):
        steps = [np.abs(np.diff(image, axis=axis)).reshape(*outer, -1) for axis in (-2, -1)]
        figures.append(np.concatenate(steps, axis=-1).sum(axis=-1) / max(1, sum(step.shape[-1] for step in steps)))
        height, width = (max(1, side // 2) for side in image.shape[-2:])
        tall, wide = (2 if side > 1 else 1 for side in image.shape[-2:])
        image = image[..., : tall * height, : wide * width].reshape(*outer, height, tall, width, wide).mean((-3, -1))
    means = (pixels.mean(axis=(-2, -1), dtype=np.float64), border.mean(axis=-1, dtype=np.float64))
    return np.stack([*means, *np.log1p(figures)], axis=-1).astype(np.float32)


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


class Familiar:
    """What images of a sample look like in the channels at some positions; see ``familiar``.

    ``limit`` is the largest distance of an image that is still like them.
    """

    def __init__(self, known: np.ndarray) -> None:
        self.centre, self.spread = known[::2].mean(axis=0), known[::2].std(axis=0) + 1e-6
        scaled = (known[::2] - self.centre) / self.spread
        self.inverse = np.linalg.inv(np.cov(scaled.T) + RIDGE * np.eye(known.shape[1]))
        self.limit = float(self.distance(known[1::2]).max() * (1 + 4 / np.sqrt(len(known) // 2)))

    def distance(self, figures: np.ndarray) -> np.ndarray:
        """Distances (n,) of n images from the sample; ``figures`` are theirs, (n, k, ``FIGURES``)."""
        scaled = (figures.reshape(len(figures), -1) - self.centre) / self.spread
        distances: np.ndarray = np.sqrt(((scaled @ self.inverse) * scaled).sum(axis=1))
        return distances


def familiar(sample: np.ndarray, positions: Sequence[int]) -> Familiar | None:
    """How images of a sample look in the channels at these positions; None if fewer than ``LEAST`` have all of them.

    One half of the sample gives mean and covariance. The limit is the largest distance of the other half, and more if
    that is small.
    """
    known = sample[:, list(positions)].reshape(len(sample), -1).astype(np.float64)
    known = known[np.isfinite(known).all(axis=1)]
    return None if len(known) < LEAST else Familiar(known)
