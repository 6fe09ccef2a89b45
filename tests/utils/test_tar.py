"""Archives are read as ``tarfile`` reads them, within a limit."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib

import pytest

from anychannel.utils.tar import read_tar

LONG = "folder/" * 30 + "name.txt"
FILES = {"a.txt": b"a" * 700, "b.txt": b"", LONG: b"long", "ü.txt": b"c" * 512}
PACK = {"plain": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def archive(form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1.5
            tar.addfile(entry, io.BytesIO(content))
            for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
                entry = tarfile.TarInfo("not a file")
                entry.type, entry.linkname = kind, "/etc/passwd" * 12
                tar.addfile(entry)
    return buffer.getvalue()


def allow(size: int) -> None:
    """No limit."""


@pytest.mark.parametrize("pack", PACK)
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_come_out_as_they_went_in_and_links_stay_out(form: int, pack: str):
    assert dict(read_tar(io.BytesIO(PACK[pack](archive(form))), allow)) == FILES


@pytest.mark.parametrize("pack", ["gz", "bz2", "xz"])
def test_a_flipped_bit_in_a_compressed_archive_is_found(pack: str):
    packed = bytearray(PACK[pack](archive(tarfile.GNU_FORMAT)))
    for place in range(20, len(packed), 37):
        flipped = bytearray(packed)
        flipped[place] ^= 4
        try:
            found = dict(read_tar(io.BytesIO(flipped), allow))
        except (tarfile.TarError, EOFError, OSError, ValueError, lzma.LZMAError, zlib.error):
            continue
        assert found == FILES


@pytest.mark.parametrize("pack", PACK)
def test_an_archive_that_is_cut_is_refused(pack: str):
    packed = PACK[pack](archive(tarfile.GNU_FORMAT))
    with pytest.raises((tarfile.TarError, EOFError), match=r"ended before|unexpected end|truncated"):
        list(read_tar(io.BytesIO(packed[: len(packed) // 3]), allow))


def test_sizes_are_checked_before_anything_is_read():
    asked: list[int] = []

    def check(size: int) -> None:
        asked.append(size)
        if size > 1000:
            raise ValueError("too large")

    entry = tarfile.TarInfo("a.txt")
    entry.size = 10**12
    with pytest.raises(ValueError, match="too large"):
        list(read_tar(io.BytesIO(entry.tobuf()), check))
    assert asked == [10**12]
