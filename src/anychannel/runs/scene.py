"""A scene on disk that is read window by window, by rasterio: one raster, or one for each band.

Each window is brought to the network as an image of its own, as ``Reader`` does it for files. What is in memory at a
time depends on the windows, and on the raster's blocks, which rasterio decodes whole; these are under the limit on
images.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import lcm
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from anychannel.data.content import count_stored
from anychannel.data.errors import DataError, ImageError
from anychannel.data.files.decoded import Decoded, bring_values, fill_missing, library_errors
from anychannel.data.files.geotiff import Window, read_raster
from anychannel.data.files.jpeg2000 import JPEG2000
from anychannel.data.files.names import informative_names
from anychannel.data.files.tiff import TIFF
from anychannel.data.image_paths import ImagePath
from anychannel.data.input_images import UNUSED, InputImage, Reader
from anychannel.data.limits import check_extent
from anychannel.data.sources.band_files import match_bands, name_planes
from anychannel.data.sources.reader import check_area
from anychannel.data.sources.source import PlaneFields, Sample
from anychannel.utils.extras import need
from anychannel.utils.plurals import plural

DRIVERS = {"GTiff": TIFF, "JP2OpenJPEG": JPEG2000}
"""Formats of scenes by GDAL's name of their driver. Others, such as virtual rasters, may read whatever they name."""
SIGNATURE = 16
"""Bytes that tell the format."""
REFUSED = ("palette", "cyan", "magenta", "yellow", "black", "hue", "lightness", "saturation", "Y", "Cb", "Cr")
"""Colour interpretations whose values are not those of channels."""


class Layer(NamedTuple):
    """Bands of one raster, counted from 0, the channels that they are, and the raster's pixels in the scene's."""

    raster: Any
    bands: tuple[int, ...]
    channels: tuple[str, ...]
    factor: int = 1


@dataclass(frozen=True, eq=False)
class Strip:
    """A part of a scene in memory: first column, bands of each layer, and where a pixel is valid, (H, W) booleans."""

    column: int
    layers: tuple[Decoded, ...]
    valid: np.ndarray


