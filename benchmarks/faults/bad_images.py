"""Image files that are damaged, mislabelled, unusual or random: each is read right, or refused by name.

A fault is put into a file of each format. What comes back is compared with the pixels that were written.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from anychannel.data import DataError, read_image
from anychannel.data.files.tiff import quiet
from anychannel.data.limits import VARIABLE
from benchmarks.faults.case import Case

DAMAGED = "A truncated or overwritten image is refused, and the message names the file."
MISLABELLED = "The content of an image file decides how it is read, whatever its name says."
UNFIT = "An image with other channels, values or dimensions than expected is refused, and the message names the file."
UNUSUAL = "An unusual but valid image is read to the right pixels."
TOO_LARGE = "An image beyond the size limit is refused as too large, and not called damaged."
CONVERTED = "With convert='rgb', grey, alpha, palette, CMYK, 1-bit and 16-bit images become the RGB that Pillow makes."
FUZZED = "Random bytes and randomly changed files are read or refused; nothing else happens."

HEIGHT, WIDTH = 20, 24
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (3, HEIGHT, WIDTH), dtype=np.uint8)
LAST = np.ascontiguousarray(np.moveaxis(PIXELS, 0, -1))
DEEP = RANDOM.integers(0, 65536, (3, HEIGHT, WIDTH), dtype=np.uint16)
REAL = RANDOM.normal(size=(3, HEIGHT, WIDTH)).astype(np.float32)
SMOOTH = np.stack(np.meshgrid(np.arange(WIDTH) * 10, np.arange(HEIGHT) * 12), -1).astype(np.uint8)
SMOOTH = np.concatenate([SMOOTH, 255 - SMOOTH[..., :1]], -1)


def pillow(kind: str, pixels: np.ndarray = LAST, mode: str | None = None, **options: Any) -> bytes:
    """An array, or an image of another mode made of it, as Pillow writes it."""
    file, image = io.BytesIO(), Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(file, kind, **options)
    return file.getvalue()


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    """An array as tifffile writes it."""
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **({"photometric": "minisblack"} | options))
    return file.getvalue()


def npy(pixels: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    """An array as NumPy writes it."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the version is newer than needed
        np.lib.format.write_array(file, pixels, version)
    return file.getvalue()


def png16(pixels: np.ndarray) -> bytes:
    """A 16-bit PNG."""
    import imagecodecs

    encoded: bytes = imagecodecs.png_encode(np.ascontiguousarray(np.moveaxis(pixels, 0, -1).squeeze()))
    return encoded


@cache
def files() -> dict[str, tuple[str, bytes, np.ndarray | None]]:
    """By name: ending, content and pixels, None where the format is lossy."""
    planar = {"planarconfig": "separate"}
    return {
        "PNG": (".png", pillow("PNG"), PIXELS),
        "16-bit PNG": (".png", png16(DEEP), DEEP),
        "JPEG": (".jpg", pillow("JPEG", SMOOTH, quality=95), None),
        "progressive JPEG": (".jpg", pillow("JPEG", SMOOTH, quality=95, progressive=True), None),
        "BMP": (".bmp", pillow("BMP"), PIXELS),
        "WebP": (".webp", pillow("WEBP", lossless=True), PIXELS),
        "TIFF": (".tif", tiff(PIXELS, **planar), PIXELS),
        "16-bit TIFF": (".tif", tiff(DEEP, **planar), DEEP),
        "float TIFF, deflate": (".tif", tiff(REAL, compression="zlib", **planar), REAL),
        "tiled TIFF, LZW": (".tif", tiff(LAST, compression="lzw", tile=(16, 16), planarconfig="contig"), PIXELS),
        "RGB TIFF": (".tif", tiff(LAST, photometric="rgb"), PIXELS),
        "BigTIFF": (".tif", tiff(PIXELS, bigtiff=True, **planar), PIXELS),
        "npy": (".npy", npy(PIXELS), PIXELS),
        "float npy": (".npy", npy(REAL), REAL),
    }


def read(folder: Path, name: str, data: bytes, channels: str = "R,G,B", **options: Any) -> np.ndarray:
    """Write a file and read it."""
    (folder / name).write_bytes(data)
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("error")
        return read_image(folder / name, channels=channels, **options)


def attempt(folder: Path, name: str, data: bytes) -> np.ndarray | None:
    """Write a file and read it; None if it is refused by name."""
    try:
        return read(folder, name, data)
    except DataError as error:
        if name not in str(error):
            raise AssertionError(f"{name} is not named: {error}") from error
        return None


