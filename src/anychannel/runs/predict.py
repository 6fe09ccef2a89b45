"""Classify images with a trained network, whichever of its channels they have.

predictor = Predictor("runs/photos")
image = predictor.open("green.tif", channels="G")
print(predictor.predict(image).top(3))

Files are decoded in threads while the network computes; a few hundred are in memory at a time.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from anychannel.channels import ChannelError, ChannelSet
from anychannel.data import DataError, appearance, to_tensor
from anychannel.data.appearance import Familiar, describe_appearance, familiar
from anychannel.data.content import BandFiles, Content
from anychannel.data.dead_channels import DeadChannels, remarks
from anychannel.data.image_paths import ImagePath, choose_bands, find_images
from anychannel.data.input_images import READING, UNUSED, InputImage, Reader
from anychannel.models.saving import find_weights, read_model
from anychannel.models.view import as_view
from anychannel.nn.classifier import Classifier
from anychannel.nn.module_utils import inference_mode, place
from anychannel.nn.temperatures import temperature_of
from anychannel.results.run import OUTSIDE, read_record, warn_unfinished
from anychannel.runs.folder import read_array, read_config
from anychannel.training.outputs import logits_of, to_probabilities
from anychannel.utils.hardware import choose_device, choose_precision
from anychannel.utils.plurals import plural
from anychannel.utils.progress import progress_bar
from anychannel.utils.sizes import height_width

if TYPE_CHECKING:  # what is needed to evaluate a data set, most predictions do without
    from anychannel.evaluation.predict import Predictions

BATCH = 64
"""Most images that the network computes together."""
AHEAD = 4 * BATCH
"""Files that are decoded before the network needs them."""
THREADS = 4
"""Most threads that compute batches on a CPU."""
VALUES = 2**24
"""Values (pixels times channels) of a batch, and of the images that are decoded ahead an eighth of this."""

Names = str | Sequence[str] | None


@dataclass(frozen=True, eq=False)
class Prediction:
    """Class probabilities of one image, (K,) float32, from ``channels`` in the network's order.

    With ``thresholds``, the image may have several labels: those whose probability is at least their threshold.
    ``unlike`` says how the image differs from all training images in these channels, so that neither the probabilities
    nor the run's test accuracy can be relied on; None if it does not. ``dead`` says of channels that may be dead or
    saturated what they look like, whether they were used or left out.
    """

    channels: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: Tensor
    unlike: str | None = None
    dead: Mapping[str, str] = field(default_factory=dict)
    thresholds: tuple[float, ...] | None = None

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The labels that pass, in the classes' order; None of a network that gives one class."""
        if self.thresholds is None:
            return None
        passed = (self.probabilities.numpy() >= np.array(self.thresholds)).tolist()
        return tuple(name for name, has in zip(self.classes, passed, strict=True) if has)

    def top(self, count: int) -> list[tuple[str, float]]:
        """The most probable classes with their probabilities, best first."""
        best = self.probabilities.topk(min(count, len(self.classes)))
        return [(self.classes[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of one file: a prediction with notes about the image, or the error that prevented one."""

    path: str
    channels: tuple[str, ...] = ()
    prediction: Prediction | None = None
    notes: tuple[str, ...] = ()
    error: Exception | None = None

    @property
    def reason(self) -> str:
        """The text of the error."""
        if isinstance(self.error, OSError):
            return f"{self.path} cannot be read: {self.error.strerror}"
        return str(self.error)

    def brief(self, top: int) -> dict[str, Any]:
        """The ``top`` classes as JSON holds them; see ``predict_files``."""
        if self.prediction is None:
            return {"path": self.path, "error": self.reason}
        ranked = [{"class": name, "probability": round(share, 4)} for name, share in self.prediction.top(top)]
        found = {"path": self.path, "channels": list(self.channels)}
        if self.prediction.labels is not None:
            found["labels"] = list(self.prediction.labels)
        return found | {"top": ranked} | self._remarks()

    def full(self) -> dict[str, Any]:
        """The probabilities of all classes, as a row of ``anychannel.runs.prediction_files``."""
        if self.prediction is None:
            return {"path": self.path, "error": self.reason}
        ((best, share),) = self.prediction.top(1)
        shares = dict(zip(self.prediction.classes, self.prediction.probabilities.tolist(), strict=True))
        labels = self.prediction.labels
        row: dict[str, Any] = {"path": self.path, "channels": list(self.channels)}
        row |= {"class": best, "probability": share} if labels is None else {"labels": list(labels)}
        return row | {"probabilities": shares} | self._remarks()

    def _remarks(self) -> dict[str, Any]:
        assert self.prediction is not None
        dead = list(self.prediction.dead)
        return {"unlike": self.prediction.unlike, "dead": dead, "notes": list(self.notes)}


def find_reader(home: Path, record: Mapping[str, Any], channels: ChannelSet) -> tuple[Reader, str | None]:
    """What reads images as those of a run were read, and the pattern of its files with one band each, if it has one.

    ``record`` is what ``read_record`` returns of the run.
    """
    config = None if record.get(OUTSIDE) else read_config(home)
    options = {} if config is None else config.data_options
    reader = Reader(
        channels,
        height_width(record["image_size"]),
        config is not None and config.size is not None,
        record.get("image_type"),
        {key: options[key] for key in READING if key in options},
    )
    return reader, options.get("bands")


class Predictor:
    """A trained network that classifies images. It may be used from several threads.

    Args:
        model: a run's folder, a folder written by ``save_model`` or ``save_pretrained``, or a classifier in evaluation
            mode, which ``adapt`` may have returned.
        run: of a classifier, the folder with its record, if there is one. Without a run's record, images keep their
            size.
        device: ``auto`` or a torch device; None is the CPU for a folder, and the model's own for a classifier.
        precision: ``fp32``, ``bf16`` (autocast), or ``auto`` for bf16 if the hardware supports it; None is fp32.

    Raises:
        RunError, ModelFileError: the folder is neither, or a file of it is damaged.
        ValueError: the device or precision is unknown.

    Warns:
        UserWarning: the run is not finished, so its weights are not the final ones.
    """

    def __init__(
        self,
        model: str | Path | nn.Module,
        *,
        run: str | Path | None = None,
        device: str | None = None,
        precision: str | None = None,
    ) -> None:
        home = Path(model) if isinstance(model, str | Path) else None if run is None else Path(run)
        if home is not None:
            warn_unfinished(home)
        if isinstance(model, str | Path):
            self.network = read_model(Path(model), weights=find_weights(Path(model)), twin=True)
            self.device = choose_device(device or "cpu")
            place(self.network, self.device)
        else:
            self.network = as_view(model)
            self.device = next(model.parameters()).device if device is None else choose_device(device)
        self.channels = self.network.channels
        self.classes = self.network.classes or tuple(str(index) for index in range(self.network.spec.num_classes))
        self.reader = Reader(self.channels)
        self.appearance: np.ndarray | None = None
        self.bands: str | None = None
        if home is not None and (home / "run.json").is_file():
            record = read_record(home)
            self.classes = tuple(record["classes"]) if record.get(OUTSIDE) else self.classes
            self.reader, self.bands = find_reader(home, record, self.channels)
            self.appearance = read_array(home / appearance.FILE, (None, len(self.channels), appearance.FIGURES))
        self.dead = DeadChannels(self.channels, self.appearance)
        self.bf16 = choose_precision(precision or "fp32", self.device) == "bf16"
        self._lock = Lock()
        own = self.device.type == "cpu" and not isinstance(model, nn.Module)  # a user's network may not stand threads
        self._threads = max(1, min(THREADS, torch.get_num_threads())) if own else 1
        self._familiar = lru_cache(maxsize=256)(self._find_familiar)

    @cached_property
    def model(self) -> Classifier:
        """The network with the methods of ``anychannel.Classifier``."""
        from anychannel.models.hub import Classifier as HubClassifier  # here, since it imports the hub's client

        return HubClassifier.of(self.network)

    def open(self, image: str | Path | Content | BandFiles | np.ndarray, *arguments: Any, **options: Any) -> InputImage:
        """Decode an image as in training; see ``Reader.open``."""
        return self.reader.open(image, *arguments, **options)

    def predict(self, image: InputImage, channels: Names = None) -> Prediction:
        """Classify an image that ``open`` returned from some of its channels; None uses all that it has.

        Raises:
            ChannelError: a name is unknown, repeats or is not in the image, or the network refuses the subset.
            DataError: the probabilities are not finite.
        """
        names = image.channels if channels is None else self.channels.expand(channels)
        with self._lock:
            (found,) = self._classify([image], [self.choose(image, names)])
        if isinstance(found, Exception):
            raise found
        return found

    def choose(self, image: InputImage, names: Sequence[str]) -> tuple[str, ...]:
        """Channels of an image in the network's order. Raises ChannelError as ``predict`` does."""
        subset = self.channels.subset(names)
        absent = [name for name in names if name not in image.channels]
        if absent:
            raise ChannelError(f"{image.name} does not hold {', '.join(absent)}; it holds {', '.join(image.channels)}")
        return tuple(self.channels.names[position] for position in subset)

    def predict_paths(
        self,
        images: Sequence[ImagePath],
        *,
        channels: Names = None,
        use: Names = None,
        drop: Names = None,
        drop_dead: bool = False,
        layout: str | None = None,
        nodata: float | str | None = None,
    ) -> Generator[Answer]:
        """Classify image files; yields an answer for each, in their order.

        Args:
            images: the files. Names of channels that come with one and are not the network's are not used.
            channels: names of the channels of all other files in order; see ``Reader.open``, also for ``layout`` and
                ``nodata``.
            use: the channels of each image that the network gets. None means all.
            drop: channels that the network does not get.
            drop_dead: leave out channels of an image that may be dead or saturated.

        Raises:
            ChannelError: a name of ``channels``, ``use`` or ``drop`` is unknown, or no channel is left.
        """
        kept = self.keep(channels, use, drop)
        return self._answer(images, kept, channels, use is not None, drop_dead, layout, nodata)

    def _answer(
        self,
        images: Sequence[ImagePath],
        kept: tuple[str, ...],
        channels: Names,
        exactly: bool,
        drop_dead: bool,
        layout: str | None,
        nodata: float | str | None,
    ) -> Generator[Answer]:
        """See ``predict_paths``; ``exactly`` refuses images that lack one of the ``kept`` channels."""

        def decode(image: ImagePath) -> InputImage | Exception:
            try:
                opened = self.reader.open_path(image, channels, layout=layout, nodata=nodata)
            except (DataError, OSError) as error:
                return error
            return replace(opened, original=opened.pixels)

        def finish(first: int, batch: list[InputImage | Exception], answers: Future[Any]) -> Iterator[Answer]:
            for number, (image, found) in enumerate(zip(batch, answers.result(), strict=True), start=first):
                path = images[number].path
                if isinstance(found, Exception) or isinstance(image, Exception):
                    yield Answer(path, error=found)
                else:
                    used = tuple(name for name in image.channels if name in found.channels)
                    yield Answer(path, used, found, tuple(describe_image(image, found)))

        with ExitStack() as stack:
            decoders = ThreadPoolExecutor(os.cpu_count())
            stack.callback(decoders.shutdown, cancel_futures=True)
            stack.callback(torch.set_num_threads, cores := torch.get_num_threads())
            network = stack.enter_context(
                ThreadPoolExecutor(self._threads, initializer=self._start_thread, initargs=(cores // self._threads,))
            )
            waiting: deque[tuple[int, list[InputImage | Exception], Future[Any]]] = deque()
            stack.callback(lambda: [answers.cancel() for *_, answers in waiting])
            done = 0
            for batch in in_batches(ahead(decoders, decode, images)):
                waiting.append((done, batch, network.submit(self.classify, batch, kept, exactly, drop_dead)))
                done += len(batch)
                if len(waiting) > self._threads + 1:
                    yield from finish(*waiting.popleft())
            while waiting:
                yield from finish(*waiting.popleft())

    def classify(
        self,
        batch: Sequence[InputImage | Exception],
        kept: Sequence[str],
        exactly: bool = False,
        drop_dead: bool = False,
    ) -> list[Prediction | Exception]:
        """Classify images, each from those of its channels that are ``kept``; answers in their order.

        Errors among the images are passed on. ``exactly`` refuses images that lack one of the channels,
        ``drop_dead`` leaves out those that may be dead or saturated.
        """
        found: list[Any] = list(batch)
        rows, subsets = [], []
        for row, image in enumerate(batch):
            if isinstance(image, InputImage):
                names = tuple(kept) if exactly else tuple(name for name in image.channels if name in kept)
                try:
                    if not names:
                        held = ", ".join(image.channels)
                        raise ChannelError(f"{image.name} holds {held}, and none of them is to be used")
                    subsets.append(self.choose(image, names))
                    rows.append(row)
                except ChannelError as error:
                    found[row] = error
        answers = self._classify([found[row] for row in rows], subsets, drop_dead)
        for row, answer in zip(rows, answers, strict=True):
            found[row] = answer
        return found

    def _start_thread(self, cores: int) -> None:
        """A thread that computes batches shares no core with others: small maps give several cores too little work."""
        torch.set_num_threads(cores)

    def keep(self, channels: Names, use: Names, drop: Names) -> tuple[str, ...]:
        """The channels that the network may get; see ``predict_paths``."""
        known = self.channels
        if channels is not None:
            known = known.select([name for name in self.reader.expand(channels) if name != UNUSED])
        use, drop = (None if names is None else self.channels.expand(names) for names in (use, drop))
        absent = [name for name in use or drop or () if name not in known.names]
        if absent:
            raise ChannelError(f"the files have the channels {', '.join(known.names)}, not {', '.join(absent)}")
        return tuple(known.names[position] for position in known.choose(use, drop))

    def _classify(
        self, images: Sequence[InputImage], subsets: Sequence[tuple[str, ...]], drop_dead: bool = False
    ) -> list[Prediction | Exception]:
        """Predictions from a subset of each image; images of one subset, size and type are computed together."""
        groups: dict[Any, list[int]] = {}
        for row, (image, subset) in enumerate(zip(images, subsets, strict=True)):
            groups.setdefault((subset, image.pixels.shape[1:], image.pixels.dtype), []).append(row)
        found: dict[int, Prediction | Exception] = {}
        for (subset, *_), rows in groups.items():
            members = [images[row] for row in rows]
            pixels = np.stack([image.pixels[[image.channels.index(name) for name in subset]] for image in members])
            if any(image.far for image in members):
                self.network.input_range.warned = True  # the image's remarks say it
            try:
                tensor = to_tensor(pixels).contiguous(memory_format=torch.channels_last).to(self.device)
                with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                    logits = logits_of(self.network(tensor, channels=subset)).float().cpu()
            except ChannelError as error:
                found |= dict.fromkeys(rows, error)
                continue
            finite = logits.isfinite().all(dim=1).numpy()
            good = np.flatnonzero(finite).tolist()
            figures = self._describe(pixels[good]) if good else None
            unlike = self._compare([members[i] for i in good], figures, subset) if good else []
            dead = self.dead.find(pixels[good], self.channels.positions(subset), figures) if good else []
            thresholds = self.network.spec.thresholds
            heat = temperature_of(self.network, subset)
            shares = to_probabilities(logits / heat, several=thresholds is not None)
            for i, text, texts in zip(good, unlike, dead, strict=True):
                found[rows[i]] = Prediction(subset, self.classes, shares[i], text, texts, thresholds)
            for i in np.flatnonzero(~finite).tolist():
                found[rows[i]] = DataError(
                    f"{members[i].name}: the network's answer is not finite, so its values are far beyond the training "
                    "images'; bring them to the same units"
                )
        broken = [(row, one.dead) for row, one in found.items() if isinstance(one, Prediction) and one.dead]
        if drop_dead and broken:
            fewer = [tuple(name for name in subsets[row] if name not in names) for row, names in broken]
            again = self._classify([images[row] for row, _ in broken], fewer)
            for (row, names), one in zip(broken, again, strict=True):
                found[row] = replace(one, dead=names) if isinstance(one, Prediction) else one
        return [found[row] for row in range(len(images))]

    def _describe(self, pixels: np.ndarray) -> np.ndarray | None:
        """The figures of images (n, k, H, W) to compare with the training images'; None if these are unknown."""
        if self.appearance is None:
            return None
        pieces = [pixels[start : start + 4] for start in range(0, len(pixels), 4)]  # that fit into the cache
        return np.concatenate([*map(describe_appearance, pieces)])

    def _compare(
        self, images: Sequence[InputImage], figures: np.ndarray | None, channels: tuple[str, ...]
    ) -> list[str | None]:
        """How images are unlike the training images in these channels; None if not, or if nothing is known."""
        known = self._familiar(self.channels.positions(channels))
        if known is None or figures is None:  # an earlier version's run, or too few images with these channels
            far = [[image.far[name] for name in channels if name in image.far] for image in images]
            return [f"It is unlike the training images: {'; '.join(texts)}." if texts else None for texts in far]
        seen = ", ".join(channels) if len(channels) <= 4 else f"these {len(channels)} channels"
        return [
            f"In {seen} it is unlike the training images (distance {distance:,.0f}, theirs are up to "
            f"{known.limit:,.0f}), so neither the prediction nor its confidence can be relied on."
            if distance > known.limit
            else None
            for distance in known.distance(figures).tolist()
        ]

    def _find_familiar(self, positions: tuple[int, ...]) -> Familiar | None:
        return None if self.appearance is None else familiar(self.appearance, positions)


def describe_image(image: InputImage, found: Prediction) -> list[str]:
    """Remarks on an image in the channels that it was classified from, and on its dead ones."""
    rest = [name for name in found.channels if name not in found.dead]
    return [*remarks(found.dead, found.channels), *image.remarks(rest)]


def ahead(workers: ThreadPoolExecutor, decode: Any, images: Iterable[ImagePath]) -> Iterator[InputImage | Exception]:
    """Decoded images in order, of which ``AHEAD`` wait at most, fewer if they are large."""
    waiting: deque[Future[InputImage | Exception]] = deque()
    most = 2 * (os.cpu_count() or 1)
    for image in images:
        waiting.append(workers.submit(decode, image))
        if len(waiting) >= most:
            found = waiting.popleft().result()
            size = found.pixels.size if isinstance(found, InputImage) else 1
            most = max(1, min(AHEAD, 8 * VALUES // size))
            yield found
            while len(waiting) >= most:
                yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def in_batches(images: Iterator[InputImage | Exception]) -> Iterator[list[InputImage | Exception]]:
    """Batches of up to ``BATCH`` images and ``VALUES`` values."""
    batch: list[InputImage | Exception] = []
    values = 0
    for image in images:
        values += image.pixels.size if isinstance(image, InputImage) else 0
        if batch and (len(batch) == BATCH or values > VALUES):
            yield batch
            batch, values = [], image.pixels.size if isinstance(image, InputImage) else 0
        batch.append(image)
    if batch:
        yield batch


def predict_files(
    folder: str | Path,
    images: Sequence[str | Path],
    *,
    channels: Names = None,
    top: int = 3,
    layout: str | None = None,
    nodata: float | str | None = None,
    skip_bad: bool = False,
) -> list[dict[str, Any]]:
    """Classify image files with a folder's ``Predictor``; for ``channels``, ``layout`` and ``nodata`` see its ``open``.

    Returns:
        For each file ``{"path", "channels", "top": [{"class", "probability"}], "unlike", "notes"}``, best class first,
        with ``unlike`` as in ``Prediction``; of several labels an image also ``"labels"``, those that pass. Or, with
        ``skip_bad``, ``{"path", "error"}`` if a file cannot be read or classified; otherwise that raises DataError or
        OSError.
    """
    paths = [ImagePath(str(path)) for path in images]
    answers = Predictor(folder).predict_paths(paths, channels=channels, layout=layout, nodata=nodata)
    results = []
    for answer in answers:
        if answer.error is not None and not skip_bad:
            raise answer.error
        results.append(answer.brief(top))
    return results


def predict(
    model: str | Path | nn.Module,
    images: Any,
    *,
    channels: Names = None,
    use: Names = None,
    drop: Names = None,
    tta: Names = None,
    drop_dead: bool = False,
    batch_size: int = 256,
    device: str | None = None,
    precision: str | None = None,
    progress: bool = False,
    **reading: Any,
) -> Predictions:
    """Classify image files, or the images of a data set, whichever of the network's channels they have.

    Args:
        model: the folder of a run or of a saved model, or a classifier, which is returned to its former mode and
            device.
        images: a path or several: image files, folders, patterns, lists of paths; see ``find_images``. Or a tensor or
            array (N, k, H, W); a PyTorch ``Dataset`` or ``DataLoader`` of images, of (image, label), or of dictionaries
            with ``image``; or a split. Labels are not needed and not read.
        channels: names of the images' channels in order, or a sensor. None means a split's own, else the model's. For
            files see ``Reader.open``.
        use: names of the channels that the network gets, as ``"R,G"``, to ask what a missing channel would do. None
            means all that an image has.
        drop: names of the channels that the network does not get.
        tta: test-time augmentation: ``hflip``, ``vflip`` or both, as in ``evaluate``; None uses the image alone.
        drop_dead: leave out channels of an image that may be dead or saturated: constant, or unlike this channel of the
            training images, where others of the image are not. False only names them (``Predictions.dead``).
        batch_size: images of a data set in a forward pass. Files are put together by their size.
        device: ``auto`` or a torch device; None is the CPU for a folder, and the model's own for a classifier.
        precision: ``fp32``, ``bf16`` (autocast), or ``auto`` for bf16 if the hardware supports it; None is fp32.
        progress: show a bar with the time left on standard error.
        reading: of files: ``layout`` and ``nodata``, see ``Reader.open``; ``bands``, the pattern of files with one band
            each, see ``find_images``, None means the run's, ``"none"`` that each file is an image; ``skip_bad=True``
            leaves out files that cannot be read or classified, which ``failed`` names.

    Raises:
        ChannelError: a channel's name is unknown, an image lacks a channel of ``use``, or the network refuses its
            channels.
        DataError: a file cannot be read or classified, or there is none.
        RunError, ModelFileError: the folder holds no model.
        TypeError: the model or the images are of another type, or a data set is given options of reading files.
        ValueError: there is no image, or the network's output is not finite.
    """
    if isinstance(images, str | Path) or (
        isinstance(images, list | tuple) and all(isinstance(each, str | Path) for each in images)
    ):
        return classify_files(
            model,
            images,
            {"channels": channels, "use": use, "drop": drop},
            tta=tta,
            drop_dead=drop_dead,
            device=device,
            precision=precision,
            progress=progress,
            **reading,
        )
    if reading:
        raise TypeError(f"{', '.join(reading)} are about reading files, but the images are a {type(images).__name__}")
    from anychannel.evaluation.predict import predict_dataset

    predictor = Predictor(model) if isinstance(model, str | Path) else None
    return predict_dataset(
        model if predictor is None else predictor.network,  # type: ignore[arg-type]
        images,
        channels=channels,
        use=use,
        drop=drop,
        tta=tta,
        drop_dead=drop_dead,
        appearance=None if predictor is None else predictor.appearance,
        batch_size=batch_size,
        device=device,
        precision=precision,
        progress=progress,
    )


def classify_files(
    model: str | Path | nn.Module,
    images: Any,
    names: dict[str, Names],
    *,
    tta: Names,
    drop_dead: bool,
    device: str | None,
    precision: str | None,
    progress: bool,
    layout: str | None = None,
    nodata: float | str | None = None,
    bands: str | None = None,
    skip_bad: bool = False,
) -> Predictions:
    """See ``predict``; ``names`` are its ``channels``, ``use`` and ``drop``."""
    from anychannel.evaluation.flips import averaged_over_flips
    from anychannel.evaluation.predict import Predictions

    with ExitStack() as stack:
        if isinstance(model, nn.Module):
            stack.enter_context(inference_mode(model, None if device is None else choose_device(device)))
        predictor = Predictor(model, device=device, precision=precision)
        stack.enter_context(averaged_over_flips(predictor.network, tta))
        paths = find_images(images, choose_bands(bands, predictor.bands))
        found: list[Answer] = []
        advance = stack.enter_context(progress_bar("predict", len(paths), show=progress))
        for answer in predictor.predict_paths(paths, drop_dead=drop_dead, layout=layout, nodata=nodata, **names):
            if answer.error is not None and not skip_bad:
                raise answer.error
            found.append(answer)
            advance()
    good = [(answer, answer.prediction) for answer in found if answer.prediction is not None]
    if not good:
        raise DataError(f"none of {plural(len(found), 'file')} can be classified; the first: {found[0].reason}")
    return Predictions(
        classes=predictor.classes,
        paths=tuple(answer.path for answer, _ in good),
        probabilities=np.stack([prediction.probabilities.numpy() for _, prediction in good]),
        channels=tuple(answer.channels for answer, _ in good),
        unlike=tuple(prediction.unlike for _, prediction in good),
        dead=tuple(tuple(prediction.dead) for _, prediction in good),
        notes=tuple(answer.notes for answer, _ in good),
        failed={answer.path: answer.reason for answer in found if answer.error is not None},
        thresholds=predictor.network.spec.thresholds,
    )
