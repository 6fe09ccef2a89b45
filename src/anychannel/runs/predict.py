"""Classify images with a trained network, whichever of its channels they have.

predictor = Predictor("runs/photos")
image = predictor.open("green.tif", channels="G")
print(predictor.predict(image).top(3))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anychannel.channels import ChannelError, ChannelSet, parse_names
from anychannel.data import DataError, to_tensor
from anychannel.data.content import Content
from anychannel.data.errors import ImageError
from anychannel.data.files.names import check_names
from anychannel.data.files.read import ReadSettings, open_content, read
from anychannel.data.files.resize import resize_valid
from anychannel.models import Classifier, load_model
from anychannel.models.hub import WEIGHTS
from anychannel.models.saving import BEST
from anychannel.results.run import OUTSIDE, read_record, warn_unfinished
from anychannel.runs import appearance
from anychannel.runs.appearance import describe_appearance, measure_distance
from anychannel.runs.folder import read_array, read_config
from anychannel.training.matching import count_classes
from anychannel.training.outputs import logits_of
from anychannel.utils.plurals import plural
from anychannel.utils.sizes import height_width

READING = ("layout", "nodata", "scaled", "check_names", "convert")
"""Entries of ``data_options`` that apply to new files as well."""

UNUSED = "-"
"""Stands in a list of a file's channels for one that the network does not know."""

FAR = 3.0
"""A channel is reported if its mean is this many training standard deviations from the training mean."""


@dataclass(frozen=True, eq=False)
class InputImage:
    """An image that is ready for the network: the k channels that it has and the network knows, in the planes' order.

    ``original`` holds the (k, H, W) pixels of the file, ``pixels`` those resized and cropped as in training. ``far`` is
    a sentence for each channel whose mean is far from the training mean. ``notes`` lists the other differences from the
    training images in sentences.
    """

    name: str
    channels: tuple[str, ...]
    original: np.ndarray
    pixels: np.ndarray
    far: Mapping[str, str]
    notes: tuple[str, ...]

    def remarks(self, channels: Sequence[str] | None = None) -> list[str]:
        """All differences from the training images in these channels; None means all that the image has."""
        far = [text for name, text in self.far.items() if channels is None or name in channels]
        others = f", and {plural(len(far) - 1, 'more channel')} likewise" if len(far) > 1 else ""
        about = [f"{far[0]}{others}: is this the same sensor, depth and order of channels?"] if far else []
        return [*self.notes, *about]


