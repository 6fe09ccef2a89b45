"""Decode every listed file once, into memory-mapped arrays; note what cannot be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anychannel.data.cache import Arrays, check_space
from anychannel.data.content import digest_content
from anychannel.data.dataset import SPLITS
from anychannel.data.files.decoded import Decoded, Scaling
from anychannel.data.files.names import FileNames
from anychannel.data.files.read import read
from anychannel.data.files.tiff import quiet
from anychannel.data.listing import Entry, Listing
from anychannel.data.partial import Holdings
from anychannel.data.problems import ImageError, Problems
from anychannel.data.workers import chunked, count_workers
from anychannel.utils.progress import progress_bar

Scalings = dict[int, tuple[str, Scaling | None, tuple[float, float] | None]]
"""By a channel's position: an image that has it, this image's scaling, and the channel's own scale and offset."""


class Built(NamedTuple):
    """(N, C, H, W) writable memory maps by split, none where no file could be used, and what the files call their
    channels.
    """

    arrays: Arrays
    own_names: FileNames


@dataclass(frozen=True)
class Template:
    """What all images have to be like.

    Args:
        size: height and width of the first readable one.
        dtype: its type.
        path: where it lies.
        scalings: for each channel the first readable image that has it: its path, its whole scaling, and the channel's
            own scale and offset; None where it declares none.
    """

    size: tuple[int, ...]
    dtype: np.dtype[np.generic]
    path: str
    scalings: Scalings

    def check(self, image: Decoded, positions: Sequence[int], *, scaled: bool) -> None:
        """Refuse an image of another number type or size, or, unless it was applied, of another scale.

        Args:
            image: a decoded file.
            positions: what its planes are.
            scaled: whether scales were applied.

        Raises:
            ImageError: it says what differs from which file.
        """
        pixels = image.pixels
        if pixels.dtype != self.dtype:
            raise ImageError(
                f"it holds {pixels.dtype.name} values, but {self.path} holds {self.dtype.name}",
                "bring all files to one number type",
            )
        if pixels.shape[1:] != self.size:
            (height, width), (other_height, other_width) = pixels.shape[1:], self.size
            raise ImageError(
                f"it is {height} x {width} pixels, but {self.path} is {other_height} x {other_width}",
                "give a size, to which all are brought",
            )
        for plane, position in enumerate(positions):
            path, scaling, expected = self.scalings[position]
            if not scaled and (None if image.scaling is None else image.scaling[plane]) != expected:
                raise ImageError(
                    f"it declares {describe_scaling(image.scaling)}, but {path} {describe_scaling(scaling)}, so that "
                    "equal values mean different things",
                    "give scaled=True to use physical values",
                )


def describe_scaling(scaling: Scaling | None) -> str:
    """``scale 0.0001 and offset -0.1`` of the first channel, and how many differ from it."""
    if scaling is None:
        return "no scale and offset"
    (scale, offset), *others = scaling
    more = ", ..." * any(pair != (scale, offset) for pair in others)
    return f"scale {scale:g} and offset {offset:g}{more}"


def note_scalings(scalings: Scalings, path: str, image: Decoded, positions: Sequence[int]) -> None:
    """Note how an image's values are scaled, for those of its channels that no image before it had."""
    for plane, position in enumerate(positions):
        own = None if image.scaling is None else image.scaling[plane]
        scalings.setdefault(position, (path, image.scaling, own))


def find_template(listing: Listing, digests: Mapping[str, str], holdings: Holdings) -> Template | None:
    """Decode files in the lists' order until each channel was met; None where no file can be used."""
    first: tuple[Entry, Decoded] | None = None
    scalings: Scalings = {}
    for _, entry in listing.entries:
        holding = holdings.get(entry.channels)
        if entry.path not in digests or holding is None or scalings.keys() >= set(holding.positions):
            continue
        try:
            image = read(listing.read(entry), holding.settings)
        except (ImageError, OSError):
            continue
        first = first or (entry, image)
        note_scalings(scalings, entry.path, image, holding.positions)
    if first is None:
        return None
    return Template(first[1].pixels.shape[1:], first[1].pixels.dtype, first[0].path, scalings)


def decode_all(
    listing: Listing,
    digests: Mapping[str, str],
    holdings: Holdings,
    folder: Path | None,
    problems: Problems,
    *,
    progress: bool = False,
) -> Built:
    """Decode all splits into ``<split>.npy`` files, a few images in memory at a time.

    The planes of channels that a file does not hold are not written to.

    Args:
        listing: what to decode.
        digests: content digest of every file that could be read; others are left out.
        holdings: what the files hold, and how they are read; others are left out.
        folder: where the arrays go; None keeps nothing and only looks for problems.
        problems: gets every file that cannot be used. Its row is left zero, so do not use the arrays then.
        progress: show a bar on standard error.
    """
    template = find_template(listing, digests, holdings)
    arrays: Arrays = {}
    own_names: FileNames = set()
    if template is not None and folder is not None:
        count = len(holdings[None].positions)
        shapes = {split: (len(listing.splits[split]), count, *template.size) for split in SPLITS}
        size = template.dtype.itemsize
        check_space(folder, sum(int(np.prod(shape, dtype=np.int64)) * size for shape in shapes.values()))
        for split, shape in shapes.items():
            arrays[split] = np.lib.format.open_memmap(folder / f"{split}.npy", "w+", template.dtype, shape)

    def decode_chunk(chunk: Sequence[tuple[str, int, Entry]]) -> list[tuple[Entry, ImageError]]:
        failures = []
        for split, row, entry in chunk:
            try:
                data = listing.read(entry)
                if digest_content(data) != digests[entry.path]:
                    raise ImageError("it changed while the data was being read", "load again once nothing writes to it")
                holding = holdings[entry.channels]
                image = read(data, holding.settings)
                if template is not None:
                    template.check(image, holding.positions, scaled=holding.settings.scaled)
                own_names.add((tuple(holding.positions), image.names))
                if arrays:
                    arrays[split][row][list(holding.positions)] = image.pixels
            except ImageError as error:
                failures.append((entry, error))
            except OSError as error:
                failures.append((entry, ImageError(f"cannot be read ({error.strerror})", "check the file")))
        return failures

    work = [
        (split, row, entry)
        for split in SPLITS
        for row, entry in enumerate(listing.splits[split])
        if entry.path in digests and entry.channels in holdings
    ]
    with (
        progress_bar("decoding", len(work), show=progress) as advance,
        ThreadPoolExecutor(count_workers()) as pool,
        quiet(),
    ):
        advance(0, note=f"{len(work):,} images into {folder}" if arrays else f"{len(work):,} images to check them")
        for chunk, failures in zip(chunked(work), pool.map(decode_chunk, chunked(work)), strict=True):
            for entry, error in failures:
                problems.add(entry.place, error.what, error.fix)
            advance(len(chunk))
    for array in arrays.values():
        array.flush()  # type: ignore[attr-defined]  # a memmap, seen as an array
    return Built(arrays, own_names)
