"""Channels by name.

A ``ChannelSet`` lists the channels of a data set or a model in a fixed order, with the mean, standard deviation, centre
wavelength and kind of each. A *subset* is a tuple of positions in that list, in ascending
order: ``(0, 2)`` of ``R, G, B`` is red and blue, written ``"R,B"``.

Channels of one instrument form a *group*, since instruments fail as a whole: with the groups ``camera`` (R, G, B) and
``lidar`` (height), channel sampling and evaluation use the subsets ``camera+lidar``, ``camera`` and ``lidar``. The name
of a group stands for its channels wherever channels are named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from itertools import combinations
from math import comb, isfinite
from typing import Any, cast

from anychannel.sensors import SENSORS
from anychannel.utils.names import normal, unknown_name

Subset = tuple[int, ...]

Groups = Mapping[str, str | Sequence[str]]
"""Channels by the name of their group: ``{"camera": "R,G,B", "lidar": ["height"]}``."""

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


def parse_groups(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Read ``"camera=R,G,B"`` or ``"camera: R,G,B"``, one group each; ``"none"`` alone means no groups.

    Raises:
        ChannelError: a text has no name or no channels, or a name repeats.
    """
    groups: dict[str, tuple[str, ...]] = {}
    given = list(texts)
    if given == ["none"]:
        return groups
    for text in given:
        name, sign, members = re.match(r"([^=:]*)([=:]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        name = normal(name.strip())
        if not sign or not name or not members.strip():
            raise ChannelError(f"{text.strip()!r} is no group; write its name and its channels, as camera=R,G,B")
        if name in groups:
            raise ChannelError(f"the group {name!r} is given twice; name all of its channels at once")
        groups[name] = parse_names(members)
    return groups


def group_of_each(names: Sequence[str], groups: Groups | Sequence[str | None]) -> tuple[str | None, ...]:
    """The name of each channel's group, or None."""
    if not isinstance(groups, Mapping):
        return tuple(groups) if any(groups) else (None,) * len(names)
    found: dict[str, str | None] = dict.fromkeys(names)
    for group, members in groups.items():
        for name in parse_names(members):
            if name not in found:
                raise ChannelError(f"group {group!r}: {unknown_name('channel', name, names)}")
            if found[name] == normal(group):
                raise ChannelError(f"group {group!r} names the channel {name!r} twice; name it once")
            if found[name] is not None:
                raise ChannelError(
                    f"channel {name!r} is in the groups {found[name]!r} and {group!r}; a channel has one group"
                )
            found[name] = normal(group)
    return tuple(found.values())


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
        groups: channels by the name of their group, ``{"camera": "R,G,B"}``; or the name of each channel's group, or
            None, which is the form in which they are kept. A channel without a group is a unit by itself.

    Raises:
        ChannelError: names repeat or are empty, a statistic has the wrong length or range, or a group's name is that
            of another channel or holds a comma or plus sign.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    correlation: tuple[tuple[float, ...], ...] | None = None
    wavelengths_nm: tuple[float | None, ...] = ()
    kinds: tuple[str | None, ...] = ()
    groups: Groups | Sequence[str | None] = ()
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
            "groups": group_of_each(names, self.groups),
            "_positions": {name: position for position, name in enumerate(names)},
        }
        if self.correlation is not None:
            values["correlation"] = tuple(tuple(float(value) for value in row) for row in self.correlation)
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._check(count)

    def _check(self, count: int) -> None:
        for label in ("mean", "std", "wavelengths_nm", "kinds", "groups"):
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
        for group, members in self._members().items():
            if not (isinstance(group, str) and group.strip() == group and group) or set(",+") & set(group):
                raise ChannelError(f"a group's name is text without commas and plus signs, got {group!r}")
            if group in self._positions and self.names[members[0]] != group:
                raise ChannelError(f"group {group!r} has the name of a channel; give it another")

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

    def _members(self) -> dict[str, Subset]:
        """Positions of each named group's channels, in the order in which the groups first occur."""
        found: dict[str, list[int]] = {}
        for position, group in enumerate(cast("tuple[str | None, ...]", self.groups)):
            if group is not None:
                found.setdefault(group, []).append(position)
        return {group: tuple(members) for group, members in found.items()}

    @property
    def members(self) -> dict[str, tuple[str, ...]]:
        """Names of each group's channels, by the group's name; empty without groups."""
        return {group: tuple(self.names[i] for i in members) for group, members in self._members().items()}

    @property
    def units(self) -> dict[str, Subset]:
        """What can be missing by itself: each group, and each channel without one, with its positions.

        If all channels belong to one group, each channel is a unit.
        """
        groups = cast("tuple[str | None, ...]", self.groups)
        members = self._members()
        if len(set(groups)) < 2:
            return {name: (position,) for name, position in self._positions.items()}
        own = [name if group is None else group for name, group in zip(self.names, groups, strict=True)]
        return {unit: members.get(unit) or (self._positions[unit],) for unit in own}

    @property
    def grouped(self) -> bool:
        """Whether channels come and go in groups: there are groups, and not all channels belong to one."""
        return len(set(self.groups)) > 1

    def group_subsets(self) -> list[Subset]:
        """Subsets of whole units, most units first, then in their order; all subsets if there are no groups.

        Raises:
            ChannelError: there are more than 2^16.
        """
        units = list(self.units.values())
        return [self.join(units[i] for i in chosen) for chosen in ChannelSet(tuple(self.units)).subsets()]

    @staticmethod
    def join(units: Iterable[Subset]) -> Subset:
        """The subset of all channels of some units."""
        return tuple(sorted(position for unit in units for position in unit))

    def split(self, subset: Iterable[int]) -> list[str] | None:
        """Names of the units that a subset consists of; None if it holds only a part of a group."""
        wanted = set(subset)
        inside = {unit: members for unit, members in self.units.items() if wanted.issuperset(members)}
        return list(inside) if len(wanted) == sum(map(len, inside.values())) else None

    def name(self, subset: Iterable[int]) -> str:
        """How a subset is shown: its groups (``"camera+lidar"``) if it consists of whole ones, else its ``key``."""
        chosen = tuple(subset)
        units = self.split(chosen) if self.grouped else None
        return self.key(chosen) if units is None else "+".join(units)

    def expand(self, names: str | Sequence[str]) -> tuple[str, ...]:
        """Put the channels of a group in the place of its name; ``"camera+lidar"`` stands for those of both.

        Raises:
            ChannelError: a name is neither a channel's nor a group's.
        """
        members = self.members
        found: list[str] = []
        for name in parse_names(names):
            parts = [name] if name in self._positions or name in members else name.split("+")
            for part in map(str.strip, parts):
                if part not in self._positions and part not in members:
                    groups = f"; the groups are {', '.join(members)}" if members else ""
                    raise ChannelError(unknown_name("channel", name, self.names) + groups)
                found += members.get(part, (part,))
        return tuple(found)

    def positions(self, names: ChannelSet | str | Sequence[str] | None) -> Subset:
        """Positions of ``names``, of channels or groups, in this set, in the order given (``None``: all channels).

        Raises:
            ChannelError: a name is unknown or repeats, or there is none.
        """
        if names is None:
            return self.full
        wanted = names.names if isinstance(names, ChannelSet) else parse_names(names)
        if not all(name in self._positions for name in wanted):
            wanted = self.expand(wanted)
        repeated = sorted({name for name in wanted if wanted.count(name) > 1})
        if repeated:
            raise ChannelError(f"channel {repeated[0]!r} is given twice in {list(wanted)}; name each channel once")
        return tuple(self._positions[name] for name in wanted)

    def subset(self, names: ChannelSet | str | Sequence[str] | None) -> Subset:
        """Like ``positions``, in ascending order: the form in which stems see a subset."""
        return tuple(sorted(self.positions(names)))

    def choose(self, use: str | Sequence[str] | None, drop: str | Sequence[str] | None) -> Subset:
        """Positions of the channels of ``use``, or of all but those of ``drop``; of all if both are None.

        Raises:
            ChannelError: both are given, a name is unknown or repeats, or no channel is left.
        """
        if use is not None and drop is not None:
            raise ChannelError("use names the channels that the network gets, drop those that it does not; give one")
        if drop is None:
            return self.positions(use)
        dropped = self.positions(drop)
        left = tuple(position for position in self.full if position not in dropped)
        if not left:
            raise ChannelError(f"no channel is left without {', '.join(self.names[i] for i in dropped)}; drop fewer")
        return left

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
            groups=tuple(cast("tuple[str | None, ...]", self.groups)[i] for i in chosen),
        )

    def with_groups(self, groups: Groups) -> ChannelSet:
        """The same channels in these groups; an empty mapping removes all groups."""
        return replace(self, groups=group_of_each(self.names, groups))

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
        """Plain values for JSON; ``from_dict`` reads them back. Groups are left out if there are none."""
        names = [part.name for part in fields(self) if part.init and (part.name != "groups" or any(self.groups))]
        values = {name: getattr(self, name) for name in names}
        lists = {name: None if value is None else list(value) for name, value in values.items()}
        return lists | {"correlation": self.correlation and [list(row) for row in self.correlation]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ChannelSet:
        """Inverse of ``to_dict``; statistics that a file lacks are unknown."""
        lists = {name: tuple(values.get(name) or ()) for name in ("mean", "std", "wavelengths_nm", "kinds", "groups")}
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
        group_of = {name: group for group, members in SENSORS[sensor].groups.items() for name in members}
        groups = tuple(group_of.get(name) for name in found)
        return ChannelSet(found, wavelengths_nm=wavelengths, kinds=kinds, groups=groups)
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
