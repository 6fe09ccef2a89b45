"""Where data comes from: the forms of folder that can be read, and the embedded data sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from anychannel.data import bands, folders, list_files
from anychannel.data.bands import Bands
from anychannel.data.listing import Listing
from anychannel.data.problems import DataError, Problems


class Read(Protocol):
    """Lists what is in a folder; what is wrong with single files goes to ``problems``."""

    def __call__(self, root: Path, problems: Problems, *, seed: int = 0) -> Listing:
        """See ``list_files.read`` and ``folders.read``."""
        ...


@dataclass(frozen=True)
class FolderForm:
    """A way to lay out a data set in a folder.

    Args:
        looks_for: what the form consists of, for messages.
        looks_like: whether a folder seems to have this form.
        read: lists its images.
    """

    looks_for: str
    looks_like: Callable[[Path], bool]
    read: Read


FOLDER_FORMS: dict[str, FolderForm] = {
    "lists": FolderForm(list_files.LOOKS_FOR, list_files.looks_like, list_files.read),
    "folders": FolderForm(folders.LOOKS_FOR, folders.looks_like, folders.read),
}

EMBEDDED: dict[str, Callable[..., Bands]] = {
    "bands": bands.make_bands,
}


def list_datasets() -> list[str]:
    """Names that ``load_dataset`` takes beside paths of folders; ``bands:8`` has 8 bands."""
    return list(EMBEDDED)


def split_name(source: str) -> tuple[str, str | None] | None:
    """Name and argument of an embedded data set (``"bands:8"`` -> ``("bands", "8")``), None where it is not one."""
    name, colon, argument = source.partition(":")
    return (name, argument if colon else None) if name in EMBEDDED else None


def find_folder(source: str | Path) -> Path:
    """The folder that is meant, resolved.

    Raises:
        DataError: there is no such folder; it lists the embedded data sets.
    """
    root = Path(source).expanduser()
    if root.is_dir():
        return root.resolve()
    if root.exists():
        raise DataError(f"{root} is a file; give the folder that holds the images")
    near = get_close_matches(str(source), EMBEDDED, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise DataError(
        f"{str(source)!r} is neither a folder nor an embedded data set{hint}; the embedded ones are "
        f"{', '.join(EMBEDDED)}, and a folder holds {describe_forms()}"
    )


def describe_forms() -> str:
    """What a data folder may look like."""
    return ", or ".join(form.looks_for for form in FOLDER_FORMS.values())


def find_form(root: Path, form: str | None) -> FolderForm:
    """Which form a folder has.

    Args:
        root: an existing folder.
        form: a name in ``FOLDER_FORMS``; None takes the one that the folder looks like.

    Raises:
        DataError: the folder looks like no form or like two; it says what was looked for.
        ValueError: ``form`` is unknown.
    """
    if form is not None:
        if form not in FOLDER_FORMS:
            raise ValueError(f"unknown form {form!r} of data folder; the forms are {', '.join(FOLDER_FORMS)}")
        return FOLDER_FORMS[form]
    if list_files.looks_like(root):
        if folders.has_splits(root):
            raise DataError(
                f"{root} is ambiguous: it has list files, and class folders in train/, val/ or test/; "
                "give form='lists' or form='folders'"
            )
        return FOLDER_FORMS["lists"]
    if folders.looks_like(root):
        return FOLDER_FORMS["folders"]
    raise DataError(f"{root} holds no data set; looked for {describe_forms()}{folders.describe_content(root)}")
