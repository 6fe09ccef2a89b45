"""What the page's endpoints do, without HTTP: a run opened once, images opened and classified from any thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock

import torch

from anychannel.channels import ChannelError, as_channel_set, parse_names
from anychannel.data import to_tensor
from anychannel.models import load_model
from anychannel.results.evaluation import SubsetResult
from anychannel.results.run import load_runs
from anychannel.runs.execute import load_data
from anychannel.runs.folder import read_config
from anychannel.runs.predict import READING, to_probabilities, trained_shape
from anychannel.serve.examples import find_examples
from anychannel.serve.images import UNUSED, ImageStore, OpenedImage, open_image


class GoneError(KeyError):
    """An image is not kept (any more); it has to be sent again."""


@dataclass(frozen=True)
class Answer:
    """The network's answer: the channels shown in its own order, and its best classes with their probabilities."""

    channels: tuple[str, ...]
    missing: tuple[str, ...]
    top: tuple[tuple[str, float], ...]


class Service:
    """A trained run that answers.

    Args:
        folder: the run's.

    Raises:
        RunError, ModelFileError: the folder is not a run, or its model cannot be loaded.
    """

    def __init__(self, folder: str | Path) -> None:
        self.config = read_config(folder)
        self.run = load_runs([Path(folder)])[0]
        self.model = load_model(folder)
        self.channels = self.model.channels
        self.classes = self.model.classes or tuple(str(index) for index in range(self.model.spec.num_classes))
        self.shape = trained_shape(self.config, self.run.record)
        self.reading = {key: value for key, value in self.config.data_options.items() if key in READING}
        self.images = ImageStore()
        self._lock = Lock()
        self.examples, self.no_examples = find_examples(
            self.run, self.config, self.channels, shape=self.shape, held=self.file_channels, reading=self.reading
        )
        for example in self.examples:
            self.images.pin(example)

    @cached_property
    def own_channels(self) -> tuple[str, ...]:
        """All channels that the run's data name themselves; the network's where the data are gone."""
        try:
            return load_data(replace(self.config, only_channels=None)).channels.names
        except (OSError, ValueError):
            return self.channels.names

    @property
    def file_channels(self) -> tuple[str, ...]:
        """What a file of the training data holds, in order, with ``-`` for a channel that the network never sees."""
        if self.config.only_channels is None:
            return self.channels.names
        held = self.own_channels if self.config.channels is None else as_channel_set(self.config.channels).names
        return tuple(name if name in self.channels.names else UNUSED for name in held)

    def open(
        self, data: bytes, name: str, channels: str | Sequence[str] | None = None, layout: str | None = None
    ) -> OpenedImage:
        """Decode a file and keep it; see ``open_image``."""
        image = open_image(
            data,
            name,
            self.channels,
            shape=self.shape,
            channels=channels or self.file_channels,
            reading=self.reading | ({"layout": layout} if layout else {}),
            record=self.run.record,
        )
        self.images.add(image)
        return image

    def image(self, key: str) -> OpenedImage:
        """An image that was opened before.

        Raises:
            GoneError: it is not kept.
        """
        found = self.images.get(key)
        if found is None:
            raise GoneError(f"image {key!r} is not kept here (any more); send the file again")
        return found

    def predict(self, image: OpenedImage, channels: str | Sequence[str] | None = None, top: int = 5) -> Answer:
        """Classify an image from some of its channels, by the same path as ``anychannel predict``.

        Args:
            image: what ``open`` gave.
            channels: those to show to the network; None shows all that the image holds.
            top: number of classes.

        Raises:
            ChannelError: a name is unknown, repeats or is not in the image, or the network does not take the subset.
            DataError: the network's answer is not finite.
        """
        names = image.channels if channels is None else parse_names(channels)
        self.channels.positions(names)
        absent = [name for name in names if name not in image.channels]
        if absent:
            raise ChannelError(f"{image.name} does not hold {', '.join(absent)}; it holds {', '.join(image.channels)}")
        chosen = [name for name in self.channels.names if name in names]
        planes = image.pixels[[image.channels.index(name) for name in chosen]]
        with self._lock, torch.no_grad():
            logits = self.model(to_tensor(planes)[None], channels=chosen)
        best = to_probabilities(logits, image.name).topk(min(top, len(self.classes)))
        return Answer(
            channels=tuple(chosen),
            missing=tuple(name for name in self.channels.names if name not in chosen),
            top=tuple((self.classes[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)),
        )

    def expected(self, channels: Sequence[str]) -> SubsetResult | None:
        """What the run's evaluation on test images found for a subset; None where it was not evaluated."""
        if self.run.test is None:
            return None
        return self.run.test.subsets.get(self.channels.key(self.channels.positions(channels)))
