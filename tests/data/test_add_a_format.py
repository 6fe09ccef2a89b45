"""A new image format is one file and one line; docs/add-a-source.md explains this test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anychannel.data import DataError, load_dataset, read_image
from anychannel.data.files.decoded import Decoded, Format, damaged, library_errors, starts_with
from anychannel.data.files.registry import FORMATS

# --- the file -------------------------------------------------------------------------------------------------------


def decode_raw(data: bytes) -> Decoded:
    """Decode a ``.raw`` file: ``RAW!``, then channels, height and width as uint16, then uint16 values."""
    with library_errors(ValueError):
        shape = np.frombuffer(data, "<u2", count=3, offset=4)
        pixels = np.frombuffer(data, "<u2", count=int(shape.prod(dtype=int)), offset=10)
    if len(data) != 10 + pixels.nbytes:
        raise damaged("it is longer than its header says")
    return Decoded(pixels.reshape(shape), axes="CYX", names=("red", "nir"))


RAW = Format(suffixes=(".raw",), recognises=starts_with(b"RAW!"), decode=decode_raw)

# --- the line -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "raw", RAW)


# --------------------------------------------------------------------------------------------------------------------


def write_raw(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"RAW!" + np.array(pixels.shape, "<u2").tobytes() + pixels.astype("<u2").tobytes())
    return path


def test_one_image_of_a_new_format_is_read(tmp_path: Path):
    pixels = np.arange(40, dtype=np.uint16).reshape(2, 4, 5)
    path = write_raw(tmp_path / "image.raw", pixels)
    np.testing.assert_array_equal(read_image(path, channels="red,nir"), pixels)
    assert read_image(path, channels="red,nir", size=3).shape == (2, 3, 3)
    with pytest.raises(DataError, match="channels are in another order: the file says red, nir"):
        read_image(path, channels="nir,red")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"image\.raw: it is truncated or damaged \(buffer is smaller"):
        read_image(path, channels="red,nir")


def test_class_folders_of_a_new_format_are_a_data_set(tmp_path: Path):
    for number in range(30):
        folder = tmp_path / ("forest" if number % 2 else "water")
        write_raw(folder / f"{number}.raw", np.full((2, 4, 5), number))
    data = load_dataset(tmp_path, cache_dir=tmp_path.parent / "cache")
    assert data.channels.names == ("red", "nir")
    assert data.classes == ("forest", "water")
    assert len(data.train) + len(data.val) + len(data.test) == 30
