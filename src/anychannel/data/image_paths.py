"""The image files that a person names: files, folders, patterns, lists of paths, standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

from anychannel.data.content import BandFiles, is_folder_image
from anychannel.data.errors import DataError, Problems
from anychannel.data.files.registry import image_suffixes
from anychannel.data.sources.band_files import BandPattern, Scenes, files_of
from anychannel.data.sources.folders import apply_table, list_images, read_names
from anychannel.data.sources.source import Sample
from anychannel.utils.folders import find_file
from anychannel.utils.names import normal

LISTS = (".txt", ".lst", ".list")
"""Endings of the names of text files that hold one path a line."""
STANDARD_INPUT = "-"


class ImagePath(NamedTuple):
    """An image file, and the names of its channels in their order if its folder tells them.

    If its bands lie in ``files`` of their own, the path is the scene's, and ``channels`` names those that count.
    """

    path: str
    channels: tuple[str, ...] | None = None
    files: BandFiles | None = None


def find_images(named: str | Path | Sequence[str | Path], bands: str | None = None) -> list[ImagePath]:
    """List the image files that paths name, in the order of the paths and of the names in each folder.

    A path is a file; a folder, of which all images at any depth are taken; a pattern with ``*``, ``?``, ``[...]`` or
    ``**``; a text file (``LISTS``) with one path a line, relative to its folder or else to the current one; or ``-``,
    which reads such lines from standard input. A folder may name its images' channels, in ``channels.txt`` and
    ``channels.csv`` (see ``anychannel.data.sources.folders``). Paths that do not exist are kept, so that whoever reads
    them can say so.

    With ``bands``, a pattern of files with one band each (see ``anychannel.data.sources.band_files``), folders hold
    scenes, and other paths name scenes or their files. A file that the pattern does not fit is an image by itself.

    Raises:
        FileNotFoundError: no path exists.
        DataError: a folder or list holds no image, no file fits a pattern, or a line of ``channels.csv`` is wrong.
        ValueError: ``bands`` is no pattern.
    """
    paths = [named] if isinstance(named, str | Path) else named
    finder = Finder(None if bands is None else BandPattern.parse(bands))
    found = [image for path in paths for image in finder.expand(str(path))]
    if not found:
        raise DataError("no image file is named; give files, folders, patterns, a list of paths, or '-'")
    if not any(image.files or os.path.lexists(find_file(Path(image.path))) for image in found):
        if has_magic(found[0].path):
            raise DataError(f"no file fits the pattern {found[0].path}")
        raise FileNotFoundError(2, os.strerror(2), found[0].path)
    scenes = {image.path: image for image in found if image.files is not None}  # of which several files may be named
    return [image for image in found if image.files is None or scenes.pop(image.path, None) is not None]


def choose_bands(given: str | None, usual: str | None) -> str | None:
    """The pattern of files with one band each: the one given, else the usual one. ``"none"`` stands for no pattern."""
    return usual if given is None else None if given == "none" else given


@dataclass
class Finder:
    """Finds the images that paths name. ``known`` holds the scenes and their files of folders that were looked into."""

    pattern: BandPattern | None = None
    known: dict[Path, tuple[Scenes, dict[str, ImagePath]]] = field(default_factory=dict)

    def expand(self, path: str) -> Iterator[ImagePath]:
        """The images that one path names."""
        place = find_file(Path(path)) if path else Path(path)
        if path == STANDARD_INPUT:
            yield from self.read_list(sys.stdin.buffer.read(), "standard input", Path())
        elif place.is_dir() and not is_folder_image(place):
            yield from self.images_in(place)
        elif place.is_file() and place.suffix.lower() in LISTS:
            yield from self.read_list(place.read_bytes(), str(place), place.parent)
        elif not place.exists() and has_magic(path) and (matches := glob(os.path.expanduser(path), recursive=True)):
            for match in sorted(matches):
                if not has_magic(match) or os.path.exists(match):
                    yield from self.expand(match)
        else:
            yield self.find_scene(place) or ImagePath(str(place))

    def images_in(self, folder: Path) -> list[ImagePath]:
        """All images at any depth of a folder, without hidden files and what desktops leave behind."""
        if self.pattern is not None:
            scenes, found = self.scenes_in(folder)
            if not found:  # the folder itself may be one of the pattern's
                whole = folder.absolute()
                beside = self.scenes_in(whole.parent)[1] if whole.parent != whole else {}
                found = {key: one for key, one in beside.items() if lies_in(one, whole)}
            if not found:
                self.pattern.refuse_empty(folder, Scenes(unmatched=scenes.unmatched))
            return list(found.values())
        files = list_images(folder, [])
        if not files:
            raise DataError(f"{folder} holds no image file ({', '.join(image_suffixes())})")
        problems = Problems()
        usual = read_names(folder / "channels.txt")
        samples = [Sample(file.relative_to(folder).as_posix(), 0, file) for file in files]
        listed = apply_table(folder, {"": samples}, problems)[""]
        problems.raise_if_any(folder)
        return [ImagePath(str(sample.image), sample.channels or usual) for sample in listed]

    def scenes_in(self, folder: Path) -> tuple[Scenes, dict[str, ImagePath]]:
        """The scenes of a folder at any depth, by their names."""
        assert self.pattern is not None
        if folder not in self.known:
            problems = Problems()
            files = list_images(folder, [])
            scenes = self.pattern.gather(folder, files, problems)
            samples = [Sample(key, 0, BandFiles(scene.files)) for key, scene in scenes.found.items()]
            listed = apply_table(folder, {"": samples}, problems)[""]
            problems.raise_if_any(folder)
            images = {
                sample.path: ImagePath(str(folder / sample.path), sample.channels, BandFiles(files_of(sample)))
                for sample in listed
            }
            self.known[folder] = scenes, images
        return self.known[folder]

    def find_scene(self, path: Path) -> ImagePath | None:
        """The scene of this name, or of which this is a file; None if there is none."""
        if self.pattern is None:
            return None
        depth = self.pattern.depth_of(path) if path.exists() else 1
        if depth is None:
            return None
        path = path if len(path.parents) >= depth else path.absolute()
        folder = path.parents[depth - 1]
        if not folder.is_dir():
            return None
        scenes, images = self.scenes_in(folder)
        inside = normal(path.relative_to(folder).as_posix())
        return images.get(scenes.keys.get(inside, inside))

    def read_list(self, content: bytes, name: str, folder: Path) -> Iterator[ImagePath]:
        """The images of a list with one path a line, or with zero bytes between paths, as ``find -print0`` does."""
        text = os.fsdecode(content.removeprefix(b"\xef\xbb\xbf"))
        lines = text.split("\0") if "\0" in text else [line.strip() for line in text.splitlines()]
        paths = [line for line in lines if line]
        if not paths:
            raise DataError(f"{name} names no image file; write one path a line")
        for path in paths:
            inside = find_file(folder / path)
            here = inside.exists() or self.find_scene(inside) or not find_file(Path(path)).exists()
            yield from self.expand(str(inside if here else path))


def lies_in(image: ImagePath, folder: Path) -> bool:
    """Whether all files of a scene lie in a folder."""
    return image.files is not None and all(file.is_relative_to(folder) for file in image.files.files.values())
