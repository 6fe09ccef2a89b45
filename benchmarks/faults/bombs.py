"""Section ``bombs``: small files that unfold to more than memory holds, wherever they come in.

Each case looks at how much memory the process held at most, the libraries in C included.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shutil import copytree
from zipfile import ZIP_DEFLATED, ZipFile

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from anychannel.data import DataError, load_dataset, read_image
from anychannel.models import create_model
from anychannel.models.saving import save_model
from anychannel.runs.predict import Predictor
from benchmarks.faults import bomb_files as files
from benchmarks.faults.case import Case
from benchmarks.faults.small_run import invoke, trained

MOST_BYTES = 200 * 2**20
"""What a case may take beyond the process's memory before it. The bombs unfold to 0.5 GB and more."""
VAST = files.VAST

IMAGE = "An image that unfolds to more than the limit is refused before memory is allocated for it."
SHARD = "A shard that unfolds to more than the limit is refused before memory is allocated for it."
SETTABLE = "ANYCHANNEL_MAX_VALUES sets the limit on what a file unfolds to."
ENDLESS = "Named pipes, devices and loops of pages are refused; nothing waits for them."
PREDICTIONS = "Predictions of a run that unfold to more than memory holds are refused."
ADDRESSES = "A list of shards with more than a million names is refused before it is written out."


def tiff(compression: str | None, **options: object) -> Callable[[Path], None]:
    return lambda path: files.patched_tiff(path, VAST, compression=compression, **options)


def tiff_of_tiles(compression: str) -> Callable[[Path], None]:
    tags = {322: 50_000, 323: 50_000}
    return lambda path: files.patched_tiff(path, tags, tile=(16, 16), compression=compression)


def tiff_described(text: str, **options: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        tifffile.imwrite(path, files.BLANK, photometric="minisblack", description=text, metadata=None, **options)

    return write


def ome(*, side: int = 16, channels: int = 1, times: int = 1, inner: str = "<TiffData/>", head: str = "") -> str:
    sizes = f'SizeX="{side}" SizeY="{side}" SizeC="{channels}" SizeZ="1" SizeT="{times}"'
    return (
        f'<?xml version="1.0"?>{head}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" {sizes}>{inner}</Pixels></Image></OME>'
    )


ENTITIES = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 11))
LAUGHS = f'<!DOCTYPE OME [<!ENTITY l0 "ha">{ENTITIES}]>'
NPY = {
    "18 GB": "(60000, 300000)",
    "28 GB": "(3, 100000, 95000)",
    "8 EB": "(3, 1600000000, 1900000000)",
    "more than 64 bits": "(99999999999, 99999999999)",
}


def npy(shape: str, *, major: int = 1) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
        size = len(header).to_bytes(2 if major == 1 else 4, "little")
        path.write_bytes(b"\x93NUMPY" + bytes([major, 0]) + size + header + bytes(256))

    return write


def pillow(kind: str, side: int, **options: object) -> Callable[[Path], None]:
    return lambda path: Image.new("L" if kind == "JPEG" else "RGB", (side, side)).save(path, kind, **options)


def bmp(path: Path) -> None:
    Image.fromarray(files.BLANK).convert("RGB").save(path)
    content = bytearray(path.read_bytes())
    content[18:26] = np.array([60_000, 60_000], "<i4").tobytes()
    path.write_bytes(content)


