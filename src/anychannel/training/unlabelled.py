"""Teach a trained network every subset of its channels by its own answers to all of them: no labels, minutes.

    model = ac.adapt("timm/tf_efficientnet_lite0", channels="R,G,B")
    model = ac.adapt_unlabelled(model, images)

An image's answer with all channels is the target for the same image with fewer (Hinton, Vinyals and Dean, "Distilling
the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531). Only weights that reduced subsets have for
themselves are learned (``models/own_weights.py``), so answers to all channels do not change. Batch norms keep their
statistics meanwhile. Some images are held out: a subset whose answers are no nearer to the full set's there than before
keeps its old weights.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from anychannel.channels import ChannelError, ChannelSet, Subset
from anychannel.data import TorchImages
from anychannel.data.input_images import Reader
from anychannel.data.unlabelled import read_folder
from anychannel.models.own_weights import own_parameters, parameters_of, shares_weights, with_own_weights
from anychannel.models.view import as_view
from anychannel.nn.bn_statistics import arrange_split
from anychannel.nn.channel_sampling import Part, create_sampler, draw_integer, draw_subset
from anychannel.nn.classifier import Classifier
from anychannel.nn.module_utils import HALF, place
from anychannel.training.autocast import autocast
from anychannel.training.calibration import gives_samples
from anychannel.training.finite_updates import TrainingError
from anychannel.training.loss import divergence
from anychannel.training.matching import Names, open_images, thresholds_of
from anychannel.utils.hardware import choose_device, choose_precision
from anychannel.utils.progress import progress_bar
from anychannel.utils.sizes import ImageSize, height_width

MOST_HELD_OUT = 100
"""Images that check the result; a tenth of the images if that is less."""

MOST_CHECKED = 14
"""Subsets that the held-out images check; with more, so many are drawn."""

MOST_IMAGES = 20_000
"""Images of a PyTorch data set that are read, and held, at most."""

WARM_UP = 10
"""Steps in which the learning rate rises."""

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Agreement:
    """How a subset's answers to held-out images agree with the full set's.

    ``before`` and ``after`` are shares of the images with the same most probable class, and ``kept`` says whether the
    subset has learned weights.
    """

    before: float
    after: float
    kept: bool


@dataclass(frozen=True)
class Adaptation:
    """An adapted network, its agreement by subset (``R,G``) on ``held_out`` images, and the image passes it took."""

    model: Any
    agreement: dict[str, Agreement]
    images: int
    held_out: int
    passes: int


def adapt_unlabelled(model: Model, images: Any, **options: Any) -> Model:
    """Make one network for all subsets from a trained one and unlabelled images that have all channels.

    Args:
        model: a trained classifier or a network that ``adapt`` returned. It is not changed.
        images: a folder of image files, an array or tensor (N, C, H, W) in the files' units with the model's channels
            in its order, a split of loaded data, batches of these, or a PyTorch ``Dataset`` or ``DataLoader``, of which
            the first 20,000 images are used. Labels are not read. The images are kept in memory. A thousand are enough;
            a hundred help.
        options: see ``learn_unlabelled``.

    Returns:
        A copy in evaluation mode, on the model's device. With all channels it answers as ``model`` does.

    Raises:
        ChannelError: the images do not have the model's channels.
        ValueError: there are fewer than two images, or the stem has no kernels that can be corrected.
        TrainingError: the loss is not finite.
    """
    adapted: Model = learn_unlabelled(model, images, **options).model
    return adapted


def learn_unlabelled(
    model: nn.Module,
    images: Any,
    *,
    passes: int = 25_000,
    batch_size: int = 24,
    lr: float = 1e-3,
    size: ImageSize | None = None,
    image_channels: Names = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    progress: bool = False,
) -> Adaptation:
    """``adapt_unlabelled`` with a report.

    Args:
        model, images: see ``adapt_unlabelled``.
        passes: number of images that pass through the network at most, those for targets and checks included.
        batch_size: images that pass in a step. An image passes with one channel and with a larger subset.
        lr: highest learning rate of Adam.
        size: height and width in pixels to which the files of a folder are resized and cropped; None keeps their size.
        image_channels: names of the planes of a ``Dataset``, a ``DataLoader`` or a folder's files in their order, for
            files that the folder does not name, ``-`` for one that is not used; None means the model's channels in
            its order.
        seed: decides the order of the images, mirroring, the subsets and the held-out images.
        device, precision: see ``TrainingSettings``.
        progress: show a bar on standard error.
    """
    if passes < 1 or batch_size < 1:
        raise ValueError(f"passes and batch_size are at least 1, got {passes} and {batch_size}")
    view = as_view(model)
    check_format(model)
    found = collect(images, view, size, image_channels)
    chosen, generator = choose_device(device), torch.Generator().manual_seed(seed)
    order = torch.randperm(len(found), generator=generator)
    held_out, shown = order.tensor_split([min(MOST_HELD_OUT, len(found) // 10)])
    made = with_own_weights(model).eval()
    trainable = [(parameter, parameter.requires_grad) for parameter in made.parameters()]
    made.requires_grad_(False)
    adapted = as_view(made)
    place(adapted, chosen)
    bf16 = choose_precision(precision, chosen) == "bf16"
    network = Passes(adapted, found, partial(autocast, chosen, bf16=bf16))
    checked = choose_checked(view, generator) if len(held_out) else []
    least = len(held_out) * (1 + 2 * len(checked)) + 2 * batch_size
    if passes < least:
        raise ValueError(
            f"{passes} passes are too few: checks of {len(held_out)} images on {len(checked)} subsets and a step of "
            f"{batch_size} images take {least}; give more, 25,000 by default"
        )
    before = {subset: network.compare(held_out, subset) for subset in checked}
    if shares_weights(adapted):  # they cannot be undone for one subset
        learned = {tuple(checked): own_parameters(adapted)} if checked else {}
    else:
        learned = {(subset,): parameters_of(adapted, subset) for subset in checked}
    start = {together: [value.detach().clone() for value in values] for together, values in learned.items()}
    budget = passes - len(held_out) * len(checked)
    teach(network, shown, budget, batch_size, lr, generator, progress)
    after = {subset: network.compare(held_out, subset) for subset in checked}
    undone: list[Subset] = []
    for together, values in learned.items():
        distances = [sum(found[subset].distance for subset in together) for found in (before, after)]
        if not distances[1] < distances[0]:
            undone += together
            for value, former in zip(values, start[together], strict=True):
                value.data.copy_(former)
    agreement = {
        view.channels.key(subset): Agreement(
            before[subset].share, (before if subset in undone else after)[subset].share, subset not in undone
        )
        for subset in checked
    }
    if undone and len(undone) == len(checked):
        warnings.warn(
            "no subset's answers came nearer to those of all channels, so all weights stay as they were; give more "
            f"images (there were {len(found)}) or more passes (there were {passes})",
            stacklevel=3,
        )
    for parameter, learns in trainable:
        parameter.requires_grad_(learns)
    made.to(next(model.parameters()).device)
    return Adaptation(made, agreement, len(shown), len(held_out), network.spent)


@dataclass(frozen=True)
class Comparison:
    """A subset's answers against the full set's: mean divergence, and share of the same class, or labels."""

    distance: float
    share: float


class Passes:
    """A network and its images (N, C, H, W); counts the images that pass, and keeps the answers to all channels."""

    def __init__(self, model: Classifier, images: Tensor, autocast: Callable[[], AbstractContextManager[None]]) -> None:
        self.model = model
        self.images = images
        self.autocast = autocast
        self.several = thresholds_of(model) is not None
        self.device = next(model.parameters()).device
        self.answers: dict[tuple[int, bool], Tensor] = {}
        self.spent = 0

    def load(self, rows: Tensor, mirrored: Tensor) -> Tensor:
        """Images by their rows, (B, C, H, W); those marked in ``mirrored`` from right to left."""
        images = self.images[rows].to(self.device)
        return torch.where(mirrored.to(self.device).view(-1, 1, 1, 1), images.flip(3), images)

    def forward(self, images: Tensor, parts: list[Part]) -> Tensor:
        """Logits in float32."""
        self.spent += sum(map(len, parts))
        with self.autocast():
            logits: Tensor = self.model(images, parts=parts)
        return logits.float()

    @torch.no_grad()
    def targets(self, rows: Tensor, mirrored: Tensor) -> Tensor:
        """Logits of the images with all channels, (B, K); each image passes once for them."""
        keys = list(zip(rows.tolist(), mirrored.tolist(), strict=True))
        new = [place for place, key in enumerate(keys) if key not in self.answers]
        if new:
            images = self.load(rows[new], mirrored[new])
            logits = self.forward(images, [Part(self.model.channels.full, 0, len(images))])
            self.answers.update({keys[place]: row for place, row in zip(new, logits.cpu(), strict=True)})
        return torch.stack([self.answers[key] for key in keys]).to(self.device)

    @torch.no_grad()
    def compare(self, rows: Tensor, subset: Subset, batch_size: int = 64) -> Comparison:
        """Compare a subset's answers to some images with those of all channels."""
        distances, same = [], []
        for batch in torch.split(rows, batch_size):
            plain = torch.zeros(len(batch), dtype=torch.bool)
            targets = self.targets(batch, plain)
            logits = self.forward(self.load(batch, plain), [Part(subset, 0, len(batch))])
            distances.append(divergence(logits, targets, several=self.several))
            same.append(
                ((logits >= 0) == (targets >= 0)).all(1) if self.several else logits.argmax(1) == targets.argmax(1)
            )
        return Comparison(float(torch.cat(distances).mean()), float(torch.cat(same).float().mean()))


