"""Channels by name.

A ``ChannelSet`` lists the channels of a data set or a model in a fixed order, with the mean, standard deviation, centre
wavelength and kind of each. A *subset* is a tuple of positions in that list, in ascending
order: ``(0, 2)`` of ``R, G, B`` is red and blue, written ``"R,B"``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from itertools import combinations
from math import comb, isfinite
from typing import Any

from anychannel.sensors import SENSORS
from anychannel.utils.names import normal, unknown_name

Subset = tuple[int, ...]

WAVELENGTH_RANGE_NM = (1.0, 1e8)
"""Soft X-rays to 10 cm radar. A Sentinel-2 band in micrometres (0.49) falls outside and is refused."""

AT_WAVELENGTH = re.compile(r"(.*\S)\s*@\s*(\d+(?:\.\d*)?)\s*nm")
"""A name with its centre wavelength: ``B04 @ 665 nm``."""


class ChannelError(ValueError):
    """A channel name, order or statistic that cannot be used; the message names it and the valid ones."""


def parse_names(text: str | Sequence[str]) -> tuple[str, ...]:
    """Split ``"R,G,B"`` into names, or take a sequence of names; spaces around a name are removed.

    Raises:
        ChannelError: a name is empty or not text.
    """
    parts = text.split(",") if isinstance(text, str) else text
    names = tuple(normal(part.strip()) if isinstance(part, str) else part for part in parts)
    foreign = [name for name in names if not isinstance(name, str)]
    if foreign:
        raise ChannelError(f"channels are given by name, not as {foreign[0]!r} ({type(foreign[0]).__name__})")
    if not names or any(not name for name in names):
        raise ChannelError(f"channel names must be non-empty and separated by commas, got {text!r}")
    return names


def as_wavelength(value: Any) -> float | None:
    """A wavelength in nanometres as a float; None stays None.

    Raises:
        ChannelError: it is no number.
    """
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise ChannelError(f"a wavelength is a number of nanometres, or None, got {value!r}") from None


@dataclass(frozen=True)
class ChannelSet:
    """Named channels in a fixed order, with their statistics.

    Args:
        names: one name a channel; unique, without commas.
        mean: per-channel mean over the training pixels, in the images' own units (0-255 for 8-bit files).
        std: per-channel standard deviation in the same units; positive.
        correlation: (C, C) correlation matrix of the channels over the training pixels, or None.
        wavelengths_nm: centre wavelength of each channel in nanometres, or None.
        kinds: what each channel images, in free text ("near infrared", "Hoechst 33342: nucleus"), or None.

    Raises:
        ChannelError: names repeat or are empty, or a statistic has the wrong length or range.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    correlation: tuple[tuple[float, ...], ...] | None = None
    wavelengths_nm: tuple[float | None, ...] = ()
    kinds: tuple[str | None, ...] = ()
    _positions: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = parse_names(self.names)
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ChannelError(f"channel names must be unique, but {', '.join(repeated)} repeats in {list(names)}")
        bad = [name for name in names if "," in name]
        if bad:
            raise ChannelError(f"a channel name may not contain a comma, got {bad[0]!r}")
        count = len(names)
        values: dict[str, Any] = {
            "names": names,
            "mean": tuple(float(value) for value in self.mean) or (0.0,) * count,
            "std": tuple(float(value) for value in self.std) or (1.0,) * count,
            "wavelengths_nm": tuple(map(as_wavelength, self.wavelengths_nm)) or (None,) * count,
            "kinds": tuple(self.kinds) or (None,) * count,
            "_positions": {name: position for position, name in enumerate(names)},
        }
        if self.correlation is not None:
            values["correlation"] = tuple(tuple(float(value) for value in row) for row in self.correlation)
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._check(count)

    def _check(self, count: int) -> None:
        for label in ("mean", "std", "wavelengths_nm", "kinds"):
            length = len(getattr(self, label))
            if length != count:
                raise ChannelError(f"{label} needs one value for each of the {count} channels, got {length}")
        for label in ("mean", "std"):
            for name, value in zip(self.names, getattr(self, label), strict=True):
                if not isfinite(value) or (label == "std" and value <= 0):
                    raise ChannelError(
                        f"{label} of channel {name!r} must be finite{' and positive' * (label == 'std')}, got {value}"
                    )
        if self.correlation is not None:
            shape = {len(row) for row in self.correlation} | {len(self.correlation)}
            if shape != {count}:
                raise ChannelError(f"correlation must be {count} x {count} for {count} channels")
            for name, row in zip(self.names, self.correlation, strict=True):
                for other, value in zip(self.names, row, strict=True):
                    if not -1.001 <= value <= 1.001:  # not so for NaN either; measured ones may round above 1
                        raise ChannelError(f"correlation of {name!r} and {other!r} must be in [-1, 1], got {value}")
        low, high = WAVELENGTH_RANGE_NM
        for name, wavelength in zip(self.names, self.wavelengths_nm, strict=True):
            if wavelength is not None and not low <= wavelength <= high:
                raise ChannelError(
                    f"wavelength of channel {name!r} is {wavelength} nm, outside {low:g}-{high:g} nm; "
                    "give nanometres (0.49 micrometres is 490 nm)"
                )
        for name, kind in zip(self.names, self.kinds, strict=True):
            if kind is not None and not (isinstance(kind, str) and kind.strip()):
                raise ChannelError(f"kind of channel {name!r} must be text or None, got {kind!r}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def measured(self) -> bool:
        """Whether statistics were given: a mean that is not 0 or a standard deviation that is not 1."""
        return any(self.mean) or any(value != 1 for value in self.std)

    @property
    def full(self) -> Subset:
        """The subset that holds every channel."""
        return tuple(range(len(self.names)))

    def positions(self, names: ChannelSet | str | Sequence[str] | None) -> Subset:
        """Positions of ``names`` in this set, in the order given (``None`` means all channels).

        Raises:
            ChannelError: a name is unknown or repeats, or there is none.
        """
        if names is None:
            return self.full
        wanted = names.names if isinstance(names, ChannelSet) else parse_names(names)
        for name in wanted:
            if name not in self._positions:
                raise ChannelError(unknown_name("channel", name, self.names))
        repeated = sorted({name for name in wanted if wanted.count(name) > 1})
        if repeated:
            raise ChannelError(f"channel {repeated[0]!r} is given twice in {list(wanted)}; name each channel once")
        return tuple(self._positions[name] for name in wanted)

    def subset(self, names: ChannelSet | str | Sequence[str] | None) -> Subset:
        """Like ``positions``, in ascending order: the form in which stems see a subset."""
        return tuple(sorted(self.positions(names)))

    def key(self, subset: Iterable[int]) -> str:
        """Names of a subset joined by commas, in this set's order: ``(0, 2)`` -> ``"R,B"``."""
        return ",".join(self.names[position] for position in sorted(subset))

    def count_subsets(self) -> int:
        """How many non-empty subsets there are: 2^C - 1."""
        return int(2 ** len(self) - 1)

    def subsets(self, sizes: Iterable[int] | None = None) -> list[Subset]:
        """Non-empty subsets, largest first, then in the channels' order: RGB, RG, RB, GB, R, G, B.

        Raises:
            ChannelError: there are more than 2^16; sample subsets by size instead.
        """
        wanted = sorted(set(sizes) if sizes is not None else set(range(1, len(self) + 1)), reverse=True)
        total = sum(comb(len(self), size) for size in wanted)
        if total > 2**16:
            raise ChannelError(f"{len(self)} channels have {total} such subsets, too many to list; sample them by size")
        return [subset for size in wanted for subset in combinations(self.full, size)]

    def select(self, names: str | Sequence[str]) -> ChannelSet:
        """A set of just these channels, in the order given, with their statistics."""
        chosen = self.positions(names)
        correlation = self.correlation
        return ChannelSet(
            names=tuple(self.names[i] for i in chosen),
            mean=tuple(self.mean[i] for i in chosen),
            std=tuple(self.std[i] for i in chosen),
            correlation=None
            if correlation is None
            else tuple(tuple(correlation[i][j] for j in chosen) for i in chosen),
            wavelengths_nm=tuple(self.wavelengths_nm[i] for i in chosen),
            kinds=tuple(self.kinds[i] for i in chosen),
        )

    def with_statistics(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        correlation: Sequence[Sequence[float]] | None = None,
    ) -> ChannelSet:
        """The same channels with measured statistics."""
        rows = None if correlation is None else tuple(tuple(row) for row in correlation)
        return replace(self, mean=tuple(mean), std=tuple(std), correlation=rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` reads them back."""
        values = {part.name: getattr(self, part.name) for part in fields(self) if part.init}
        lists = {name: None if value is None else list(value) for name, value in values.items()}
        return lists | {"correlation": self.correlation and [list(row) for row in self.correlation]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ChannelSet:
        """Inverse of ``to_dict``; statistics that a file lacks are unknown."""
        lists = {name: tuple(values.get(name) or ()) for name in ("mean", "std", "wavelengths_nm", "kinds")}
        return cls(tuple(values["names"]), correlation=values.get("correlation"), **lists)


def as_channel_set(channels: ChannelSet | str | Sequence[str]) -> ChannelSet:
    """Make a ``ChannelSet`` of names, or of a sensor.

    Args:
        channels: a ``ChannelSet``; names, as ``"R,G,B"`` or a sequence, each with its centre wavelength if you like
            (``"B04 @ 665 nm"``); a sensor's name (``"sentinel2"``); or some channels of a sensor, in the order named
            (``"sentinel2:B04,B03,B02"``).

    Raises:
        ChannelError: a name cannot be used, is none of the sensor's, is nearly a sensor's name, or has an ``@`` without
            a wavelength in nanometres.
    """
    if isinstance(channels, ChannelSet):
        return channels
    names = parse_names(channels)
    sensor, colon, first = names[0].partition(":")
    if sensor in SENSORS and (colon or len(names) == 1):
        try:
            bands = SENSORS[sensor].select((first.strip(), *names[1:]) if colon else ())
        except ValueError as error:
            raise ChannelError(str(error)) from None
        found, wavelengths, kinds = zip(*bands, strict=True)
        return ChannelSet(found, wavelengths_nm=wavelengths, kinds=kinds)
    near = get_close_matches(sensor.lower(), SENSORS, n=1, cutoff=0.75) if len(names) == 1 or colon else []
    if near:
        raise ChannelError(
            f"{sensor!r} is not quite the sensor {near[0]!r} (the sensors are {', '.join(SENSORS)}); correct it, or, "
            f"if it is a channel's own name, give ChannelSet(({names[0]!r},))"
        )
    located = [AT_WAVELENGTH.fullmatch(name) for name in names]
    for name, match in zip(names, located, strict=True):
        if match is None and "@" in name:
            raise ChannelError(
                f"{name!r} has no wavelength in nanometres; write it as 'B04 @ 665 nm', or, if it is a "
                f"channel's own name, give ChannelSet(({name!r},))"
            )
    return ChannelSet(
        tuple(name if match is None else match[1] for name, match in zip(names, located, strict=True)),
        wavelengths_nm=tuple(None if match is None else float(match[2]) for match in located),
    )