def refused(folder: Path, name: str, data: bytes, *texts: str, **options: Any) -> str:
    """Check that a file is refused by name, and the message has all texts; return it."""
    try:
        read(folder, name, data, **options)
    except DataError as error:
        missing = [text for text in (name, *texts) if text not in str(error)]
        if missing:
            raise AssertionError(f"{missing} not in: {error}") from error
        return str(error)
    raise AssertionError("it was accepted")


def check_truncated(kind: str, part: float, folder: Path) -> None:
    """Cut at a part of its length; the very end may be padding, without which the image is still whole."""
    suffix, data, _ = files()[kind]
    cut = data[: min(len(data) - 1, int(part * len(data)))]
    found = attempt(folder, f"cut{suffix}", cut)
    if found is None:
        return
    whole = read(folder, f"whole{suffix}", data)
    assert part > 0.9, "half an image was accepted"
    np.testing.assert_array_equal(found, whole)


def check_overwritten(kind: str, how: str, folder: Path) -> None:
    suffix, data, _ = files()[kind]
    changed = {
        "empty": b"",
        "zero bytes": bytes(len(data)),
        "wrong magic": b"\x00\x01\x02\x03" + data[4:],
        "text": b"This image has moved.\n" * 20,
        "web page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "magic alone": data[:8],
        "zero bytes after the header": data[:64] + bytes(len(data) - 64),
        "second half missing, first half twice": data[: len(data) // 2] * 2,
    }[how]
    found = attempt(folder, f"bad{suffix}", changed)
    if found is None:
        return
    # Formats without checksums cannot tell other pixels from these; they have to be those that the file holds now.
    assert kind in ("TIFF", "16-bit TIFF", "RGB TIFF", "BigTIFF", "npy", "float npy", "BMP", "WebP"), (
        f"{how} was accepted"
    )
    assert how in ("zero bytes after the header", "second half missing, first half twice"), f"{how} was accepted"
    assert found.shape == (3, HEIGHT, WIDTH)


def check_name(kind: str, suffix: str, folder: Path) -> None:
    """A file under another format's name."""
    own, data, pixels = files()[kind]
    found = read(folder, f"a{suffix}", data)
    np.testing.assert_array_equal(found, read(folder, f"b{own}", data) if pixels is None else pixels)


def check_trailing(kind: str, folder: Path) -> None:
    """Bytes after the end of a whole image do no harm."""
    suffix, data, pixels = files()[kind]
    found = attempt(folder, f"long{suffix}", data + b"trailing bytes " * 9)
    if found is None:
        return
    np.testing.assert_array_equal(found, read(folder, f"own{suffix}", data) if pixels is None else pixels)


def check_channel_count(kind: str, channels: str, folder: Path) -> None:
    suffix, data, _ = files()[kind]
    refused(folder, f"three{suffix}", data, "expected", channels=channels)


UNFIT_FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "palette PNG": (".png", lambda: pillow("PNG", mode="P"), "palette"),
    "black-and-white PNG": (".png", lambda: pillow("PNG", mode="1"), "bitmap"),
    "grey PNG": (".png", lambda: pillow("PNG", mode="L"), "1 channel"),
    "grey PNG with alpha": (".png", lambda: pillow("PNG", mode="LA"), "2 channels"),
    "PNG with alpha": (".png", lambda: pillow("PNG", mode="RGBA"), "alpha"),
    "PNG with a transparent colour": (".png", lambda: pillow("PNG", transparency=(1, 2, 3)), "transparent"),
    "animated PNG": (
        ".png",
        lambda: pillow("PNG", save_all=True, append_images=[Image.new("RGB", (24, 20))]),
        "animation",
    ),
    "animated WebP": (
        ".webp",
        lambda: pillow("WEBP", save_all=True, append_images=[Image.new("RGB", (24, 20))]),
        "animation",
    ),
    "CMYK JPEG": (".jpg", lambda: pillow("JPEG", mode="CMYK"), "CMYK"),
    "grey JPEG": (".jpg", lambda: pillow("JPEG", mode="L"), "1 channel"),
    "palette BMP": (".bmp", lambda: pillow("BMP", mode="P"), "palette"),
    "GIF": (".png", lambda: pillow("GIF", mode="P"), "known format"),
    "palette TIFF": (".tif", lambda: pillow("TIFF", mode="P"), "palette"),
    "CMYK TIFF": (".tif", lambda: pillow("TIFF", mode="CMYK"), "CMYK"),
    "CIELAB TIFF": (".tif", lambda: tiff(LAST, photometric="cielab"), "CIELAB"),
    "inverted grey TIFF": (".tif", lambda: tiff(LAST[..., 0], photometric="miniswhite"), "MINISWHITE"),
    "TIFF of two images": (".tif", lambda: two_images(), "2 images"),
    "float64 npy": (".npy", lambda: npy(REAL.astype(np.float64) + 1e-12), "float64"),
    "complex npy": (".npy", lambda: npy(REAL.astype(np.complex64)), "complex64"),
    "boolean npy": (".npy", lambda: npy(PIXELS > 99), "bool"),
    "large int64 npy": (".npy", lambda: npy(PIXELS.astype(np.int64) + 2**40), "int64"),
    "text npy": (".npy", lambda: npy(np.full((3, 4, 4), "x")), "str"),
    "structured npy": (".npy", lambda: npy(np.zeros((3, 4, 4), [("a", "u1")])), "void"),
    "npy of objects": (".npy", lambda: npy(np.full((3, 4, 4), None)), "objects"),
    "npy of one dimension": (".npy", lambda: npy(np.arange(9)), "shape (9,)"),
    "npy without dimensions": (".npy", lambda: npy(np.array(7)), "shape ()"),
    "npy without values": (".npy", lambda: npy(np.zeros((3, 0, 4), np.uint8)), "shape (3, 0, 4)"),
    "npy of four dimensions": (".npy", lambda: npy(np.zeros((2, 3, 4, 4), np.uint8)), "channels, height and width"),
    "npy with NaN": (".npy", lambda: npy(np.where(REAL > 2, np.nan, REAL).astype(np.float32)), "NaN"),
    "npy with infinity": (".npy", lambda: npy(np.where(REAL > 2, np.inf, REAL).astype(np.float32)), "infinite"),
    "TIFF with NaN": (
        ".tif",
        lambda: tiff(np.where(REAL > 2, np.nan, REAL).astype(np.float32), planarconfig="separate"),
        "NaN",
    ),
    "npz": (".npy", lambda: npz(), "known format"),
    "PDF": (".tif", lambda: b"%PDF-1.4\n" + bytes(99), "known format"),
}


