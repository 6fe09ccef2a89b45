"""Three ways to a data set: a folder or a name, arrays, Hugging Face tables."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anychannel.channels import ChannelSet, Groups
from anychannel.data.dataset import ImageDataset
from anychannel.data.files.read import ReadSettings, read_image
from anychannel.data.prepare.prepare import prepare
from anychannel.data.sources.arrays import open_arrays
from anychannel.data.sources.huggingface import check_tables, find_fields, name_splits, open_tables
from anychannel.data.sources.registry import SOURCES, open_source, split_address
from anychannel.data.sources.source import Request
from anychannel.utils.options import check_options, coerce_options


def load_dataset(
    source: str | Path,
    *,
    channels: ChannelSet | str | Sequence[str] | None = None,
    size: int | None = None,
    classes: int | Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    seed: int = 0,
    progress: bool = False,
    verify: bool = False,
    layout: str | None = None,
    form: str | None = None,
    nodata: float | str | None = None,
    scaled: bool = False,
    check_names: bool = True,
    convert: str | None = None,
    skip_bad: bool = False,
    partial: float = 0.0,
    groups: Groups | None = None,
    split_by: str | None = None,
    fold_by: str | None = None,
    fold: int | str | None = None,
    allow_pipe: bool = False,
    **options: Any,
) -> ImageDataset:
    """Load a data set. Files are decoded once, into a cache on disk; later loads open the cache.

    An image may have only some of the channels: the lists or ``channels.csv`` say which.

    Args:
        source: a folder (with list files, or one folder for each class), or a name in ``list_datasets()``, as
            ``bands:8``; a folder of that name is ``./bands``; or another source in ``SOURCES``, as
            ``wds:train-{000..009}.tar`` or ``hf:photos``.
        channels: names of the files' channels in the files' order, or a sensor (see ``as_channel_set``). None takes
            the folder's ``channels.txt``, else the files' own names, else R, G, B for 8-bit RGB files.
        size: side in pixels of the square to which images are resized and cropped; None keeps the files' size, which
            must be the same for all.
        classes: use only the first so many classes, or those named, as ``"oak,pine"``; labels are counted anew in that
            order. Of a table with a column for each label, the columns that are labels.
        cache_dir: folder of the cache; None takes ``$ANYCHANNEL_CACHE``, else ``~/.cache/anychannel``.
        seed: decides the split of class folders without one, and the embedded data.
        progress: show bars with the time left on standard error.
        verify: read every file again, even if neither its size nor its time of change differs from the last load's.
        layout: ``planar`` or ``interleaved``, for TIFFs and arrays that do not say which axis holds their channels.
        form: ``lists`` or ``folders``, for folders that look like both.
        nodata: for files that mark values as no data: None refuses them, ``"keep"`` takes them as they are, a number
            replaces them and NaN. In files that mark none, values that equal the number are no data. Values that are no
            data count in no statistic and do not mix into others; an image lacks a channel without a valid pixel.
        scaled: turn stored into physical values (float32) by the scale and offset that the files declare.
        check_names: refuse files whose own channel names contradict the names given.
        convert: ``"rgb"`` converts grey, alpha, palette, CMYK and 16 bits to 8-bit RGB as Pillow does; None refuses.
        skip_bad: leave out images that cannot be used, and warn of them; False refuses the data.
        groups: channels by the name of their group, as ``{"camera": "R,G,B"}``. None takes the folder's ``groups.txt``,
            else those of ``channels``; ``{}`` means none.
        partial: for embedded data: share of the images that lack channels, in [0, 1].
        split_by: column of a CSV file beside the images, as ``patient`` or ``plot``. All images of a folder are split
            anew, about 80 / 10 / 10, and those with the same value go to the same split.
        fold_by: column of folds, of a CSV file beside the images. Images of ``fold`` are the test split, and those of
            the fold after it validate; with ``split_by``, a tenth of the others at random, by that column.
        fold: the value in the column ``fold_by`` of the test images.
        allow_pipe: run the commands that ``source``, ``val`` and ``test`` give as ``pipe:COMMAND``.
        options: of the source; see the functions that ``SOURCES`` names.

    Raises:
        DataError: the folder cannot be read as a data set, or lists every file that cannot be used, with the fix.
        ChannelError: the channels' names cannot be used.
        TypeError: the source has no such option.
        ValueError: another argument is of another type, out of range or unknown; the message says what is valid.

    Warns:
        UserWarning: a folder has the name of the embedded data that were asked for; or names channels that are
            constant, pairs of channels that no image has together, or classes without an image, in the training split.
    """
    given = {"size": size, "seed": seed, "layout": layout, "form": form, "nodata": nodata, "partial": partial}
    given |= {"progress": progress, "verify": verify, "scaled": scaled, "check_names": check_names}
    given |= {"convert": convert, "skip_bad": skip_bad, "split_by": split_by, "fold_by": fold_by, "fold": fold}
    checked = coerce_options(load_dataset, given)
    reading = ("size", "layout", "nodata", "scaled", "check_names", "convert")
    settings = ReadSettings(**{name: checked[name] for name in reading})
    name, _ = split_address(source)
    kind = SOURCES.get(name)
    embedded = kind is not None and kind.embedded
    show = checked["progress"] and not embedded  # embedded images are made at once
    if fold is not None and fold_by is None:
        raise ValueError(f"fold={fold} has no effect without fold_by, the column of folds; give fold_by too")
    flags: dict[str, Any] = {"settings": settings, "allow_pipe": allow_pipe, "groups": groups}
    flags |= {name: checked[name] for name in ("split_by", "fold_by", "fold")}
    request = Request(
        channels, classes, cache_dir, checked["seed"], show, checked["verify"], checked["skip_bad"], **flags
    )
    if embedded:
        if Path(source).is_dir():
            message = f"{source!r} is the embedded data set; for the folder of that name give ./{source}"
            warnings.warn(message, stacklevel=2)
        if form is not None or skip_bad or settings != ReadSettings(size=settings.size):
            raise ValueError(
                "layout, form, nodata, scaled, check_names, convert and skip_bad are about reading files, but "
                f"{source!r} is embedded; leave them out"
            )
    elif kind is not None and (form is not None or partial):
        raise ValueError(f"form and partial do not apply to {source!r}; leave them out")
    elif partial:
        raise ValueError(
            "partial hides channels of embedded data; of files, a third word in their list's line or channels.csv says "
            "which channels they hold"
        )
    if partial:
        options["partial"] = checked["partial"]
    return prepare(open_source(source, request, form=form, **options), request)


def dataset_from_arrays(
    images: np.ndarray,
    labels: Sequence[int] | Sequence[str] | np.ndarray,
    *,
    channels: ChannelSet | str | Sequence[str],
    splits: Sequence[str] | np.ndarray | None = None,
    split_by: Sequence[int] | Sequence[str] | np.ndarray | None = None,
    present: np.ndarray | None = None,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    nodata: float | str | None = None,
    name: str = "arrays",
) -> ImageDataset:
    """Make a data set of images that are already arrays.

    Args:
        images: (N, C, H, W) in any units; integers and floats that float32 holds exactly.
        labels: N positions in ``classes``, from 0, or N names of classes. For several labels an image N texts as
            ``forest|river``, or (N, L), 1 for each label that the image has and 0 for the others.
        channels: names of the C channels in the arrays' order, or a sensor (see ``as_channel_set``).
        splits: ``train``, ``val`` or ``test`` for each image; None splits each class 80 / 10 / 10 by the seed.
            There may be no image for ``test``.
        split_by: a group for each image, such as its patient or plot; images of one group go to the same split.
        present: (N, C) booleans, which channels each image has, at least one; the planes of the others may hold
            anything and are never read. None: every image has all.
        classes: two or more names in the labels' order; None takes the labels as they are, names in alphabetical order.
        seed: decides the split if ``splits`` is None.
        nodata: a number whose pixels are no data, and which replaces NaN; see ``load_dataset``.
        name: of the data set.

    Returns:
        Splits that hold copies of their images in the order given; ``paths`` are the images' numbers.

    Raises:
        DataError: shapes, counts, labels, classes or splits do not fit, values are not finite or of a type that changes
            them, or equal images are in two splits.
        ChannelError: the names cannot be used.
    """
    source = open_arrays(
        images,
        labels,
        channels=channels,
        splits=splits,
        split_by=split_by,
        present=present,
        classes=classes,
        seed=seed,
        name=name,
    )
    return prepare(source, Request(settings=ReadSettings(nodata=nodata)))


def dataset_from_huggingface(
    source: Any,
    *,
    channels: ChannelSet | str | Sequence[str] | None = None,
    image: str | Sequence[str] | None = None,
    label: str | None = None,
    held: str | None = None,
    val: str | None = None,
    test: str | None = None,
    class_names: Sequence[str] | None = None,
    size: int | None = None,
    classes: int | Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    seed: int = 0,
    progress: bool = False,
    name: str = "huggingface",
    **reading: Any,
) -> ImageDataset:
    """Make a data set of a ``datasets.Dataset`` or ``DatasetDict``; images are decoded when they are read.

    Args:
        source: with splits, or for training alone.
        channels, size, classes, cache_dir, seed, progress: as ``load_dataset``.
        image, label, held, val, test, class_names: as ``open_huggingface``.
        name: of the data set.
        reading: ``layout``, ``nodata``, ``scaled``, ``check_names``, ``convert`` as ``load_dataset``.

    Raises:
        DataError: lists the rows that cannot be used; or ``source`` is streamed or no data set of that library.
        ChannelError, ValueError: as ``load_dataset``.
    """
    check_options(read_image, reading, reserved=("path", "channels", "size"))
    settings = ReadSettings(size=size, **coerce_options(load_dataset, reading))
    request = Request(channels, classes, cache_dir, seed, progress, settings=settings)
    tables = name_splits(source, val, test, name)
    check_tables(tables)
    fields = find_fields(tables["train"].features, image, label, held, class_names)
    return prepare(open_tables(name, tables, fields, seed), request)
