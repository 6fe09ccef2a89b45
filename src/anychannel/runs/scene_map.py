"""Classify a scene by windows, and write what is where: a map with class and confidence, and a picture of it.

The map has a cell for each step of the windows (``stride``). A cell's probabilities are the mean over the windows that
contain its centre. Windows are read, classified and averaged from the top of the scene to its bottom, and rows of cells
are written as soon as no further window reaches them, so that the scene's length does not matter to memory.

The map is a GeoTIFF of two bands, uint16: the class, counted from 1 in the network's order, 0 where there is no data;
and its probability in units of 0.0001, which the band's scale declares. Band 1 has a colour for each class. The tags
name the classes (``CLASS_1`` ... of band 1), the windows and the channels.
"""

from __future__ import annotations

import colorsys
import time
import warnings
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from anychannel.channels import ChannelError
from anychannel.data.errors import DataError
from anychannel.data.image_paths import ImagePath, find_images
from anychannel.runs.predict import BATCH, VALUES, Names, Prediction, Predictor
from anychannel.runs.scene import Scene
from anychannel.utils.extras import need
from anychannel.utils.files import check_place, write_atomically
from anychannel.utils.progress import progress_bar
from anychannel.utils.version import __version__

UNIT = 1e-4
"""Unit of the confidence in the map."""
PICTURE = 1024
"""Longest side of the picture in pixels, without the legend."""
CACHE_MB = 64
"""What GDAL keeps of the blocks that it decoded."""
SECONDS = 10.0
"""Time between two remarks about the progress."""
MOST_CLASSES = 65_000


@dataclass(frozen=True)
class SceneMap:
    """What a map shows: cells of each class, of all without data, and the mean confidence over the others.

    ``windows`` were classified, of which ``unlike`` differ from all training images; see ``Prediction``.
    """

    path: str
    picture: str
    height: int
    width: int
    cells: dict[str, int]
    no_data: int
    confidence: float | None
    windows: int
    unlike: int
    channels: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"channels": list(self.channels)}