def two_images() -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(LAST, photometric="rgb", metadata=None)
        writer.write(LAST[:10], photometric="rgb", metadata=None)
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=PIXELS)
    return file.getvalue()


def check_unfit(name: str, folder: Path) -> None:
    suffix, make, text = UNFIT_FILES[name]
    refused(folder, f"unfit{suffix}", make(), text)


def chunked(kind: bytes, content: bytes) -> bytes:
    """A chunk that is put before a PNG's pixels."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(kind: bytes, content: bytes) -> bytes:
    data = pillow("PNG")
    return data[:33] + chunked(kind, content) + data[33:]


def top_down_bmp() -> bytes:
    header = b"BM" + struct.pack("<IHHI", 54 + 3 * HEIGHT * WIDTH, 0, 0, 54)
    info = struct.pack("<IiiHHIIiiII", 40, WIDTH, -HEIGHT, 1, 24, 0, 0, 0, 0, 0, 0)
    return header + info + LAST[..., ::-1].tobytes()


UNUSUAL_FILES: dict[str, tuple[str, Callable[[], bytes], np.ndarray, dict[str, Any]]] = {
    "interlaced PNG": (".png", lambda: interlaced_png(), PIXELS, {}),
    "uncompressed PNG": (".png", lambda: pillow("PNG", compress_level=0), PIXELS, {}),
    "PNG with a gamma": (".png", lambda: with_chunk(b"gAMA", struct.pack(">I", 45455)), PIXELS, {}),
    "PNG with text": (".png", lambda: with_chunk(b"tEXt", b"Comment\0hello"), PIXELS, {}),
    "PNG with four channels": (
        ".png",
        lambda: pillow("PNG", np.dstack([LAST, LAST[..., 0]])),
        np.concatenate([PIXELS, PIXELS[:1]]),
        {"channels": "a,b,c,d"},
    ),
    "PNG with two channels": (".png", lambda: pillow("PNG", LAST[..., :2], mode=None), PIXELS[:2], {"channels": "a,b"}),
    "grey PNG": (".png", lambda: pillow("PNG", LAST[..., 0]), PIXELS[:1], {"channels": "a"}),
    "grey 16-bit PNG": (".png", lambda: png16(DEEP[:1]), DEEP[:1], {"channels": "a"}),
    "top-down BMP": (".bmp", top_down_bmp, PIXELS, {}),
    "grey TIFF": (".tif", lambda: tiff(LAST[..., 0]), PIXELS[:1], {"channels": "a"}),
    "big-endian TIFF": (".tif", lambda: tiff(DEEP, byteorder=">", planarconfig="separate"), DEEP, {}),
    "big-endian npy": (".npy", lambda: npy(DEEP.astype(">u2")), DEEP, {}),
    "npy in Fortran order": (".npy", lambda: npy(np.asfortranarray(PIXELS)), PIXELS, {}),
    "npy of version 2": (".npy", lambda: npy(PIXELS, (2, 0)), PIXELS, {}),
    "npy of version 3": (".npy", lambda: npy(PIXELS, (3, 0)), PIXELS, {}),
    "npy with channels last": (".npy", lambda: npy(LAST), PIXELS, {}),
    "int64 npy": (".npy", lambda: npy(PIXELS.astype(np.int64)), PIXELS.astype(np.float32), {}),
    "int16 npy below zero": (".npy", lambda: npy(PIXELS.astype(np.int16) - 99), PIXELS.astype(np.float32) - 99, {}),
    "float16 npy": (".npy", lambda: npy(REAL.astype(np.float16)), REAL.astype(np.float16).astype(np.float32), {}),
    "float64 npy that float32 holds": (".npy", lambda: npy(REAL.astype(np.float64)), REAL, {}),
    **{
        f"TIFF, {compression}": (
            ".tif",
            lambda c=compression: tiff(DEEP, compression=c, planarconfig="separate"),
            DEEP,
            {},
        )
        for compression in ("zlib", "lzw", "packbits", "zstd", "lzma")
    },
    "TIFF, deflate with predictor": (
        ".tif",
        lambda: tiff(DEEP, compression="zlib", predictor=2, planarconfig="separate"),
        DEEP,
        {},
    ),
    "TIFF, float with predictor": (
        ".tif",
        lambda: tiff(REAL, compression="zlib", predictor=3, planarconfig="separate"),
        REAL,
        {},
    ),
    "TIFF in strips of one row": (".tif", lambda: tiff(LAST, photometric="rgb", rowsperstrip=1), PIXELS, {}),
    "TIFF in tiles": (".tif", lambda: tiff(DEEP, tile=(16, 16), planarconfig="separate"), DEEP, {}),
    "TIFF of three pages": (".tif", lambda: tiff(PIXELS, metadata={"axes": "CYX"}), PIXELS, {}),
    "ImageJ hyperstack": (".tif", lambda: tiff(DEEP, imagej=True, metadata={"axes": "CYX"}), DEEP, {}),
    "OME-TIFF": (".tif", lambda: tiff(DEEP, ome=True, metadata={"axes": "CYX"}), DEEP, {}),
    "13-channel TIFF": (
        ".tif",
        lambda: tiff(np.tile(DEEP, (5, 1, 1))[:13], planarconfig="separate"),
        np.tile(DEEP, (5, 1, 1))[:13],
        {"channels": ",".join(f"c{i}" for i in range(13))},
    ),
}


def interlaced_png() -> bytes:
    """Adam7, which Pillow reads and does not write."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b""
    for left, top, across, down in passes:
        part = LAST[top::down, left::across]
        rows += b"".join(b"\0" + row.tobytes() for row in part) if part.size else b""
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 1)
    return (
        b"\x89PNG\r\n\x1a\n" + chunked(b"IHDR", header) + chunked(b"IDAT", zlib.compress(rows)) + chunked(b"IEND", b"")
    )


