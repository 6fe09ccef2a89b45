"""``load_dataset("wds:...")``: training images from shards, read as training goes on; the other splits decoded once."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anychannel.channels import ChannelSet, as_channel_set
from anychannel.data.assemble import assemble
from anychannel.data.build import Scalings, Template
from anychannel.data.cache import open_or_build, resolve_cache_dir
from anychannel.data.dataset import SPLITS, ImageDataset, Split
from anychannel.data.files.names import channels_from_file
from anychannel.data.files.read import ReadSettings
from anychannel.data.labels import Labels
from anychannel.data.list_files import read_lines
from anychannel.data.problems import DataError, Problems
from anychannel.data.samples import Fields, Reader, placed, read_unnamed
from anychannel.data.shards import SCHEME, Shards, find_tar_shards
from anychannel.data.statistics import Statistics, refuse_unseen, unmet_channels
from anychannel.data.stream import Counted, Stream
from anychannel.data.survey import GrowingArray, Seen, Survey, count_all, find_leaks, keep_all, survey_all, survey_some
from anychannel.utils.processes import share

FORMAT = 2
"""Raised whenever the same shards and settings give another survey."""
INDEX = "index.json"
SAMPLED = 10_000
"""Images that statistics rest on where the shards are not read whole."""


@dataclass(frozen=True)
class Request:
    """What ``load_dataset`` was asked for, whatever the source.

    Args:
        channels, classes, cache_dir, seed, progress, verify: as there.
        settings: how images are read.
    """

    channels: ChannelSet | str | Sequence[str] | None
    classes: int | Sequence[str] | None
    cache_dir: str | Path | None
    seed: int
    progress: bool
    verify: bool
    settings: ReadSettings


def load_wds(
    spec: str,
    request: Request,
    *,
    val: str | None = None,
    test: str | None = None,
    image: str | Sequence[str] | None = None,
    label: str = "cls",
    held: str | None = None,
    class_names: Sequence[str] | None = None,
    epoch_images: int | None = None,
    statistics_images: int | None = None,
    buffer: int = 4096,
    lanes: int | None = None,
    workers: int = 0,
) -> ImageDataset:
    """Images in webdataset shards; ``dataset.train`` is a ``Stream``.

    Args:
        spec: a folder with ``train*.tar``, ``val*.tar`` and ``test*.tar``, or the training shards, see ``data.shards``.
        request: the options that all sources take.
        val, test: the other splits' shards, where ``spec`` is no folder.
        image, label, held: see ``Fields``.
        class_names: in the labels' order; None takes a folder's ``classes.txt``, else what the labels say.
        epoch_images: images that an epoch draws; shards are then not counted, and an epoch may visit an image twice or
            not at all. None: an epoch visits each image once, which are counted first.
        statistics_images: images that the channels' statistics rest on; None takes all, or with ``epoch_images``
            ``SAMPLED``.
        buffer: samples among which the order is shuffled.
        lanes: shards that are read side by side; see ``data.lanes``.
        workers: processes that read and decode training images; 0 has threads do it.

    Raises:
        DataError: lists the shards and samples that cannot be used.
        ValueError: an argument is out of range.
    """
    shards = find_tar_shards(spec, val, test)
    folder = Path(spec).expanduser()
    names = tuple(class_names) if class_names is not None else read_class_names(spec, folder)
    fields = Fields(image if image is None or isinstance(image, str) else tuple(image), label, held)
    return load_shards(
        describe_source(spec, folder),
        shards,
        request,
        fields,
        names,
        epoch_images=epoch_images,
        statistics_images=statistics_images,
        buffer=buffer,
        lanes=lanes,
        workers=workers,
    )


def describe_source(spec: str, folder: Path) -> str:
    """What to call the data: a folder's name, else the address."""
    if SCHEME.match(spec):
        return spec
    return folder.resolve().name if folder.is_dir() else folder.resolve().parent.name


def read_class_names(spec: str, folder: Path) -> tuple[str, ...] | None:
    """Names in ``classes.txt`` of a local folder of shards, None where there is none."""
    path = folder / "classes.txt"
    if SCHEME.match(spec) or not path.is_file():
        return None
    return tuple(line.strip() for line in read_lines(path) if line.strip())


