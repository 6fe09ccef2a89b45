"""Labels as samples carry them, positions or names, and the classes that they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from anychannel.data.errors import DataError, ImageError
from anychannel.data.sources.source import Label


@dataclass
class Labels:
    """Which labels there are, and which of them are asked for.

    ``names`` are those of all classes, in the labels' order; None learns them from the samples. ``classes`` is what was
    asked for, see ``choose_classes``.
    """

    names: tuple[str, ...] | None
    classes: int | Sequence[str] | None
    place: str
    seen: set[Label] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.names is None:
            if self.classes is not None:
                raise DataError("classes chooses among class names, but this data set has none; give class_names")
            return
        if len(self.names) < 2:
            raise DataError(f"{self.place} has {len(self.names)} class; classification needs two or more")
        if len(set(self.names)) != len(self.names):
            raise DataError(f"class_names needs two or more names, each once, got {', '.join(self.names)}")
        self.numbers = number(self.names, choose_classes(self.names, self.classes))

    def wants(self, label: Label) -> bool:
        """Whether a sample with this label is asked for. Raises ImageError if it is none of the classes."""
        if self.names is None and isinstance(label, int) and label < 0:
            raise ImageError(f"its label {label} is no class", "correct it; a number counts classes from 0")
        self.seen.add(label)
        if self.names is None or label in self.numbers:
            return True
        if label in self.names or (isinstance(label, int) and 0 <= label < len(self.names)):
            return False
        few = ", ".join(self.names[:5]) + (", ..." if len(self.names) > 5 else "")
        raise ImageError(
            f"its label {label!r} is none of the {len(self.names)} classes ({few})",
            "correct it; a number counts classes from 0",
        )

    def resolve(self) -> tuple[tuple[str, ...], Mapping[Label, int]]:
        """The classes asked for, and each label's position among them.

        Raises DataError if the samples' labels are mixed, or fewer than two.
        """
        if self.names is not None:
            return choose_classes(self.names, self.classes), self.numbers
        words = sorted(label for label in self.seen if isinstance(label, str))
        numbers = [label for label in self.seen if isinstance(label, int)]
        if words and numbers:
            raise DataError(
                f"some labels are numbers ({min(numbers)}, say), others names ({words[0]!r}); use one kind, or give "
                "class_names"
            )
        names = tuple(words) or tuple(map(str, range(max(numbers, default=-1) + 1)))
        if len(names) < 2:
            raise DataError(f"the samples have {len(names)} class; classification needs two or more")
        return names, number(names, names)


def number(names: Sequence[str], chosen: Sequence[str]) -> dict[Label, int]:
    """Position among the chosen classes by a label, which is a class's position or its name."""
    found: dict[Label, int] = {}
    for place, name in enumerate(names):
        if name in chosen:
            found[place] = found[name] = chosen.index(name)
    return found


def choose_classes(known: Sequence[str], classes: int | Sequence[str] | None) -> tuple[str, ...]:
    """The classes to keep, in the order of their new labels: the first so many, or those named; None keeps all.

    Raises ValueError if the number is out of range, or a name is unknown or repeats.
    """
    if classes is None:
        return tuple(known)
    if isinstance(classes, int):
        if not 2 <= classes <= len(known):
            raise ValueError(
                f"classes={classes} is out of range; the data has {len(known)} classes, take 2 or more of them"
            )
        return tuple(known[:classes])
    chosen = tuple(classes.split(",") if isinstance(classes, str) else classes)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(f"unknown class {unknown[0]!r}; the classes are {', '.join(known)}")
    if len(set(chosen)) != len(chosen) or len(chosen) < 2:
        raise ValueError(f"classes needs two or more names, each once, got {', '.join(chosen)}")
    return chosen