def check_unusual(name: str, folder: Path) -> None:
    suffix, make, pixels, options = UNUSUAL_FILES[name]
    found = read(folder, f"odd{suffix}", make(), **options)
    assert found.dtype == pixels.dtype, found.dtype
    np.testing.assert_array_equal(found, pixels)


def check_orientation(kind: str, orientation: int, folder: Path) -> None:
    """An EXIF or TIFF orientation turns the image upright, as Pillow turns it."""
    exif = Image.Exif()
    exif[274] = orientation
    if kind == "TIFF":
        data = tiff(LAST, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    else:
        data = pillow(
            kind, SMOOTH if kind == "JPEG" else LAST, exif=exif, **({"lossless": True} if kind == "WEBP" else {})
        )
    plain = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    if kind == "TIFF":
        plain = LAST.astype(int)
    upright = {
        1: plain,
        2: plain[:, ::-1],
        3: plain[::-1, ::-1],
        4: plain[::-1],
        5: plain.swapaxes(0, 1),
        6: plain.swapaxes(0, 1)[:, ::-1],
        7: plain.swapaxes(0, 1)[::-1, ::-1],
        8: plain.swapaxes(0, 1)[::-1],
    }[orientation]
    found = read(folder, "turned.tif" if kind == "TIFF" else "turned.png", data)
    np.testing.assert_array_equal(found, np.moveaxis(upright, -1, 0))


@contextmanager
def limit(values: int) -> Iterator[None]:
    """The limit on what an image unfolds to."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(values)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


def check_too_large(kind: str, folder: Path) -> None:
    suffix, data, _ = files()[kind]
    with limit(3 * HEIGHT * WIDTH - 1):
        text = refused(folder, f"large{suffix}", data, "limit")
    assert "damaged" not in text, text
    with limit(3 * HEIGHT * WIDTH):
        read(folder, f"large{suffix}", data)


CONVERTIBLE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "grey PNG": (".png", lambda: pillow("PNG", mode="L")),
    "grey PNG with alpha": (".png", lambda: pillow("PNG", mode="LA")),
    "PNG with alpha": (".png", lambda: pillow("PNG", np.dstack([LAST, LAST[..., 0]]))),
    "palette PNG": (".png", lambda: pillow("PNG", mode="P")),
    "palette PNG with transparency": (".png", lambda: pillow("PNG", mode="P", transparency=3)),
    "black-and-white PNG": (".png", lambda: pillow("PNG", mode="1")),
    "PNG with a transparent colour": (".png", lambda: pillow("PNG", transparency=(1, 2, 3))),
    "CMYK JPEG": (".jpg", lambda: pillow("JPEG", SMOOTH, mode="CMYK")),
    "grey JPEG": (".jpg", lambda: pillow("JPEG", SMOOTH, mode="L")),
    "RGB JPEG": (".jpg", lambda: pillow("JPEG", SMOOTH)),
    "palette BMP": (".bmp", lambda: pillow("BMP", mode="P")),
    "grey BMP": (".bmp", lambda: pillow("BMP", mode="L")),
    "WebP with alpha": (
        ".webp",
        lambda: pillow("WEBP", np.dstack([LAST, np.full_like(LAST[..., 0], 200)]), lossless=True),
    ),
    "palette TIFF": (".tif", lambda: pillow("TIFF", mode="P")),
    "CMYK TIFF": (".tif", lambda: pillow("TIFF", mode="CMYK")),
    "grey TIFF": (".tif", lambda: pillow("TIFF", mode="L")),
    "TIFF with alpha": (".tif", lambda: pillow("TIFF", mode="RGBA")),
    "inverted grey TIFF": (".tif", lambda: tiff(LAST[..., 0], photometric="miniswhite")),
}


def check_converted(name: str, folder: Path) -> None:
    suffix, make = CONVERTIBLE[name]
    data = make()
    found = read(folder, f"any{suffix}", data, convert="rgb")
    with Image.open(io.BytesIO(data)) as image, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(found, np.moveaxis(np.asarray(image.convert("RGB")), -1, 0))


def check_converted_depth(name: str, folder: Path) -> None:
    """16 bits become 8 by scale, 65535 to 255."""
    data, stored, suffix = {
        "16-bit RGB PNG": (png16(DEEP), DEEP, ".png"),
        "16-bit grey PNG": (png16(DEEP[:1]), np.repeat(DEEP[:1], 3, 0), ".png"),
        "16-bit grey TIFF": (tiff(DEEP[0]), np.repeat(DEEP[:1], 3, 0), ".tif"),
        "16-bit RGB TIFF": (tiff(np.moveaxis(DEEP, 0, -1), photometric="rgb"), DEEP, ".tif"),
    }[name]
    found = read(folder, f"deep{suffix}", data, convert="rgb")
    np.testing.assert_array_equal(found, np.rint(stored / 257).astype(np.uint8))


def check_random_bytes(kind: str, seed: int, folder: Path) -> None:
    """Random bytes after the beginning of a file, 40 times."""
    suffix, data, _ = files()[kind]
    random = np.random.default_rng(seed)
    for _ in range(40):
        noise = data[: int(random.integers(0, 60))] + random.bytes(int(random.integers(1, 4000)))
        answer(folder, f"noise{suffix}", noise)


def check_mutated(kind: str, seed: int, folder: Path) -> None:
    """Some bytes of a file set, cut out, doubled or exchanged at random, 60 times."""
    suffix, data, _ = files()[kind]
    random = np.random.default_rng(seed)
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(int(random.integers(1, 6))):
            place = int(random.integers(0, min(len(changed), 400 if random.random() < 0.5 else len(changed))))
            match int(random.integers(0, 4)):
                case 0:
                    changed[place] ^= 1 << int(random.integers(0, 8))
                case 1:
                    changed[place : place + 4] = random.bytes(4)
                case 2:
                    del changed[place : place + int(random.integers(1, 20))]
                case _:
                    changed[place:place] = changed[place : place + int(random.integers(1, 20))]
            changed = changed or bytearray(b"\0")
        answer(folder, f"changed{suffix}", bytes(changed))


def answer(folder: Path, name: str, data: bytes) -> None:
    """A file is read to finite pixels of three channels, or refused by name."""
    with limit(2_000_000):
        found = attempt(folder, name, data)
    if found is None:
        return
    assert found.ndim == 3
    assert len(found) == 3
    assert found.dtype.name in ("uint8", "uint16", "float32")
    assert np.isfinite(found).all()


PARTS = (0.05, 0.3, 0.6, 0.9, 0.999)
OVERWRITTEN = (
    *("empty", "zero bytes", "wrong magic", "text", "web page", "magic alone", "zero bytes after the header"),
    "second half missing, first half twice",
)


def cases() -> list[Case]:
    """All cases; every fault for each format."""
    kinds, first = list(files()), ("PNG", "TIFF", "npy")
    found = [
        Case(DAMAGED, f"{kind} cut at {100 * part:g} %", partial(check_truncated, kind, part), short=kind in first)
        for kind in kinds
        for part in PARTS
    ]
    found += [
        Case(DAMAGED, f"{kind}: {how}", partial(check_overwritten, kind, how), short=kind in first)
        for kind in kinds
        for how in OVERWRITTEN
    ]
    suffixes = (".png", ".jpg", ".tif", ".npy", ".webp", ".bmp")
    found += [
        Case(MISLABELLED, f"{kind} as {suffix}", partial(check_name, kind, suffix), short=kind in first)
        for kind in ("PNG", "JPEG", "BMP", "WebP", "TIFF", "npy")
        for suffix in suffixes
        if suffix != files()[kind][0]
    ]
    found += [Case(UNUSUAL, f"{kind} with bytes after its end", partial(check_trailing, kind)) for kind in kinds]
    found += [
        Case(UNFIT, f"{kind} for {channels}", partial(check_channel_count, kind, channels))
        for kind in ("PNG", "JPEG", "TIFF", "npy")
        for channels in ("a", "a,b", "a,b,c,d")
    ]
    found += [Case(UNFIT, name, partial(check_unfit, name), short=True) for name in UNFIT_FILES]
    found += [Case(UNUSUAL, name, partial(check_unusual, name), short=True) for name in UNUSUAL_FILES]
    found += [
        Case(UNUSUAL, f"{kind}, orientation {number}", partial(check_orientation, kind, number), short=kind == "PNG")
        for kind in ("PNG", "JPEG", "WEBP", "TIFF")
        for number in range(1, 9)
    ]
    found += [Case(TOO_LARGE, kind, partial(check_too_large, kind), short=True) for kind in kinds]
    found += [Case(CONVERTED, name, partial(check_converted, name), short=True) for name in CONVERTIBLE]
    depths = ("16-bit RGB PNG", "16-bit grey PNG", "16-bit grey TIFF", "16-bit RGB TIFF")
    found += [Case(CONVERTED, name, partial(check_converted_depth, name), short=True) for name in depths]
    found += [
        Case(
            FUZZED,
            f"{kind}: {name} {seed}",
            partial(check, kind, seed),
            short=seed == 0 and name == "bytes",
            fuzzed=True,
        )
        for kind in kinds
        for name, check in (("bytes", check_random_bytes), ("changes", check_mutated))
        for seed in range(8)
    ]
    return found