@torch.enable_grad()
def teach(
    network: Passes,
    rows: Tensor,
    budget: int,
    batch_size: int,
    lr: float,
    generator: torch.Generator,
    progress: bool,
) -> None:
    """Learn the weights of reduced subsets, in place, until ``budget`` images have passed.

    In each step the same images pass with one channel and with a larger subset. The learning rate warms up over the
    first steps and falls to zero along a cosine.
    """
    model = network.model
    sampler = create_sampler("sandwich", model.channels)
    count = max(batch_size // (len(sampler(1, generator)) - 1), 1)
    optimizer = torch.optim.Adam([each.requires_grad_(True) for each in own_parameters(model)], lr=lr)
    queue = torch.zeros(0, dtype=torch.long)
    step = 0
    with progress_bar("adapting", budget, done=network.spent, show=progress) as advance:
        while network.spent + 2 * batch_size <= budget:
            before = network.spent
            while len(queue) < min(count, len(rows)):
                queue = torch.cat([queue, rows[torch.randperm(len(rows), generator=generator)]])
            chosen, queue = queue[:count], queue[count:]
            mirrored = torch.rand(len(chosen), generator=generator) < 0.5
            targets = network.targets(chosen, mirrored)
            parts = sampler(len(chosen), generator)[1:]
            logits = network.forward(network.load(chosen, mirrored), parts)
            loss = divergence(logits, targets.repeat(len(parts), 1), several=network.several).mean()
            value = float(loss.detach())
            if not math.isfinite(value):
                raise TrainingError(f"the loss is {value} at step {step}; look for NaN or infinity in the images")
            for group in optimizer.param_groups:
                warm = min(1.0, (step + 1) / WARM_UP)
                group["lr"] = lr * warm * 0.5 * (1 + math.cos(math.pi * network.spent / budget))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            step += 1
            advance(network.spent - before, f"loss {value:.3f}" if step % 50 == 0 else None)


def choose_checked(model: Classifier, generator: torch.Generator) -> list[Subset]:
    """All reduced subsets if they are few, else some with sizes drawn evenly; of whole groups, if there are groups."""
    channels, units = model.channels, list(model.channels.units.values())
    count = len(units)
    if 2**count - 2 <= MOST_CHECKED:
        return [subset for subset in channels.group_subsets() if subset != channels.full]
    drawn = {draw_subset(count, draw_integer(1, count - 1, generator), generator) for _ in range(MOST_CHECKED)}
    ordered = sorted(drawn, key=lambda chosen: (-len(chosen), chosen))
    return [channels.join(units[i] for i in chosen) for chosen in ordered]


def check_format(model: nn.Module) -> None:
    """Raise ValueError if weights are in half precision, in which small steps of learning are lost."""
    half = next((value.dtype for value in model.parameters() if value.dtype in HALF), None)
    if half is not None:
        raise ValueError(f"the network's weights are {str(half).removeprefix('torch.')}; adapt model.float() instead")


def collect(images: Any, model: Classifier, size: ImageSize | None, image_channels: Names = None) -> Tensor:
    """All images as one tensor (N, C, H, W) with the model's channels; see ``adapt_unlabelled``."""
    names = model.channels.names
    if isinstance(images, str | Path):
        shape = None if size is None else height_width(size)
        held = image_channels.names if isinstance(image_channels, ChannelSet) else image_channels
        images = read_folder(images, Reader(model.channels, shape, size_was_set=size is not None), channels=held)
        image_channels = None
    elif size is not None:
        raise ValueError("size has no effect: it is for the files of a folder; leave it out")
    if gives_samples(images):
        opened = open_images(images, model, "the images", image_channels, labelled=False)
        assert isinstance(opened, TorchImages)
        whole = opened.select(opened.channels.positions(names))
        images = [batch.images for batch in whole.in_order(256, most=MOST_IMAGES)]
    elif image_channels is not None:
        raise ValueError("image_channels names the planes of files, a Dataset or DataLoader; leave it out")
    images = arrange_split(images, model, names)
    if not hasattr(images, "__array__"):
        batches = [torch.as_tensor(batch[0] if isinstance(batch, tuple | list) else batch) for batch in images]
        sizes = sorted({tuple(batch.shape[1:]) for batch in batches})
        if len(sizes) > 1:
            raise ValueError(
                f"batches of images (channels, height, width) of several sizes given, {sizes[0]} and {sizes[1]}; "
                "resize them to one size"
            )
        images = torch.cat(batches) if batches else torch.zeros(0)
    found = torch.as_tensor(images)
    if len(found) < 2:
        raise ValueError(f"adapt_unlabelled needs at least two images, got {len(found)}")
    if found.ndim != 4 or found.shape[1] != len(names):
        raise ChannelError(
            f"images of shape {tuple(found.shape)} given; adapt_unlabelled takes (N, {len(names)}, height, width) with "
            f"all of the model's channels in its order, {', '.join(names)}"
        )
    return found
