"""All sources of data, in one table. A new source is one file and one line here: see ``docs/add-a-source.md``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any, cast

from anychannel.data.errors import DataError
from anychannel.data.sources.bands import open_bands
from anychannel.data.sources.folders import (
    describe_content,
    has_folders,
    has_lists,
    has_table,
    open_folders,
    open_lists,
    open_table,
)
from anychannel.data.sources.huggingface import make_absolute as absolute_table
from anychannel.data.sources.huggingface import open_huggingface
from anychannel.data.sources.resplit import list_folds, read_column, resplit
from anychannel.data.sources.source import SPLITS, Listing, Request, Source
from anychannel.data.sources.tar_shards import make_absolute as absolute_shards
from anychannel.data.sources.tar_shards import open_tar_shards
from anychannel.utils.options import coerce_options


@dataclass(frozen=True)
class Kind:
    """A kind of source.

    ``open`` takes what follows the colon, a ``Request``, and options by keyword, and returns the source. Of a form of
    folder it takes the folder; there ``looks_like`` says whether a folder has this form, and ``looks_for`` what the
    form consists of, for messages. An ``embedded`` source makes its images itself, so that its name alone is enough and
    no settings about files apply. ``make_absolute`` turns what follows the colon into what means the same from another
    folder.
    """

    open: Callable[..., Source]
    looks_like: Callable[[Path, Request], bool] | None = None
    looks_for: str = ""
    embedded: bool = False
    make_absolute: Callable[[str], str] = str

    @property
    def options(self) -> list[str]:
        """Names of the options that it takes."""
        return [name for name, given in signature(self.open).parameters.items() if given.kind is given.KEYWORD_ONLY]


SOURCES: dict[str, Kind] = {
    "lists": Kind(open_lists, has_lists, "list files train.txt, val.txt and test.txt with 'path label' on each line"),
    "folders": Kind(open_folders, has_folders, "class folders with images, directly or inside train/, val/ and test/"),
    "table": Kind(open_table, has_table, "a CSV file with the columns file and label beside the images"),
    "hf": Kind(open_huggingface, make_absolute=absolute_table),
    "wds": Kind(open_tar_shards, make_absolute=absolute_shards),
    "bands": Kind(open_bands, embedded=True),
}


def list_datasets() -> list[str]:
    """Names that ``load_dataset`` takes beside paths of folders; ``bands:8`` has 8 bands."""
    return [name for name, kind in SOURCES.items() if kind.embedded]


def split_address(source: str | Path) -> tuple[str, str | None]:
    """Name in ``SOURCES`` and what follows the colon: ``"bands:8"`` -> ``("bands", "8")``; ``("", None)`` if none."""
    if not isinstance(source, str):
        return "", None
    name, colon, argument = source.partition(":")
    kind = SOURCES.get(name)
    if kind is None or kind.looks_like is not None or not (colon or kind.embedded):
        return "", None
    return name, argument if colon else None


def find_form(root: Path, form: str | None, request: Request) -> str:
    """The name in ``SOURCES`` of a folder's form: ``form``, or the one that the folder looks like.

    Raises DataError if the folder looks like no form or like two, and ValueError if ``form`` is unknown.
    """
    forms = {name: kind for name, kind in SOURCES.items() if kind.looks_like is not None}
    if form is not None:
        if form not in forms:
            raise ValueError(f"unknown form {form!r} of data folder; the forms are {', '.join(forms)}")
        return form
    found = [name for name, kind in forms.items() if kind.looks_like is not None and kind.looks_like(root, request)]
    if len(found) > 1:
        what = " and ".join(forms[name].looks_for for name in found)
        raise DataError(f"{root} is ambiguous: it has {what}; give {' or '.join(f'form={name!r}' for name in found)}")
    if not found:
        raise DataError(f"{root} holds no data set; looked for {describe_forms()}{describe_content(root)}")
    return found[0]


def find_folder(source: str | Path) -> Path:
    """The folder that is meant, resolved. Raises DataError if there is none; it lists the embedded data sets."""
    root = Path(source).expanduser()
    if root.is_dir():
        return root.resolve()
    if root.exists():
        raise DataError(f"{root} is a file; give the folder that holds the images")
    near = get_close_matches(str(source), list_datasets(), n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise DataError(
        f"{str(source)!r} is neither a folder nor an embedded data set{hint}; the embedded ones are "
        f"{', '.join(list_datasets())}, and a folder holds {describe_forms()}"
    )


def describe_forms() -> str:
    """What a data folder may look like."""
    return ", or ".join(kind.looks_for for kind in SOURCES.values() if kind.looks_for)


def open_source(source: str | Path, request: Request, *, form: str | None = None, **options: Any) -> Source:
    """Find out which source is meant, and list its samples.

    Raises DataError if there is none or its files cannot be listed, TypeError if the source has no such option, and
    ValueError if an option is of another type or out of range.
    """
    name, argument = split_address(source)
    if not name:
        root = find_folder(source)
        name, argument = find_form(root, form, request), str(root)
    kind = SOURCES[name]
    for option in options:
        if option not in kind.options:
            having = [(other, found) for other, found in SOURCES.items() if option in found.options]
            others = dict.fromkeys(f"{other}:..." if found.looks_like is None else "folders" for other, found in having)
            known = f"its options are {', '.join(kind.options)}" if kind.options else "it has none"
            only = f"; {option} is an option of {' and '.join(others)}" if others else ""
            raise TypeError(f"unknown option {option!r} of {name}:...; {known}{only}")
    if request.splits_anew and kind.looks_like is None:
        raise ValueError(f"split_by and fold_by apply to folders of images, and not to {source!r}; leave them out")
    found = kind.open(argument, request, **coerce_options(kind.open, options))
    if not request.splits_anew:
        return found
    with found.problems.first(found.place):
        splits, how = resplit(Path(str(argument)), cast("Listing", found.splits), request)
    return replace(found, splits=splits, how=how)


def find_folds(source: str | Path, request: Request, options: Mapping[str, Any]) -> list[str]:
    """The values of the column ``request.fold_by`` for the images of a folder, in their order.

    ``options`` may hold the form and the source's options; others are not used. Raises as ``open_source``.
    """
    name, _ = split_address(source)
    if name:
        raise ValueError(f"fold_by applies to folders of images, and not to {source!r}; leave it out")
    root = find_folder(source)
    kind = SOURCES[find_form(root, options.get("form"), request)]
    known = {option: value for option, value in options.items() if option in kind.options}
    found = kind.open(str(root), request, **coerce_options(kind.open, known))
    samples = [sample for split in SPLITS for sample in cast("Listing", found.splits)[split]]
    return list_folds(read_column(root, str(request.fold_by), samples))