def part(compression: str, encode: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda path: files.tiff_with_part(path, compression, encode())


def zeros(side: int) -> np.ndarray:
    return np.zeros((side, side), np.uint8)


IMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    **{f"npy of {name}": ("a.npy", npy(shape)) for name, shape in NPY.items()},
    **{f"npy 2.0 of {name}": ("a.npy", npy(shape, major=2)) for name, shape in NPY.items()},
    **{
        f"TIFF, {kind or 'uncompressed'}": ("a.tif", tiff(kind))
        for kind in (None, "zlib", "lzw", "zstd", "lzma", "packbits")
    },
    **{f"BigTIFF, {kind}": ("a.tif", tiff(kind, bigtiff=True)) for kind in ("zlib", "lzw", "zstd")},
    **{f"TIFF of vast tiles, {kind}": ("a.tif", tiff_of_tiles(kind)) for kind in ("zlib", "lzw", "zstd")},
    "GeoTIFF, deflate": ("a.tif", tiff("zlib", extratags=[(42113, 2, 2, "0", True)])),
    "TIFF whose strip unfolds to 1 GB": ("a.tif", part("zlib", lambda: files.squeeze_zeros(1 << 29))),
    "TIFF of LZMA that unfolds to 1 GB": ("a.tif", part("lzma", lambda: imagecodecs.lzma_encode(bytes(1 << 29)))),
    "TIFF of Zstandard that unfolds to 1 GB": ("a.tif", part("zstd", lambda: imagecodecs.zstd_encode(bytes(1 << 29)))),
    "TIFF of a vast JPEG 2000": ("a.tif", part("jpeg2000", lambda: imagecodecs.jpeg2k_encode(zeros(4000)))),
    "TIFF of a vast PNG": ("a.tif", part("png", lambda: imagecodecs.png_encode(zeros(16_000)))),
    "TIFF of a vast JPEG": ("a.tif", part("jpeg", lambda: imagecodecs.jpeg_encode(zeros(16_000)))),
    "OME-TIFF of 10^9 planes": ("a.tif", tiff_described(ome(times=10**9))),
    "OME-TIFF of 10^9 channels": ("a.tif", tiff_described(ome(channels=10**9))),
    "OME-TIFF of vast planes": ("a.tif", tiff_described(ome(side=160_000))),
    "XML of a billion laughs": ("a.tif", tiff_described(ome(head=LAUGHS, inner="&l10;"))),
    "ImageJ of 10^9 planes": ("a.tif", tiff_described("ImageJ=1.11a\nimages=1000000000\nchannels=1000000000\n")),
    "PNG of 9,000 x 9,000": ("a.png", lambda path: files.png(path, 9000, 9000)),
    "PNG of 16 bits": ("a.png", lambda path: files.png(path, 9000, 9000, 16)),
    "PNG of 60,000 x 60,000": ("a.png", lambda path: files.png(path, 60_000, 60_000)),
    "PNG of 2^31 x 2^31": ("a.png", lambda path: files.png(path, 2**31 - 1, 2**31 - 1)),
    "PNG with zTXt": ("a.png", lambda path: files.bomb_png_text(path, b"zTXt")),
    "PNG with iCCP": ("a.png", lambda path: files.bomb_png_text(path, b"iCCP")),
    "PNG of 16 bits with zTXt": ("a.png", lambda path: files.bomb_png_text(path, b"zTXt", 16)),
    "PNG of 16 bits with iCCP": ("a.png", lambda path: files.bomb_png_text(path, b"iCCP", 16)),
    "BMP of 60,000 x 60,000": ("a.bmp", bmp),
    "JPEG of 15,000 x 15,000": ("a.jpg", pillow("JPEG", 15_000)),
    "WebP of 16,000 x 16,000": ("a.webp", pillow("WEBP", 16_000, lossless=True, method=0, quality=0)),
    "GIF of 60,000 x 60,000": ("a.png", files.gif),
    "OME-Zarr": ("a.zarr", lambda path: files.zarr_of(path, [1, 50_000, 50_000], [1, 16, 16])),
    "chunks of an OME-Zarr": ("a.zarr", lambda path: files.zarr_of(path, [1, 16, 16], [1, 50_000, 50_000])),
    **{
        f"chunk of an OME-Zarr, {kind}": ("a.zarr", partial(files.zarr_chunk, kind=kind))
        for kind in ("gzip", "zlib", "bz2", "zstd", "blosc")
    },
    "a file of 20 GB": ("a.png", files.sparse),
}


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Raise AssertionError if the process takes more than ``MOST_BYTES`` inside, which includes libraries in C."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = held("VmRSS")
    yield
    taken = held("VmHWM") - before
    assert taken < MOST_BYTES, f"{taken / 2**20:,.0f} MB were taken"