def load_shards(
    name: str,
    shards: Mapping[str, Shards],
    request: Request,
    fields: Fields,
    class_names: tuple[str, ...] | None,
    *,
    epoch_images: int | None = None,
    statistics_images: int | None = None,
    buffer: int = 4096,
    lanes: int | None = None,
    workers: int = 0,
) -> ImageDataset:
    """A data set of shards of any kind; see ``load_wds``."""
    for argument, value in (("epoch_images", epoch_images), ("statistics_images", statistics_images)):
        if value is not None and value < 1:
            raise ValueError(f"{argument} is a number of images, at least 1, or left out, got {value}")
    if epoch_images is not None and class_names is None:
        raise DataError(
            f"with epoch_images the shards of {name} are not read whole, so their classes have to be told: give "
            "class_names, in the labels' order"
        )
    labels, fields = Labels(class_names, request.classes), replace(fields, class_names=class_names)
    cache = resolve_cache_dir(request.cache_dir)
    named = name_channels(name, shards["train"], request, fields)
    reader = Reader(fields, named, request.settings.naming(named))
    sampled = statistics_images if statistics_images is not None or epoch_images is None else SAMPLED
    key = make_key(shards, reader, class_names, request, counted=epoch_images is None, sampled=sampled)
    if request.verify and share().is_main:
        shutil.rmtree(cache / "images" / key, ignore_errors=True)

    def build(folder: Path) -> Statistics:
        survey = Survey(reader, labels, Problems(), request.progress)
        index, statistics = look(
            survey, shards, folder, counted=epoch_images is None, sampled=sampled, seed=request.seed
        )
        survey.problems.raise_if_any(name)
        if statistics is None or survey.template is None:
            raise DataError(f"the training shards of {name} hold no image of the classes asked for")
        check_met(named, statistics, index["train"] and index["train"]["patterns"], sampled)
        (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
        return statistics

    cached = open_or_build(cache, key, None, build)
    index = json.loads((cached.folder / INDEX).read_text(encoding="utf-8"))
    labels.seen.update(index["labels"])
    classes, label_of = labels.settle()
    shape = cached.images["train"].shape
    counted = None
    if index["train"] is not None:
        patterns = [tuple(pattern) for pattern in index["train"]["patterns"]]
        counted = Counted(
            tuple(dict(zip(patterns, row, strict=True)) for row in index["train"]["images"]), index["train"]["lacking"]
        )
    template = Template(tuple(shape[2:]), cached.images["train"].dtype, index["first"], read_scalings(index))
    stream = Stream(shards["train"], reader, label_of, template, counted, epoch_images, buffer, lanes, workers)
    splits: dict[str, Split | Stream] = {"train": stream}
    for split in SPLITS[1:]:
        kept = index[split]
        present = np.array([np.isin(np.arange(len(named)), held) for held in kept["positions"]], dtype=bool)
        numbers = np.array([label_of[label] for label in kept["labels"]], dtype=np.int64)
        splits[split] = Split(cached.images[split], numbers, tuple(kept["places"]), present)
    return assemble(name, named, classes, splits, cached.statistics, index["digest"])


def look(
    survey: Survey, shards: Mapping[str, Shards], folder: Path, *, counted: bool, sampled: int | None, seed: int
) -> tuple[dict[str, Any], Statistics | None]:
    """Read what has to be read before training.

    Args:
        survey: notes what is wrong.
        shards: of each split.
        folder: gets the validation and test images, and an empty ``train.npy`` of their shape.
        counted: whether to count the training images.
        sampled: images that the statistics rest on; None takes all.
        seed: decides which these are.

    Returns:
        What else is to be remembered, and the statistics, None where there is no image.
    """
    train, problems, channels = shards["train"], survey.problems, len(survey.reader.channels)
    tally, left_out = None, 0
    if sampled is None:
        tally, statistics = survey_all(survey, train)
        digests = tally.digests
    else:
        statistics, digests = survey_some(survey, train, sampled, seed)
        left_out = len(digests)  # of the fingerprint, which is the data's however many images are measured
        tally = count_all(survey, train) if counted else None
    index: dict[str, Any] = {"train": None if tally is None else tally.to_dict()}
    for split in SPLITS[1:]:
        with GrowingArray(folder / f"{split}.npy") as images:
            kept, found = keep_all(survey, shards[split], partial(append, images, channels))
        if not kept["labels"]:
            problems.add(split, "this split has no image", "train, val and test all need some")
        find_leaks(digests, split, kept["places"], found, problems)
        digests += found
        index[split] = kept
    template = survey.template
    if template is None:
        return index, None
    with GrowingArray(folder / "train.npy", ((channels, *template.size), template.dtype)):
        pass
    digest = hashlib.blake2b(digests[left_out:].tobytes(), digest_size=16)
    digest.update(json.dumps([stamp for split in SPLITS for stamp in shards[split].stamps()]).encode())
    seen = sorted(survey.labels.seen, key=str)
    return index | {
        "labels": seen,
        "first": template.path,
        "scalings": template.scalings,
        "digest": digest.hexdigest(),
    }, statistics


def check_met(
    channels: ChannelSet, statistics: Statistics, patterns: Sequence[Sequence[int]] | None, sampled: int | None
) -> None:
    """Refuse channels that no image has on which the statistics rest.

    Args:
        channels: the data set's.
        statistics: of the training images.
        patterns: channels that training images have; None where the images were not counted.
        sampled: images that the statistics rest on; None where these are all.

    Raises:
        DataError: names the channels.
    """
    unmet = unmet_channels(statistics)
    met = None if patterns is None else {position for pattern in patterns for position in pattern}
    unseen = unmet if sampled is None else [i for i in unmet if met is not None and i not in met]
    refuse_unseen([channels.names[i] for i in unseen])
    if unmet:
        names = ", ".join(channels.names[i] for i in unmet)
        raise DataError(
            f"none of the images that the statistics rest on has the channel {names}; raise statistics_images, which "
            f"is {sampled}, or leave the channel out"
        )


def append(images: GrowingArray, channels: int, seen: Seen) -> None:
    """Write an image, each plane in its channel's place."""
    images.append(seen.image.spread(channels))


def read_scalings(index: Mapping[str, Any]) -> Scalings:
    """A template's scalings, from JSON."""
    return {
        int(position): (place, whole and tuple(map(tuple, whole)), own and tuple(own))
        for position, (place, whole, own) in index["scalings"].items()
    }


def name_channels(name: str, train: Shards, request: Request, fields: Fields) -> ChannelSet:
    """The channels' names: those given, else the fields' where each has one, else the first sample's own.

    Raises:
        DataError: nothing names them, or there is no sample.
    """
    if request.channels is not None:
        return as_channel_set(request.channels)
    if isinstance(fields.image, tuple):
        return ChannelSet(fields.image)
    for shard in range(len(train.names)):
        samples = train.read(shard)
        try:
            for sample in samples:
                with placed(sample):
                    found = read_unnamed(sample, fields, request.settings)
                return channels_from_file(found, name, sample.place, file=False)
        finally:
            samples.close()  # type: ignore[attr-defined]  # a generator, which holds a file
    raise DataError(f"the training shards of {name} hold no sample")


def make_key(
    shards: Mapping[str, Shards],
    reader: Reader,
    class_names: tuple[str, ...] | None,
    request: Request,
    *,
    counted: bool,
    sampled: int | None,
) -> str:
    """Key of what is remembered of these shards under these settings."""
    settings = request.settings
    classes = request.classes if request.classes is None or isinstance(request.classes, int) else list(request.classes)
    text = json.dumps(
        [
            FORMAT,
            {split: shards[split].stamps() for split in SPLITS},
            [reader.fields.image, reader.fields.label, reader.fields.held],
            [reader.channels.names, settings.size, settings.layout, settings.check_names, settings.beyond_size()],
            [class_names, classes, counted, sampled, request.seed if sampled is not None else None],
        ]
    )
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