def map_scene(
    model: str | Path | Predictor,
    scene: str | Path | ImagePath,
    out: str | Path,
    *,
    window: int | None = None,
    stride: int | None = None,
    channels: Names = None,
    use: Names = None,
    drop: Names = None,
    nodata: float | str | None = None,
    bands: str | None = None,
    progress: bool = False,
) -> SceneMap:
    """Classify a scene by windows, and write a map and a picture of it. The scene is never in memory as a whole.

    Args:
        model: the folder of a run or of a saved model, or a ``Predictor``.
        scene: a GeoTIFF or JPEG 2000 file of any size; or with ``bands`` a scene whose bands lie in separate files.
        out: the map, a ``.tif``; the picture is the ``.png`` beside it.
        window: side of the windows in pixels; None means the training images'.
        stride: distance of the windows in pixels, up to ``window``, and the side of the map's cells; None means half of
            the window.
        channels: names of the scene's bands in order, ``-`` for one that is not used; None means the names that the
            file gives its bands, or the network's channels if it has as many bands.
        use, drop: the channels that the network gets, or does not get.
        nodata: a number that stands for no data in a file that declares none, or ``"keep"``, which takes such values as
            they are; None means what the run has set or the file declares. A window without data in a band lacks this
            channel, and a cell without data in all bands has no class. Single pixels without data are filled with the
            run's ``nodata`` if it was trained with a number, else with the median of the band's others in the window.
        bands: pattern of files with one band each, see ``find_images``.
        progress: show a bar with the time left on standard error.

    Raises:
        ChannelError: a channel's name is unknown.
        DataError: the scene cannot be read, or its bands are not known.
        ValueError: the windows do not fit, or ``out`` is no ``.tif``.
        OSError: the map cannot be written.
        MissingExtraError: rasterio is not installed.
    """
    rasterio = need("rasterio", "geo", "a map")
    predictor = model if isinstance(model, Predictor) else Predictor(model)
    target = Path(out)
    check_map(target)
    image = scene if isinstance(scene, ImagePath) else find_one(scene, bands)
    sources = [Path(image.path)] if image.files is None else list(image.files.files.values())
    if any(file.exists() and target.exists() and file.samefile(target) for file in sources):
        raise ValueError(f"{target} is the scene itself; write the map to another file")
    if predictor.network.spec.thresholds is not None:
        raise ValueError("a map shows one class at each place, and the network may give several labels")
    if len(predictor.classes) > MOST_CLASSES:
        raise ValueError(f"a map holds up to {MOST_CLASSES:,} classes, and the network has {len(predictor.classes):,}")
    kept = predictor.keep(None, use, drop)
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB, GDAL_PAM_ENABLED="NO"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
        with Scene(image, predictor.reader, channels, nodata) as opened:
            side = default_window(predictor) if window is None else window
            step = max(1, side // 2) if stride is None else stride
            opened.check_window(side, step)
            missing = [name for name in kept if name not in opened.channels] if use is not None else []
            if missing:
                raise ChannelError(f"{image.path} does not hold {', '.join(missing)}, which the network should get")
            writer = MapWriter(predictor, opened, kept, side, step)
            write_atomically(target, lambda path: writer.write(path, progress=progress))
        picture = target.with_suffix(".png")
        write_atomically(picture, lambda path: draw_map(target, predictor.classes).save(path, "PNG"))
    return writer.describe(target, picture)


def check_map(path: Path) -> None:
    """Refuse a name that is no ``.tif``, or a place where no file can be written."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise ValueError(f"the map of a scene is a .tif, got {path.name!r}; name it so")
    check_place(path)


def find_one(scene: str | Path, bands: str | None) -> ImagePath:
    """The one scene of a path. Raises DataError if there are several."""
    found = find_images(scene, bands)
    if len(found) != 1:
        raise DataError(f"{scene} names {len(found):,} images; a map shows one scene")
    return found[0]


def default_window(predictor: Predictor) -> int:
    """The side of the training images. Raises ValueError if they are not square, or not known."""
    shape = predictor.reader.shape
    if shape is None or shape[0] != shape[1]:
        raise ValueError("the model does not say the size of its training images; give the side of a window")
    return shape[0]


class Cells:
    """Rows of cells that windows still reach: sums of probabilities, numbers of windows, and whether there is data.

    ``rows`` and ``columns`` are the centres of the cells in pixels. At a time, there are as many rows as a window
    covers and one step more.
    """

    def __init__(self, height: int, width: int, stride: int, classes: int) -> None:
        self.stride, self.classes = stride, classes
        self.rows, self.columns = (self._centres(side, stride) for side in (height, width))
        self.done = 0
        self.open: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    @staticmethod
    def _centres(side: int, stride: int) -> np.ndarray:
        edges = np.append(np.arange(0, side, stride), side)
        centres: np.ndarray = (edges[:-1] + edges[1:]) / 2
        return centres

    def _row(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        count = len(self.columns)
        if row not in self.open:
            new = np.zeros((self.classes, count), np.float32), np.zeros(count, np.int32), np.zeros(count, bool)
            self.open[row] = new
        return self.open[row]

    def add(self, row: int, column: int, side: int, shares: np.ndarray) -> None:
        """Count a window's probabilities (K,) for the cells whose centres it contains."""
        first, last = np.searchsorted(self.columns, (column, column + side))
        top, bottom = np.searchsorted(self.rows, (row, row + side)).tolist()
        for place in range(top, bottom):
            sums, counts, _ = self._row(place)
            sums[:, first:last] += shares[:, None]
            counts[first:last] += 1

    def mark(self, row: int, column: int, valid: np.ndarray) -> None:
        """Note where pixels (H, W) have data."""
        rows, columns = (
            range(start // self.stride, (start + length - 1) // self.stride + 1)
            for start, length in zip((row, column), valid.shape, strict=True)
        )
        edges = [
            np.maximum(np.array(cells) * self.stride - start, 0) for cells, start in ((rows, row), (columns, column))
        ]
        held = np.logical_or.reduceat(np.logical_or.reduceat(valid, edges[0], axis=0), edges[1], axis=1)
        for place, has in zip(rows, held, strict=True):
            if place < self.done:
                continue
            self._row(place)[2][columns.start : columns.stop] |= has

    def finish(self, until: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Rows of cells with centres before a row of pixels: number, classes from 1 (0: none), and probabilities."""
        for place in sorted(self.open):
            if self.rows[place] < until:
                sums, counts, valid = self.open.pop(place)
                self.done = place + 1
                shares = sums / np.maximum(counts, 1)
                known = valid & (counts > 0)
                best = shares.argmax(axis=0)
                share = np.take_along_axis(shares, best[None], axis=0)[0]
                yield place, np.where(known, best + 1, 0), np.where(known, share, 0.0)


def starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along a side; the last one ends with it."""
    found = list(range(0, length - window + 1, stride))
    return found if found[-1] + window >= length else [*found, length - window]


class MapWriter:
    """Classifies a scene, writes the map, and counts what is in it."""

    def __init__(self, predictor: Predictor, scene: Scene, kept: Sequence[str], window: int, stride: int) -> None:
        self.predictor, self.scene, self.kept, self.window, self.stride = predictor, scene, kept, window, stride
        self.cells = Cells(scene.height, scene.width, stride, len(predictor.classes))
        self.counts = np.zeros(len(predictor.classes) + 1, np.int64)
        self.sum = 0.0
        self.windows = self.unlike = 0
        self.failed: Exception | None = None

    @property
    def used(self) -> tuple[str, ...]:
        """The scene's channels that the network gets, in the network's order."""
        return tuple(
            name for name in self.predictor.channels.names if name in self.scene.channels and name in self.kept
        )

    def write(self, path: Path, *, progress: bool) -> None:
        """Write the map."""
        import rasterio

        if not self.used:
            raise ChannelError(
                f"{self.scene.name} holds {', '.join(self.scene.channels)}, and none of them is to be used"
            )
        classes, raster, step = self.predictor.classes, self.scene.raster, self.stride
        rows, columns = starts(self.scene.height, self.window, self.stride), self._groups()
        profile = {
            "driver": "GTiff",
            "height": len(self.cells.rows),
            "width": len(self.cells.columns),
            "count": 2,
            "dtype": "uint16",
            **place_cells(raster, step),
            "nodata": 0,
            "compress": "deflate",
            "photometric": "palette",
            "bigtiff": "if_safer",
        }
        with rasterio.open(path, "w", **profile) as file:
            file.write_colormap(
                1, dict(enumerate([(0, 0, 0, 0), *((*colour, 255) for colour in colours(len(classes)))]))
            )
            file.descriptions = ("class", "confidence")
            file.scales = (1.0, UNIT)
            file.update_tags(1, **{f"CLASS_{number}": name for number, name in enumerate(classes, start=1)})
            file.update_tags(
                SOFTWARE=f"anychannel {__version__}",
                WINDOW=self.window,
                STRIDE=self.stride,
                CHANNELS=",".join(self.used),
                CLASSES=len(classes),
            )
            noted = time.monotonic()
            with progress_bar("map", len(rows), show=progress) as advance:
                for row, following in zip(rows, [*rows[1:], self.scene.height + 1], strict=True):
                    for group in columns:
                        self._classify(row, group)
                    for place, numbers, shares in self.cells.finish(following):
                        values = np.stack([numbers, np.rint(shares / UNIT)]).astype(np.uint16)
                        file.write(values[:, None], window=((place, place + 1), (0, len(numbers))))
                        self.counts += np.bincount(numbers, minlength=len(self.counts))
                        self.sum += float(shares.sum())
                    told = time.monotonic() - noted > SECONDS
                    noted = time.monotonic() if told else noted
                    advance(note=f"row {row:,} of {self.scene.height:,}" if told else None)
        if not self.counts[1:].any():
            raise self.failed or DataError(f"{self.scene.name} has no data in any window; there is nothing to map")

    def _groups(self) -> list[list[int]]:
        """Columns of windows that are read together: up to a batch, and not more values than a batch of images has."""
        columns = starts(self.scene.width, self.window, self.stride)
        widest = max(self.window, VALUES // 8 // (len(self.scene.channels) * self.window))
        groups: list[list[int]] = []
        for column in columns:
            if groups and len(groups[-1]) < BATCH and column + self.window - groups[-1][0] <= widest:
                groups[-1].append(column)
            else:
                groups.append([column])
        return groups

    def _classify(self, row: int, columns: Sequence[int]) -> None:
        """Read and classify the windows of a row that start in these columns."""
        first, side = columns[0], self.window
        strip = self.scene.read(row, first, side, columns[-1] - first + side)
        self.cells.mark(row, first, strip.valid)
        held = [column for column in columns if strip.valid[:, column - first : column - first + side].any()]
        images = [self.scene.open(strip, column, side) for column in held]
        for column, found in zip(held, self.predictor.classify(images, self.used), strict=True):
            if isinstance(found, Prediction):
                self.windows += 1
                self.unlike += found.unlike is not None
                self.cells.add(row, column, side, found.probabilities.numpy())
            elif isinstance(found, ChannelError):  # the window has data in none of the channels to use
                self.failed = self.failed or found
            else:
                raise found

    def describe(self, path: Path, picture: Path) -> SceneMap:
        """What was written."""
        known = int(self.counts[1:].sum())
        return SceneMap(
            path=str(path),
            picture=str(picture),
            height=len(self.cells.rows),
            width=len(self.cells.columns),
            cells=dict(zip(self.predictor.classes, self.counts[1:].tolist(), strict=True)),
            no_data=int(self.counts[0]),
            confidence=self.sum / known if known else None,
            windows=self.windows,
            unlike=self.unlike,
            channels=self.used,
        )


def place_cells(raster: Any, step: int) -> dict[str, Any]:
    """Where cells of ``step`` pixels lie on Earth, as rasterio's options of a new file.

    The raster's transform and coordinate system, or its ground control points and theirs, and its rational polynomials.
    """
    import rasterio
    from rasterio.control import GroundControlPoint

    points, system = raster.gcps
    if points and raster.transform.is_identity:
        cells = [
            GroundControlPoint(one.row / step, one.col / step, one.x, one.y, one.z, one.id, one.info) for one in points
        ]
        place: dict[str, Any] = {"gcps": cells, "crs": system}
    else:
        place = {"transform": raster.transform * rasterio.Affine.scale(step), "crs": raster.crs}
    if raster.rpcs is not None:
        camera = copy(raster.rpcs)
        for axis in ("line", "samp"):  # its zero is the centre of a pixel
            setattr(camera, f"{axis}_off", (getattr(camera, f"{axis}_off") + 0.5) / step - 0.5)
            setattr(camera, f"{axis}_scale", getattr(camera, f"{axis}_scale") / step)
        place["rpcs"] = camera
    return place


def colours(count: int) -> list[tuple[int, int, int]]:
    """Colours of classes: hues that differ as much as they can, in three brightnesses."""
    found = []
    for number in range(count):
        hue, value = (0.58 + number * 0.618034) % 1, (0.85, 0.65, 0.95)[number % 3]
        found.append(tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.65, value)))
    return found  # type: ignore[return-value]


def draw_map(path: Path, classes: Sequence[str]) -> Image.Image:
    """The map as a picture: a class's colour, paler where the network is less sure, and a legend with shares."""
    import rasterio
    from rasterio.enums import Resampling

    with rasterio.open(path) as file:
        scale = PICTURE / max(file.height, file.width)
        shape = tuple(max(1, round(side * min(scale, 1))) for side in (file.height, file.width))
        numbers = file.read(1, out_shape=shape, resampling=Resampling.nearest)
        shares = file.read(2, out_shape=shape, resampling=Resampling.nearest) * UNIT
    table = np.array([(235, 235, 235), *colours(len(classes))], np.float32)
    sure = np.clip((shares - 1 / len(classes)) / max(1 - 1 / len(classes), UNIT), 0, 1)[..., None]
    strength = np.where(numbers[..., None] > 0, 0.25 + 0.75 * sure, 1)
    pixels = np.rint(255 + (table[numbers] - 255) * strength).astype(np.uint8)
    picture = Image.fromarray(pixels)
    if scale > 1:
        grown = [max(1, int(scale)) * side for side in picture.size]
        picture = picture.resize((grown[0], grown[1]), Image.Resampling.NEAREST)
    return add_legend(picture, numbers, classes)


def add_legend(picture: Image.Image, numbers: np.ndarray, classes: Sequence[str]) -> Image.Image:
    """The picture with the classes that are in it beside it, the most frequent first."""
    counts = np.bincount(numbers.ravel(), minlength=len(classes) + 1)
    total = max(1, int(counts[1:].sum()))
    line, font = 22, ImageFont.load_default(size=14)
    order = [int(number) for number in np.argsort(-counts[1:], kind="stable") + 1 if counts[number]]
    most = max(1, (picture.height - 2 * line) // line)
    texts = [(number, f"{classes[number - 1]}  {100 * counts[number] / total:.1f} %") for number in order[:most]]
    rest = len(order) - len(texts)
    width = 60 + round(max((font.getlength(text) for _, text in texts), default=0))
    height = max(picture.height, line * (len(texts) + 2))
    page = Image.new("RGB", (picture.width + width, height), "white")
    page.paste(picture, (0, 0))
    draw = ImageDraw.Draw(page)
    for place, (number, text) in enumerate(texts):
        top, left = line // 2 + place * line, picture.width + 12
        draw.rectangle((left, top + 3, left + 14, top + 17), fill=colours(len(classes))[number - 1])
        draw.text((left + 22, top + 2), text, fill="black", font=font)
    if rest > 0:
        draw.text((picture.width + 34, line // 2 + len(texts) * line), f"and {rest} more", "black", font)
    return page
