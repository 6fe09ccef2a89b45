"""Labels as samples carry them, positions or names, and the classes that they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from anychannel.data.listing import choose_classes
from anychannel.data.problems import DataError, ImageError

Label = int | str


@dataclass
class Labels:
    """Which labels there are, and which of them are asked for.

    Args:
        names: of all classes, in the labels' order; None learns them from the samples.
        classes: see ``choose_classes``.

    Raises:
        DataError: classes are chosen, but nothing names them all.
    """

    names: tuple[str, ...] | None = None
    classes: int | Sequence[str] | None = None
    seen: set[Label] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.names is None and self.classes is not None:
            raise DataError("classes chooses among the classes' names, which nothing tells; give class_names")
        if self.names is not None:
            if len(self.names) < 2 or len(set(self.names)) != len(self.names):
                raise DataError(f"class_names needs two or more names, each once, got {', '.join(self.names)}")
            self.numbers = number(self.names, choose_classes(self.names, self.classes))

    def wants(self, label: Label) -> bool:
        """Whether a sample with this label is asked for.

        Raises:
            ImageError: it is none of the classes.
        """
        if self.names is None and isinstance(label, int) and label < 0:
            raise ImageError(f"its label {label} is no class", "correct it; a number counts classes from 0")
        self.seen.add(label)
        if self.names is None:
            return True
        if label not in self.numbers and not self.is_known(label):
            raise ImageError(
                f"its label {label!r} is none of the {len(self.names)} classes ({describe(self.names)})",
                "correct it; a number counts classes from 0",
            )
        return label in self.numbers

    def is_known(self, label: Label) -> bool:
        """Whether a label is a class's name or position."""
        names = self.names or ()
        return 0 <= label < len(names) if isinstance(label, int) else label in names

    def settle(self) -> tuple[tuple[str, ...], Mapping[Label, int]]:
        """The classes asked for, and each label's position among them.

        Raises:
            DataError: the samples' labels are mixed, or fewer than two.
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


def describe(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
