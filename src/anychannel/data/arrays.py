"""A data set from arrays in memory or memory maps, with the checks that files get."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from anychannel.channels import ChannelSet, as_channel_set
from anychannel.data.assemble import assemble
from anychannel.data.dataset import SPLITS, ImageDataset, Split
from anychannel.data.files.decoded import DTYPES, bring_to_known_type
from anychannel.data.folders import cut
from anychannel.data.problems import DataError, ImageError, Problems
from anychannel.data.statistics import measure, refuse_unseen


def dataset_from_arrays(
    images: np.ndarray,
    labels: Sequence[int] | Sequence[str] | np.ndarray,
    *,
    channels: ChannelSet | str | Sequence[str],
    splits: Sequence[str] | np.ndarray | None = None,
    present: np.ndarray | None = None,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    name: str = "arrays",
) -> ImageDataset:
    """Make a data set of images that are already arrays.

    Args:
        images: (N, C, H, W) in any units; integers and floats that float32 holds exactly.
        labels: N positions in ``classes``, from 0, or N names of classes.
        channels: names of the C channels in the arrays' order, or a sensor (see ``as_channel_set``).
        splits: ``train``, ``val`` or ``test`` for each image; None splits each class 80 / 10 / 10 by the seed.
        present: (N, C) booleans, which channels each image has, at least one; the planes of the others may hold
            anything and are never read. None: every image has all.
        classes: two or more names in the labels' order; None takes the labels as they are, names in alphabetical order.
        seed: decides the split where ``splits`` does not.
        name: of the data set.

    Returns:
        Splits that hold copies of their images in the order given; ``paths`` are the images' numbers.

    Raises:
        DataError: shapes, counts, labels, classes or splits do not fit, values are not finite or of a type that changes
            them, or equal images are in two splits.
        ChannelError: the names cannot be used.
    """
    known = as_channel_set(channels)
    images = check_shape(np.asanyarray(images), known)
    have = check_present(present, images, known)
    images = check_values(images, have)
    numbers, names = number_labels(np.asarray(labels), classes, len(images))
    if len(set(names)) < max(len(names), 2):
        raise DataError(f"classes needs two or more names, each once, got {', '.join(names)}")
    if splits is None:
        rows = split_rows(numbers, names, seed)
    else:
        where = np.asarray(splits)
        if where.shape != (len(images),) or not set(where.tolist()) <= set(SPLITS):
            raise DataError(f"splits needs one of {', '.join(SPLITS)} for each of the {len(images)} images")
        rows = {split: np.flatnonzero(where == split) for split in SPLITS}
    empty = [split for split in SPLITS if not len(rows[split])]
    if empty:
        raise DataError(f"no image is in {' and '.join(empty)}; train, val and test all need some")
    unseen = [channel for channel, seen in zip(known.names, have[rows["train"]].any(axis=0), strict=True) if not seen]
    refuse_unseen(unseen)
    key = check_leakage(images, have, rows, name)
    made = {}
    for split in SPLITS:
        chosen = np.asarray(images[rows[split]])
        chosen.flags.writeable = False
        made[split] = Split(chosen, numbers[rows[split]], tuple(map(str, rows[split].tolist())), have[rows[split]])
    return assemble(name, known, names, made, measure(made["train"].images, made["train"].present), key)


def check_shape(images: np.ndarray, known: ChannelSet) -> np.ndarray:
    """The images, once they are (N, C, H, W).

    Raises:
        DataError: they are not.
    """
    if images.ndim != 4 or images.shape[1] != len(known):
        last = images.ndim == 4 and images.shape[3] == len(known)
        fix = "; the channels seem to be last: give np.moveaxis(images, -1, 1)" if last else ""
        raise DataError(
            f"images have shape {images.shape}, but (N, {len(known)}, height, width) is expected for the channels "
            f"{', '.join(known.names)}{fix}"
        )
    return images


def check_present(present: np.ndarray | None, images: np.ndarray, known: ChannelSet) -> np.ndarray:
    """(N, C) booleans, which channels each image has.

    Raises:
        DataError: the shape or type is another, or an image has none.
    """
    if present is None:
        return np.ones(images.shape[:2], dtype=bool)
    present = np.asarray(present)
    if present.shape != images.shape[:2] or present.dtype != bool:
        raise DataError(
            f"present has shape {present.shape} of {present.dtype.name}, but booleans of shape {images.shape[:2]} are "
            f"expected, for each image whether it has {', '.join(known.names)}"
        )
    empty = np.flatnonzero(~present.any(axis=1))
    if len(empty):
        raise DataError(f"image {empty[0]} ({len(empty)} in all) has no channel; leave it out")
    return present


def check_values(images: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The images in a type that is kept; what stands in planes that an image does not have is not looked at.

    Raises:
        DataError: a value would change, or is not finite.
    """
    if images.dtype.name not in DTYPES and not present.all():
        images = np.where(present[:, :, None, None], images, np.zeros((), images.dtype))
    try:
        images = bring_to_known_type(images)
    except ImageError as error:
        raise DataError(f"images: {error}") from error
    if images.dtype == np.float32:
        bad = np.flatnonzero([not np.isfinite(image[has]).all() for image, has in zip(images, present, strict=True)])
        if len(bad):
            raise DataError(f"image {bad[0]} ({len(bad)} in all) holds NaN or infinite values; replace or remove them")
    return images


