"""Scenes whose bands lie in files of their own, of 10, 20 and 60 m, with a place on Earth."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin

METRES = {"B02": 10, "B05": 20, "B09": 60, "SCL": 20}
SIDE_M = 240
"""Side of a scene in metres."""


def write_band(
    path: Path,
    plane: np.ndarray,
    metres: float | None = None,
    *,
    corner: tuple[float, float] = (5e5, 6e6),
    crs: str = "EPSG:32632",
    **options: object,
) -> Path:
    """Write an (H, W) plane as GeoTIFF or, by the name, as JPEG 2000 without loss. Old enough to be remembered."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = plane.shape
    if path.suffix == ".jp2":
        kind: dict[str, object] = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    else:
        kind = {"driver": "GTiff"}
    pixel = SIDE_M / height if metres is None else metres
    place = {"crs": crs, "transform": from_origin(*corner, pixel, pixel)}
    shape = {"count": 1, "height": height, "width": width, "dtype": plane.dtype.name}
    with rasterio.open(path, "w", **kind, **shape, **place, **options) as file:
        file.write(plane, 1)
    past = time.time() - 100
    os.utime(path, (past, past))
    return path


def draw_scene(seed: int, label: int = 0) -> dict[str, np.ndarray]:
    """The planes of a scene by band; bands are brighter in the second class, SCL holds classes of pixels."""
    random = np.random.default_rng([seed, label])
    planes = {}
    for band, metres in METRES.items():
        side = SIDE_M // metres
        top = 12 if band == "SCL" else 1000
        plane = random.integers(0, top, (side, side)) + (0 if band == "SCL" else 1500 * label)
        planes[band] = plane.astype(np.uint8 if band == "SCL" else np.uint16)
    return planes


def upsampled(plane: np.ndarray, side: int) -> np.ndarray:
    """What Pillow makes of a plane, bilinear."""
    grey = Image.fromarray(plane.astype(np.float32))
    return np.rint(np.asarray(grey.resize((side, side), Image.Resampling.BILINEAR))).astype(plane.dtype)


def write_scenes(root: Path, pattern: str, per_class: int = 5, **names: str) -> dict[str, dict[str, np.ndarray]]:
    """Write scenes of two classes, whose pattern has ``{cls}``, ``{scene}`` and ``{band}``; returns planes by scene.

    ``names`` are the bands' names in the files, by the usual ones.
    """
    written = {}
    for label, cls in enumerate(("field", "forest")):
        for i in range(per_class):
            scene = f"{cls}-{i}"
            written[scene] = draw_scene(i, label)
            for band, plane in written[scene].items():
                write_band(root / pattern.format(cls=cls, scene=scene, band=names.get(band, band)), plane)
    return written


def stack(planes: Mapping[str, np.ndarray], bands: str) -> np.ndarray:
    """(C, 24, 24): what the planes are on the finest grid."""
    found = []
    for band in bands.split(","):
        side = SIDE_M // METRES["B02"]
        plane = planes[band]
        found.append(np.kron(plane, np.ones((2, 2))) if band == "SCL" else upsampled(plane, side))
    return np.stack([plane.astype(np.uint16) for plane in found])
