"""Whether an exported network answers as the model does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anychannel.evaluation import choose_subsets
from anychannel.export.export import ANY
from anychannel.export.formats import open_export
from anychannel.export.graph import Sizes
from anychannel.models import Classifier
from anychannel.nn.stems import MaskedStem
from anychannel.utils.sizes import ImageSize, describe_size, height_width

BATCHES = (1, 7)
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Parity:
    """How far an exported network's logits are from the model's, on the same images.

    Args:
        largest_difference: largest absolute difference of a logit.
        largest_logit: largest absolute logit of the model.
        allowed: the largest difference that passes: tolerance times the largest logit.
        tolerance: as given.
        worst: channels and shape of the images with the largest difference.
        batches: batch sizes compared.
        image_sizes: heights and widths compared.
        subsets: how many subsets were compared.
        of_subsets: how many there are.
    """

    largest_difference: float
    largest_logit: float
    allowed: float
    tolerance: float
    worst: str
    batches: tuple[int, ...]
    image_sizes: tuple[tuple[int, int], ...]
    subsets: int
    of_subsets: int

    @property
    def passed(self) -> bool:
        """Whether the difference is allowed; NaN is not."""
        return self.largest_difference <= self.allowed

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a difference that is not a number becomes None."""
        values = asdict(self) | {"passed": self.passed}
        broken = [key for key, value in values.items() if isinstance(value, float) and not np.isfinite(value)]
        return values | dict.fromkeys(broken)

    def __str__(self) -> str:
        sign = "<=" if self.passed else ">"
        return (
            f"largest difference {self.largest_difference:.2e} {sign} {self.allowed:.2e} allowed "
            f"(tolerance {self.tolerance:g}, logits up to {self.largest_logit:.3g}; at {self.worst}); "
            f"{self.subsets} of {self.of_subsets} subsets, batches of {' and '.join(map(str, self.batches))}, "
            f"images of {' and '.join(map(describe_size, self.image_sizes))} pixels"
        )


def check_export(
    model: Classifier, path: str | Path, *, image_size: ImageSize = 224, tolerance: float = TOLERANCE
) -> Parity:
    """Compare an exported file with the model, in this process: ONNX in onnxruntime, torch.export reloaded.

    A graph for any subset is compared on every subset (a sample where there are many), with NaN in the planes of the
    missing channels, which it must not read.

    Args:
        model: the classifier that the file was made of.
        path: the file.
        image_size: height and width in pixels, one number or ``(height, width)``; where the graph leaves them free, a
            second size is compared too.
        tolerance: largest difference of a logit as a share of the largest logit.

    Raises:
        FormatError: the file is missing or of another kind.
        ChannelError: the file names channels that the model does not know.
    """
    metadata, run = open_export(path)
    names = tuple(metadata["channels"])
    fixed = metadata["fixed_size"]
    sizes = Sizes(None if fixed is None else height_width(fixed), metadata["least_size"], metadata["size_multiple"])
    height, width = sizes.example(height_width(image_size))
    shapes = [(height, width)]
    if sizes.fixed is None:
        shapes.append((height + sizes.multiple, width + 3 * sizes.multiple))
    if metadata["subset"] != ANY:
        return compare(model, lambda images, _: run(images.numpy()), [names], shapes, tolerance, of_subsets=1)

    def answer(images: Tensor, shown: tuple[str, ...]) -> np.ndarray:
        planes = images.new_full((len(images), len(names), *images.shape[2:]), float("nan"))
        places = [names.index(name) for name in shown]
        planes[:, places] = images
        return run(planes.numpy(), np.array([name in shown for name in names]))

    return compare(model, answer, every_subset(model), shapes, tolerance, of_subsets=model.channels.count_subsets())


def check_hub_folder(
    model: Classifier, folder: str | Path, *, image_size: ImageSize = 224, tolerance: float = TOLERANCE
) -> Parity:
    """Compare the model that ``from_pretrained`` makes of a folder with the one that was saved; see ``check_export``.

    Subsets that the stem refuses are left out.
    """
    again = Classifier.from_pretrained(folder)

    @torch.no_grad()
    def answer(images: Tensor, shown: tuple[str, ...]) -> np.ndarray:
        logits: np.ndarray = again(images, channels=shown).numpy()
        return logits

    stem = model.stem
    subsets = every_subset(model)
    if isinstance(stem, MaskedStem) and stem.trained is not None:
        subsets = [tuple(model.channels.names[position] for position in stem.trained)]
    shapes = [height_width(image_size)]
    return compare(model, answer, subsets, shapes, tolerance, of_subsets=model.channels.count_subsets())


def every_subset(model: Classifier) -> list[tuple[str, ...]]:
    """Names of each subset, or of those of a sample."""
    subsets, _, _ = choose_subsets(model.channels)
    return [tuple(model.channels.names[position] for position in subset) for subset in subsets]


@torch.no_grad()
def compare(
    model: Classifier,
    answer: Callable[[Tensor, tuple[str, ...]], np.ndarray],
    subsets: Sequence[tuple[str, ...]],
    shapes: Sequence[tuple[int, int]],
    tolerance: float,
    *,
    of_subsets: int,
) -> Parity:
    """Put the same images to the model and to ``answer(images, channels)``, for every subset, batch and image size."""
    model = copy.deepcopy(model).cpu().eval()
    drawn = torch.Generator().manual_seed(0)
    largest, largest_logit, worst = -1.0, 0.0, ""
    for shown, batch, (height, width) in product(subsets, BATCHES, shapes):
        images = draw_images(model, shown, (batch, height, width), drawn)
        expected = model(images, channels=shown).numpy()
        difference = float(np.abs(answer(images, shown) - expected).max())
        largest_logit = max(largest_logit, float(np.abs(expected).max()))
        if difference > largest or not np.isfinite(difference):
            largest, worst = difference, f"{','.join(shown)}, {batch} x {height} x {width}"
        if not np.isfinite(difference):
            break
    return Parity(
        largest_difference=largest,
        largest_logit=largest_logit,
        allowed=tolerance * largest_logit,
        tolerance=tolerance,
        worst=worst,
        batches=BATCHES,
        image_sizes=tuple(shapes),
        subsets=len(subsets),
        of_subsets=of_subsets,
    )


def draw_images(
    model: Classifier, shown: Sequence[str], shape: tuple[int, int, int], generator: torch.Generator
) -> Tensor:
    """Normal noise with each channel's mean and standard deviation, (batch, k, height, width)."""
    channels = model.channels.select(shown)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (channels.mean, channels.std))
    batch, height, width = shape
    return mean + std * torch.randn(batch, len(shown), height, width, generator=generator)
