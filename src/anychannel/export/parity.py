"""Check that an exported network gives the same logits and probabilities as the model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anychannel.evaluation import choose_subsets
from anychannel.export.export import ANY
from anychannel.export.formats import open_outputs
from anychannel.export.graph import Sizes
from anychannel.models import Classifier as HubClassifier
from anychannel.models.view import as_classifier
from anychannel.nn.classifier import Classifier
from anychannel.nn.stems import MaskedStem
from anychannel.nn.temperatures import temperature_of
from anychannel.training.outputs import to_probabilities
from anychannel.utils.sizes import ImageSize, describe_size, height_width

BATCHES = (1, 7)
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Parity:
    """Differences between the answers of an exported network and of the model, on the same images.

    ``allowed`` is ``tolerance`` times the model's largest absolute logit. ``worst`` names the channels and shape of the
    images with the largest difference of logits. Probabilities may differ by ``tolerance``; their largest difference is
    None if the network gives logits alone. ``subsets`` of ``of_subsets`` subsets were compared.
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
    largest_probability_difference: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the differences are small enough; NaN is not."""
        probabilities = self.largest_probability_difference
        return self.largest_difference <= self.allowed and (probabilities is None or probabilities <= self.tolerance)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. A difference that is not finite becomes None."""
        values = asdict(self) | {"passed": self.passed}
        broken = [key for key, value in values.items() if isinstance(value, float) and not np.isfinite(value)]
        return values | dict.fromkeys(broken)

    def __str__(self) -> str:
        sign = "<=" if self.largest_difference <= self.allowed else ">"
        found, probabilities = self.largest_probability_difference, ""
        if found is not None:
            probabilities = (
                f"of probabilities {found:.2e} {'<=' if found <= self.tolerance else '>'} {self.tolerance:g}; "
            )
        return (
            f"largest difference {self.largest_difference:.2e} {sign} {self.allowed:.2e} allowed "
            f"(tolerance {self.tolerance:g}, logits up to {self.largest_logit:.3g}; at {self.worst}); {probabilities}"
            f"{self.subsets} of {self.of_subsets} subsets, batches of {' and '.join(map(str, self.batches))}, "
            f"images of {' and '.join(map(describe_size, self.image_sizes))} pixels"
        )


def check_export(
    model: nn.Module, path: str | Path, *, image_size: ImageSize = 224, tolerance: float = TOLERANCE
) -> Parity:
    """Compare an exported file with the model. ONNX files run in onnxruntime, torch.export files in PyTorch.

    A graph for any subset is compared on every subset, or on a sample of them. The planes of missing channels are NaN,
    which the graph may not read.

    Args:
        model: the classifier that was exported.
        path: the file.
        image_size: height and width in pixels, one number or ``(height, width)``. If the graph leaves them free, a
            second size is compared as well.
        tolerance: largest allowed difference as a fraction of the largest logit.

    Raises:
        ExportError: the file is missing or has another format.
        ChannelError: the model does not know a channel of the file.
    """
    model = as_classifier(model)
    metadata, run = open_outputs(path)
    names = tuple(metadata["channels"])
    fixed = metadata["fixed_size"]
    sizes = Sizes(None if fixed is None else height_width(fixed), metadata["least_size"], metadata["size_multiple"])
    height, width = sizes.example(height_width(image_size))
    shapes = [(height, width)]
    if sizes.fixed is None:
        shapes.append((height + sizes.multiple, width + 3 * sizes.multiple))
    if metadata["subset"] != ANY:
        return compare(model, lambda images, _: run(images.numpy()), [names], shapes, tolerance, of_subsets=1)

    def answer(images: Tensor, subset: tuple[str, ...]) -> list[np.ndarray]:
        planes = images.new_full((len(images), len(names), *images.shape[2:]), float("nan"))
        places = [names.index(name) for name in subset]
        planes[:, places] = images
        return run(planes.numpy(), np.array([name in subset for name in names]))

    return compare(model, answer, every_subset(model), shapes, tolerance, of_subsets=model.channels.count_subsets())


def check_hub_folder(
    model: Classifier, folder: str | Path, *, image_size: ImageSize = 224, tolerance: float = TOLERANCE
) -> Parity:
    """Compare the model that ``from_pretrained`` loads from a folder with the saved one; see ``check_export``.

    Subsets that the stem refuses are left out.
    """
    again = HubClassifier.from_pretrained(folder).float()

    @torch.no_grad()
    def answer(images: Tensor, subset: tuple[str, ...]) -> list[np.ndarray]:
        return [again(images, channels=subset).numpy()]

    stem = model.stem
    subsets = every_subset(model)
    if isinstance(stem, MaskedStem) and stem.trained is not None:
        subsets = [tuple(model.channels.names[position] for position in stem.trained)]
    shapes = [height_width(image_size)]
    return compare(model, answer, subsets, shapes, tolerance, of_subsets=model.channels.count_subsets())


def every_subset(model: Classifier) -> list[tuple[str, ...]]:
    """Channel names of every subset, or of a sample of them."""
    subsets, _, _ = choose_subsets(model.channels, by="channels")
    return [tuple(model.channels.names[position] for position in subset) for subset in subsets]


@torch.no_grad()
def compare(
    model: Classifier,
    answer: Callable[[Tensor, tuple[str, ...]], list[np.ndarray]],
    subsets: Sequence[tuple[str, ...]],
    shapes: Sequence[tuple[int, int]],
    tolerance: float,
    *,
    of_subsets: int,
) -> Parity:
    """Compare the model with ``answer(images, channels)`` on every subset, batch size and image size.

    The answer is the logits, or logits and probabilities. The model computes in float32. The images are normal noise
    with the mean and standard deviation of each channel.
    """
    model = copy.deepcopy(model).cpu().float().eval()
    drawn = torch.Generator().manual_seed(0)
    several = model.spec.thresholds is not None
    largest, largest_logit, worst, of_probabilities = -1.0, 0.0, "", None
    for subset, batch, (height, width) in product(subsets, BATCHES, shapes):
        known = model.channels.select(subset)
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (known.mean, known.std))
        images = mean + std * torch.randn(batch, len(subset), height, width, generator=drawn)
        expected = model(images, channels=subset)
        logits, *more = answer(images, subset)
        difference = find_difference(logits, expected)
        largest_logit = max(largest_logit, float(expected.abs().max()))
        for probabilities in more:
            shares = to_probabilities(expected / temperature_of(model, subset), several=several)
            found = find_difference(probabilities, shares)
            of_probabilities = found if of_probabilities is None else float(np.maximum(of_probabilities, found))
        if difference > largest or not np.isfinite(difference):
            largest, worst = difference, f"{','.join(subset)}, {batch} x {height} x {width}"
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
        largest_probability_difference=of_probabilities,
    )


def find_difference(found: np.ndarray, expected: Tensor) -> float:
    """The largest absolute difference; NaN if there is one."""
    return float(np.abs(found - expected.numpy()).max())