def number_labels(labels: np.ndarray, classes: Sequence[str] | None, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """(N,) int64 positions, and the classes' names.

    Raises:
        DataError: see ``dataset_from_arrays``.
    """
    if labels.shape != (count,):
        raise DataError(f"labels have shape {labels.shape}, but one label for each of the {count} images is needed")
    if labels.dtype.kind in "US":
        names = tuple(classes or sorted(set(labels.tolist())))
        unknown = sorted(set(labels.tolist()) - set(names))
        if unknown:
            raise DataError(f"label {unknown[0]!r} is none of the classes {', '.join(names)}")
        return np.array([names.index(label) for label in labels.tolist()], dtype=np.int64), names
    if labels.dtype.kind not in "iu":
        raise DataError(f"labels are whole numbers from 0 or names of classes, got {labels.dtype.name}")
    highest = int(labels.max(initial=-1))
    names = tuple(classes or map(str, range(highest + 1)))
    if int(labels.min(initial=0)) < 0 or highest >= len(names):
        raise DataError(f"labels go from {labels.min()} to {highest}, but there are {len(names)} classes, from 0")
    return labels.astype(np.int64), names


def split_rows(numbers: np.ndarray, names: tuple[str, ...], seed: int) -> dict[str, np.ndarray]:
    """Rows of each split: each class 80 / 10 / 10, as class folders are split.

    Raises:
        DataError: a class has one or two images.
    """
    parts: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for number, name in enumerate(names):
        mine = np.flatnonzero(numbers == number)
        if 0 < len(mine) < 3:
            raise DataError(f"class {name!r} has {len(mine)} images, too few to split; give splits, or 3 or more")
        for split, chosen in cut(name, len(mine), seed).items():
            parts[split].append(mine[chosen])
    return {split: np.sort(np.concatenate(found)) for split, found in parts.items()}


def check_leakage(images: np.ndarray, present: np.ndarray, rows: dict[str, np.ndarray], name: str) -> str:
    """Digest of all images by split: of the planes that they have, and of which these are.

    Raises:
        DataError: equal images are in two splits.
    """
    problems, seen, whole = Problems(), dict[bytes, tuple[str, int]](), hashlib.blake2b(digest_size=16)
    for split in SPLITS:
        for row in rows[split].tolist():
            has = present[row]
            pixels = np.ascontiguousarray(images[row] if has.all() else images[row][has])
            which = b"" if has.all() else np.packbits(has).tobytes()
            digest = hashlib.blake2b(pixels.data, digest_size=16, key=which).digest()
            first_split, first = seen.setdefault(digest, (split, row))
            if first_split != split:
                problems.add(
                    f"image {row}",
                    f"it equals image {first} of another split (leakage): {split}, and {first_split}",
                    "keep one of them",
                )
            whole.update(digest)
    problems.raise_if_any(name)
    return whole.hexdigest()