def held(what: str) -> int:
    """An entry of the process's status in bytes."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) * 1024


@contextmanager
def refused(text: str = "") -> Iterator[None]:
    """Raise AssertionError unless the inside raises DataError that says ``text``, within bounded memory."""
    with bounded_memory():
        try:
            yield
        except DataError as error:
            if text not in str(error):
                raise AssertionError(f"the error is: {error}") from error
            return
    raise AssertionError("it was taken")


def check_library(name: str, write: Callable[[Path], None], folder: Path) -> None:
    write(folder / name)
    read_something(folder)
    with refused():
        read_image(folder / name, channels="R,G,B")


def check_predict(name: str, write: Callable[[Path], None], folder: Path) -> None:
    write(folder / name)
    read_something(folder)
    save_model(create_model("compact_k3", channels="R,G,B", num_classes=2), folder / "model")
    predictor = Predictor(folder / "model")
    with refused():
        predictor.open(folder / name)
    if (folder / name).is_file() and (folder / name).stat().st_size < 1 << 28:
        with refused():  # as the service opens what was uploaded
            predictor.open((folder / name).read_bytes(), name=name)


def check_train(name: str, write: Callable[[Path], None], folder: Path) -> None:
    for split in ("train", "val", "test"):
        for label in ("left", "right"):
            (folder / "photos" / split / label).mkdir(parents=True)
            pixels = np.random.default_rng(hash((split, label)) % 2**32).integers(0, 255, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / split / label / "1.png")
    write(folder / "photos" / "train" / "left" / name)
    read_something(folder)
    with refused(name):
        load_dataset(folder / "photos", channels="R,G,B", size=16, cache_dir=folder / "cache")


def read_something(folder: Path) -> None:
    """Import what readers import when they are used."""
    files.zarr_of(folder / "warm.zarr", [1, 16, 16], [1, 16, 16])
    read_image(folder / "warm.zarr", channels="a")
    files.patched_tiff(folder / "warm.tif", {}, extratags=[(42113, 2, 2, "9", True)])
    read_image(folder / "warm.tif", channels="a")


def check_shard(name: str, ending: str, folder: Path) -> None:
    start, count, _ = files.SHARDS[name]
    for split in ("val", "test"):
        files.write_tar(folder / f"{split}.tar", b"", 0, None)
    files.write_tar(folder / f"train{ending}", start, count, files.PACKED[ending])
    with refused("" if "in a row" in name else f"train{ending}"):
        load_dataset(f"wds:{folder}", channels="R,G,B", class_names=["a", "b"], cache_dir=folder / "cache")


def check_limit(name: str, write: Callable[[Path], None], folder: Path) -> None:
    write(folder / name)
    before = os.environ.get("ANYCHANNEL_MAX_VALUES")
    try:
        os.environ["ANYCHANNEL_MAX_VALUES"] = "255"
        with refused("more than the limit of 255"):
            read_image(folder / name, channels="a")
        os.environ["ANYCHANNEL_MAX_VALUES"] = "256"
        assert read_image(folder / name, channels="a").shape == (1, 16, 16)
    finally:
        os.environ.pop("ANYCHANNEL_MAX_VALUES")
        if before is not None:
            os.environ["ANYCHANNEL_MAX_VALUES"] = before


def check_endless(make: Callable[[Path], None], name: str, folder: Path) -> None:
    make(folder / name)
    with refused(name):
        read_image(folder / name, channels="a")


def check_addresses(address: str, folder: Path) -> None:
    with refused("stands for more than 1,000,000 names"):
        load_dataset(f"wds:{folder}/{address}", val="a.tar", test="b.tar", cache_dir=folder / "cache")


def check_predictions(folder: Path) -> None:
    run = Path(copytree(trained(), folder / "run"))
    archive = run / "evaluation" / "test_predictions.npz"
    with ZipFile(archive, "a", ZIP_DEFLATED) as held:
        rows = np.lib.format.header_data_from_array_1_0(np.zeros((1, 2), np.float32)) | {"shape": (1 << 26, 2)}
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, rows)
        with held.open("band_9.npy", "w", force_zip64=True) as file:
            file.write(head.getvalue())
            for _ in range(32):
                file.write(bytes(1 << 24))
    with bounded_memory():
        code, text = invoke("compare", run, run)
    if code != 2 or "is damaged" not in text:
        raise AssertionError(text)


def loop(path: Path) -> None:
    tifffile.imwrite(path, files.BLANK, photometric="minisblack")
    content = bytearray(path.read_bytes())
    (start,) = np.frombuffer(content[4:8], "<u4")
    (entries,) = np.frombuffer(content[start : start + 2], "<u2")
    place = int(start) + 2 + 12 * int(entries)
    content[place : place + 4] = content[4:8]
    path.write_bytes(content)


SMALL: dict[str, tuple[str, Callable[[Path], None]]] = {
    "npy": ("a.npy", lambda path: np.save(path, files.BLANK)),
    "PNG": ("a.png", lambda path: Image.fromarray(files.BLANK).save(path)),
    "TIFF": ("a.tif", lambda path: tifffile.imwrite(path, files.BLANK)),
    "OME-Zarr": ("a.zarr", lambda path: files.zarr_of(path, [1, 16, 16], [1, 16, 16])),
}
ENDLESS_FILES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a named pipe": ("a.png", os.mkfifo),
    "/dev/zero": ("a.png", lambda path: path.symlink_to("/dev/zero")),
    "a named pipe called .npy": ("a.npy", os.mkfifo),
    "a TIFF that points at itself": ("a.tif", loop),
}
ROUTES = {"read_image": check_library, "predict and serve": check_predict, "train": check_train}
QUICK = ("npy of 18 GB", "TIFF, zlib", "PNG of 9,000 x 9,000", "BigTIFF, lzw", "GeoTIFF, deflate")


def cases() -> list[Case]:
    """Formats by the ways in which files arrive, shards by compressions, limits, and files without an end."""
    found = [
        Case(IMAGE, f"{name}, {route}", partial(check, *IMAGES[name]), short=name in QUICK and route == "read_image")
        for name in IMAGES
        for route, check in ROUTES.items()
    ]
    found += [
        Case(SHARD, f"{name}{ending}", partial(check_shard, name, ending), short="1 TB" in name)
        for name, (_, _, endings) in files.SHARDS.items()
        for ending in endings
    ]
    found += [Case(SETTABLE, name, partial(check_limit, *SMALL[name]), short=True) for name in SMALL]
    found += [
        Case(ENDLESS, name, partial(check_endless, make, file), short=True)
        for name, (file, make) in ENDLESS_FILES.items()
    ]
    found.append(Case(PREDICTIONS, "compare", check_predictions))
    ranges = ("a-{0..999999999}.tar", "a-{000000000..999999999}-{0..9}.tar", "{0..99999}{0..99999}")
    found += [
        Case(ADDRESSES, address[:30], partial(check_addresses, address), short=True)
        for address in (*ranges, "{a,b}" * 40)
    ]
    return found