@dataclass(frozen=True, eq=False)
class Prediction:
    """Class probabilities of one image, (K,) float32, from ``channels`` in the network's order.

    ``unlike`` says how the image differs from all training images in these channels, so that neither the probabilities
    nor the run's test accuracy can be relied on; None if it does not.
    """

    channels: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: Tensor
    unlike: str | None = None

    def top(self, count: int) -> list[tuple[str, float]]:
        """The most probable classes with their probabilities, best first."""
        best = self.probabilities.topk(min(count, len(self.classes)))
        return [(self.classes[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


@dataclass(frozen=True)
class Reader:
    """Brings images to the form in which a network of these channels was trained on them. It holds no network.

    ``shape`` is the height and width in pixels of the training images, and None keeps an image's own; ``size_was_set``
    says that it is not the files' own size. ``image_type`` names the training images' type, if known. ``options`` are
    arguments of ``ReadSettings``.
    """

    channels: ChannelSet
    shape: tuple[int, int] | None = None
    size_was_set: bool = False
    image_type: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def open(
        self,
        image: str | Path | Content | np.ndarray,
        channels: str | Sequence[str] | None = None,
        *,
        name: str | None = None,
        layout: str | None = None,
        nodata: float | str | None = None,
    ) -> InputImage:
        """Decode an image as in training.

        Args:
            image: path of a file, content of a file, or a (C, H, W) array.
            channels: names of the image's channels in order, ``-`` for each that the network does not know. None means
                the network's channels.
            name: name for messages. None uses the path.
            layout: ``planar`` or ``interleaved``, for a TIFF or array that does not say. None uses the run's setting.
            nodata: ``"keep"`` or a replacement value; see ``load_dataset``. None uses the run's setting.

        Raises:
            ChannelError: a name is unknown or repeats, or all are ``-``.
            DataError: the image cannot be read, or has another number of channels or other channel names.
        """
        if isinstance(image, str | Path):
            name = name or str(image)
            image = open_content(image, name)
        name = name or "the image"
        names = self.channels.names if channels is None else parse_names(channels)
        kept = [position for position, channel in enumerate(names) if channel != UNUSED]
        if not kept:
            raise ChannelError(
                f"every channel of {name} is named {UNUSED!r}; name at least one of {', '.join(self.channels.names)}"
            )
        used = tuple(names[position] for position in kept)
        kinds = [self.channels.kinds[position] for position in self.channels.positions(used)]
        options = {"check_names": True, **self.options}
        options |= {key: value for key, value in (("layout", layout), ("nodata", nodata)) if value is not None}
        settings = ReadSettings(names, **{**options, "check_names": False})
        try:
            found = read(image, settings)
            if options["check_names"] and len(found.names) == len(names):
                check_names([found.names[position] for position in kept], used, kinds)
        except ImageError as error:
            raise DataError(f"{name}: {error}") from error
        found = found.select(kept)
        return self.prepare(found.pixels, used, name, found.missing)

    def prepare(
        self, pixels: np.ndarray, channels: tuple[str, ...], name: str, missing: np.ndarray | None = None
    ) -> InputImage:
        """Resize (k, H, W) pixels of named channels as in training, and compare them with the training images.

        A channel is missing if all of its pixels are no data (``missing``, shaped like the pixels).

        Raises:
            DataError: no pixel of any channel is valid.
        """
        shape = self.shape or (pixels.shape[1], pixels.shape[2])
        fitted, missing = resize_valid(pixels, shape, missing)
        notes = []
        if missing is not None:
            held = np.flatnonzero(~missing.all(axis=(1, 2))).tolist()
            absent = [channel for position, channel in enumerate(channels) if position not in held]
            if not held:
                raise DataError(f"{name}: all values of {', '.join(channels)} are no data; it cannot be classified")
            if absent:
                notes.append(f"No pixel of {', '.join(absent)} is valid, so that it counts as missing.")
            pixels, fitted, missing = pixels[held], fitted[held], missing[held]
            channels = tuple(channels[position] for position in held)
        far = self.find_far(fitted, channels, missing)
        if self.image_type not in (None, pixels.dtype.name):
            notes.append(
                f"It holds {pixels.dtype.name} values, the training images held {self.image_type}: do equal numbers "
                "mean the same?"
            )
        if not self.size_was_set and pixels.shape[1:] != shape:
            sizes = [f"{height} x {width}" for height, width in (pixels.shape[1:], shape)]
            notes.append(f"It is {sizes[0]} pixels and was brought to {sizes[1]}, as in training.")
        return InputImage(name, channels, pixels, fitted, far, tuple(notes))

    def find_far(
        self, pixels: np.ndarray, channels: Sequence[str], missing: np.ndarray | None = None
    ) -> dict[str, str]:
        """Find channels whose mean is far from the training mean. A wrong depth or order of channels causes this."""
        far = {}
        valid = np.broadcast_to(True, pixels.shape) if missing is None else ~missing
        for i, (name, position) in enumerate(zip(channels, self.channels.positions(channels), strict=True)):
            mean, std = self.channels.mean[position], self.channels.std[position]
            average = float(pixels[i].mean(dtype=np.float64, where=valid[i]))
            if abs(average - mean) > FAR * std:
                here, usual, spread = (f"{v:,.0f}" if abs(v) >= 1000 else f"{v:.4g}" for v in (average, mean, std))
                far[name] = f"{name} averages {here} here, but {usual} ± {spread} in training"
        return far


class Predictor:
    """A trained network that classifies images. It may be used from several threads.

    Args:
        folder: a run's folder, or a folder written by ``save_model`` or ``save_pretrained``. Without a run's record,
            images keep their size.
        model: the network, if the folder cannot rebuild it, since it is of a class of your own; None loads it.

    Raises:
        RunError, ModelFileError: the folder is neither, or a file of it is damaged.

    Warns:
        UserWarning: the run is not finished, so its weights are not the final ones.
    """

    def __init__(self, folder: str | Path, model: Classifier | None = None) -> None:
        folder = Path(folder)
        warn_unfinished(folder)
        if model is None:
            model = load_model(folder, weights=WEIGHTS if (folder / WEIGHTS).is_file() else BEST)
        self.model = model.eval()
        self.channels = model.channels
        self.classes = model.classes or tuple(str(index) for index in range(count_classes(model) or 0))
        self.reader, self.appearance = Reader(self.channels), None
        if (folder / "run.json").is_file():
            record = read_record(folder)
            if record.get(OUTSIDE):
                self.classes = tuple(record["classes"])
            config = None if record.get(OUTSIDE) else read_config(folder)
            self.reader = Reader(
                self.channels,
                height_width(record["image_size"]),
                config is not None and config.size is not None,
                record.get("image_type"),
                {key: config.data_options[key] for key in READING if key in config.data_options} if config else {},
            )
            self.appearance = read_array(folder / appearance.FILE, (None, len(self.channels), appearance.FIGURES))
        self._lock = Lock()

    def open(self, image: str | Path | Content | np.ndarray, *arguments: Any, **options: Any) -> InputImage:
        """Decode an image as in training; see ``Reader.open``."""
        return self.reader.open(image, *arguments, **options)

    @torch.no_grad()
    def predict(self, image: InputImage, channels: str | Sequence[str] | None = None) -> Prediction:
        """Classify an image that ``open`` returned from some of its channels; None uses all that it has.

        Raises:
            ChannelError: a name is unknown, repeats or is not in the image, or the network refuses the subset.
            DataError: the probabilities are not finite.
        """
        names = image.channels if channels is None else parse_names(channels)
        subset = self.channels.subset(names)
        absent = [name for name in names if name not in image.channels]
        if absent:
            raise ChannelError(f"{image.name} does not hold {', '.join(absent)}; it holds {', '.join(image.channels)}")
        chosen = tuple(self.channels.names[position] for position in subset)
        planes = image.pixels[[image.channels.index(name) for name in chosen]]
        if image.far:
            self.model.input_range.warned = True  # the image's remarks say it
        with self._lock:
            device = next(self.model.parameters()).device
            logits = logits_of(self.model(to_tensor(planes)[None].to(device), channels=chosen)).cpu()
        if not logits.isfinite().all():
            raise DataError(
                f"{image.name}: the network's answer is not finite, so its values are far beyond the training images'; "
                "bring them to the same units"
            )
        return Prediction(chosen, self.classes, torch.softmax(logits.float(), dim=1)[0], self._compare(image, chosen))

    def _compare(self, image: InputImage, channels: tuple[str, ...]) -> str | None:
        """How the image is unlike the training images in these channels; None if it is not, or nothing is known."""
        measured = None
        if self.appearance is not None:
            figures = describe_appearance(image.pixels[[image.channels.index(name) for name in channels]])
            measured = measure_distance(self.appearance, figures, self.channels.positions(channels))
        if measured is None:  # an earlier version's run, or too few images with these channels
            far = [image.far[name] for name in channels if name in image.far]
            return f"It is unlike the training images: {'; '.join(far)}." if far else None
        if measured[0] <= measured[1]:
            return None
        seen = ", ".join(channels) if len(channels) <= 4 else f"these {len(channels)} channels"
        return (
            f"In {seen} it is unlike the training images (distance {measured[0]:,.0f}, theirs are up to "
            f"{measured[1]:,.0f}), so neither the prediction nor its confidence can be relied on."
        )


def predict_files(
    folder: str | Path,
    images: Sequence[str | Path],
    *,
    channels: str | Sequence[str] | None = None,
    top: int = 3,
    layout: str | None = None,
    nodata: float | str | None = None,
    skip_bad: bool = False,
) -> list[dict[str, Any]]:
    """Classify image files with a folder's ``Predictor``; for ``channels``, ``layout`` and ``nodata`` see its ``open``.

    Returns:
        For each file ``{"path", "channels", "top": [{"class", "probability"}], "unlike", "notes"}``, best class first,
        with ``unlike`` as in ``Prediction``; or, with ``skip_bad``, ``{"path", "error"}`` if a file cannot be read or
        classified. Otherwise that raises DataError or OSError.
    """
    predictor = Predictor(folder)
    results: list[dict[str, Any]] = []
    for path in images:
        try:
            image = predictor.open(path, channels, layout=layout, nodata=nodata)
            answer = predictor.predict(image)
        except (DataError, OSError) as error:
            if not skip_bad:
                raise
            reason = f"{path} cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
            results.append({"path": str(path), "error": reason})
            continue
        results.append(
            {
                "path": str(path),
                "channels": list(image.channels),
                "top": [{"class": name, "probability": round(value, 4)} for name, value in answer.top(top)],
                "unlike": answer.unlike,
                "notes": image.remarks(),
            }
        )
    return results