class Scene:
    """An open scene. Use it in a ``with`` statement.

    Args:
        image: a raster, or files with one band each.
        reader: of the network.
        channels: names of the raster's bands in order, ``-`` for one that is not used. None means the names that the
            raster gives its bands, or the network's channels if it has as many bands and names none.
        nodata: a number that stands for no data in a file that declares none, or ``"keep"``, which takes values that
            are no data as they are. None means the run's setting, else what the file declares.

    Raises:
        DataError: a file cannot be read, is no scene, or its bands are not known.
        MissingExtraError: rasterio is not installed.
    """

    def __init__(
        self,
        image: ImagePath,
        reader: Reader,
        channels: str | Sequence[str] | None = None,
        nodata: float | str | None = None,
    ) -> None:
        self.name = image.path
        self.reader = reader
        usual = reader.options.get("nodata")
        self.nodata = next(value for value in (nodata, usual, "keep") if value is not None)
        self.filling = "keep" if nodata == "keep" or usual is None else usual
        self.typical = nodata != "keep" and usual is None  # training images had no such values
        self._stack = ExitStack()
        try:
            if image.files is None:
                raster = self._open(Path(image.path))
                names = self._names(raster, image.channels if channels is None else channels)
                used = [band for band, name in enumerate(names) if name != UNUSED]
                self.layers = [Layer(raster, tuple(used), tuple(names[band] for band in used))]
            else:
                found = name_planes(image.files.files, match_bands(list(image.files.files), reader.channels)).files
                chosen = {name: file for name, file in found.items() if name in (image.channels or found)}
                rasters = {name: self._open(file) for name, file in chosen.items()}
                if not rasters:
                    raise DataError(f"{self.name}: none of its files is one of {', '.join(reader.channels.names)}")
                self.layers = self._align(rasters)
            finest = min(self.layers, key=lambda layer: layer.factor)
        except BaseException:
            self._stack.close()
            raise
        self.raster = finest.raster
        self.height, self.width = self.raster.height, self.raster.width
        self.channels = tuple(name for layer in self.layers for name in layer.channels)
        self._named = False
        self.step = lcm(*(layer.factor for layer in self.layers))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def _open(self, path: Path) -> Any:
        """Open a raster. Raises DataError if it cannot be opened, is none, or would be decoded in too large parts."""
        rasterio = need("rasterio", "geo", "a scene")
        from rasterio.errors import NotGeoreferencedWarning, RasterioError

        try:
            count_stored(path)  # only of a regular file
            with library_errors(RasterioError), warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                raster = self._stack.enter_context(rasterio.open(path, driver=find_driver(path)))
            if raster.count == 0:
                raise ImageError(f"it holds {len(raster.subdatasets)} images", "keep the one that you want")
            colours = [colour.name for colour in raster.colorinterp if colour.name in REFUSED]
            if colours:
                raise ImageError(f"its bands are declared as {', '.join(colours)}", "convert it to bands of values")
            together = raster.count if raster.profile.get("interleave") == "pixel" else 1
            check_extent(
                max(rows * columns for rows, columns in raster.block_shapes) * together, "is stored in blocks of"
            )
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        except ImageError as error:
            raise DataError(f"{path}: {error}") from error
        return raster

    def _names(self, raster: Any, given: str | Sequence[str] | None) -> tuple[str, ...]:
        """The channels of a raster's bands, ``-`` for those that are not used."""
        network = self.reader.channels.names
        if given is not None:
            names = self.reader.expand(given)
        else:
            own = informative_names(raster.descriptions)
            named = [name for name in own if name]
            known = match_bands(named, self.reader.channels) if named else {}
            if raster.count == len(network) and (len(named) < raster.count or not known):
                names = network
            else:
                names = tuple(known.get(name or "", UNUSED) for name in own)
        if given is not None and len(names) != raster.count:
            raise DataError(
                f"{self.name} has {plural(raster.count, 'band')}, but {plural(len(names), 'channel')} are named "
                f"({', '.join(names)}); name all in their order, '-' for those that are not used"
            )
        if set(names) == {UNUSED}:
            raise DataError(
                f"{self.name} has {plural(raster.count, 'band')}, and none is named as one of the channels "
                f"{', '.join(network)}; give channels=NAMES with all in their order, '-' for those that are not used"
            )
        self.reader.channels.positions([name for name in names if name != UNUSED])
        return names

    def _align(self, rasters: dict[str, Any]) -> list[Layer]:
        """One layer for each band. Raises DataError if the rasters show other areas, or pixels do not fit together."""
        finest = max(rasters, key=lambda name: rasters[name].width * rasters[name].height)
        height, width = rasters[finest].height, rasters[finest].width

        def outline(raster: Any) -> Decoded:
            area = (raster.crs.to_string(), *raster.bounds) if raster.crs is not None else None
            return Decoded(np.broadcast_to(np.uint8(0), (1, raster.height, raster.width)), area=area)

        layers = []
        for name, raster in rasters.items():
            try:
                check_area(f"its band {name}", outline(raster), f"its band {finest}", outline(rasters[finest]))
            except ImageError as error:
                raise DataError(f"{self.name}: {error}") from error
            factor = width // raster.width
            if raster.count != 1 or (raster.height * factor, raster.width * factor) != (height, width):
                raise DataError(
                    f"{self.name}: its band {name} has {raster.count} x {raster.height} x {raster.width} values, which "
                    f"do not fit into the {height} x {width} pixels of {finest}; resample it, or leave it out"
                )
            layers.append(Layer(raster, (0,), (name,), factor))
        return layers

    def check_window(self, window: int, stride: int) -> None:
        """Raise ValueError if windows of this size and distance do not fit into the scene or its pixels."""
        if window < 1:
            raise ValueError(f"window is the side of the windows in pixels, at least 1, got {window}")
        if not 1 <= stride <= window:
            raise ValueError(
                f"stride is the distance of windows in pixels, from 1 to the window's {window}, got {stride}"
            )
        if window > min(self.height, self.width):
            raise ValueError(
                f"a window of {window} pixels does not fit into {self.name}, which has {self.height} x {self.width}; "
                "give a smaller window"
            )
        if window % self.step or stride % self.step:
            raise ValueError(
                f"{self.name} has bands with pixels of {self.step} of the finest; give a window and a stride that are "
                f"multiples of {self.step}, got {window} and {stride}"
            )

    def read(self, row: int, column: int, height: int, width: int) -> Strip:
        """Read a part into memory. Raises DataError if it cannot be decoded."""
        from rasterio.errors import RasterioError

        found, valid = [], np.zeros((height, width), bool)
        try:
            for layer in self.layers:
                scale = layer.factor
                part: Window = (row // scale, column // scale, height // scale, width // scale)

                with library_errors(RasterioError):
                    planes = read_raster(layer.raster, layer.bands, part)
                values = bring_values(planes, scaled=bool(self.reader.options.get("scaled")))
                missing = fill_missing(values, planes.missing, self.nodata)[1]
                planes = replace(planes, missing=missing)
                here = np.ones(part[2:], bool) if missing is None else ~missing.all(axis=0)
                valid |= here.repeat(layer.factor, axis=0).repeat(layer.factor, axis=1)
                found.append(replace(planes, names=()) if self._named else planes)
        except ImageError as error:
            raise DataError(f"{self.name} at row {row:,}, column {column:,}: {error}") from error
        return Strip(column, tuple(found), valid)

    def open(self, strip: Strip, column: int, size: int) -> InputImage:
        """A window of a strip that starts in this column, as an image. Raises DataError if it cannot be used."""
        name = f"{self.name} at column {column:,}"
        parts = []
        for layer, planes in zip(self.layers, strip.layers, strict=True):
            first, last = (column - strip.column) // layer.factor, (column - strip.column + size) // layer.factor
            pixels = planes.pixels[:, :, first:last]
            missing = None if planes.missing is None else planes.missing[:, :, first:last]
            if missing is not None:
                pixels = fill_median(pixels, missing, missing if self.typical else missing & np.isnan(pixels))
            parts.append(replace(planes, pixels=pixels, missing=missing))
        if len(parts) == 1:
            image = self.reader.open(parts[0], self.layers[0].channels, name=name, nodata=self.filling)
        else:
            loaded = PlaneFields({layer.channels[0]: part for layer, part in zip(self.layers, parts, strict=True)})
            try:
                sample = Sample(name, 0, np.empty(0), tuple(loaded))
                image = self.reader.open_planes(sample, loaded, nodata=self.filling)
            except ImageError as error:
                raise DataError(f"{name}: {error}") from error
        self._named = True  # the names that the rasters give their bands were compared with the channels
        return image


def fill_median(pixels: np.ndarray, missing: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """Pixels (C, H, W) with the median of their plane's valid ones where ``filled``; 0 in planes without any.

    Of an even number, the lower one is taken, so that a mask's values stay values of the mask.
    """
    found = pixels.copy()
    for plane, gone, places in zip(found, missing, filled, strict=True):
        if places.any():
            valid = np.sort(plane[~gone])
            plane[places] = valid[(len(valid) - 1) // 2] if len(valid) else 0
    return found


def find_driver(path: Path) -> str:
    """GDAL's driver for a file, by its first bytes. Raises ImageError if there is none, OSError if it is unreadable."""
    with path.open("rb") as file:
        start = file.read(SIGNATURE)
    for driver, form in DRIVERS.items():
        if form.recognises(start):
            return driver
    raise ImageError("it is neither a TIFF nor a JPEG 2000 file", "convert it to a GeoTIFF")
