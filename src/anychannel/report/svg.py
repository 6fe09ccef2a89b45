"""Chart primitives: SVG text from numbers. Colours are the theme's variables, text is escaped, sizes are in pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

FONT = "font-family=\"Inter,-apple-system,'Segoe UI',Roboto,'Helvetica Neue','Liberation Sans',Arial,sans-serif\""

HALO = ' paint-order="stroke" stroke="var(--surface)" stroke-width="3" stroke-linejoin="round"'
"""Attributes that keep a label legible over lines."""


@dataclass(frozen=True)
class Scale:
    """Maps values ``low`` to ``high`` onto pixels ``start`` to ``end``, by their logarithm if ``log``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Pixel of a value."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        place = math.log10(value) if self.log else value
        share = (place - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 2)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, about ``count`` of them, in steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from ``low`` to ``high``; only powers where that would be many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    inside = [value for value in fine if low <= value * 1.000001 and value <= high * 1.000001]
    if len(inside) <= 7:
        return inside
    return [value for value in inside if math.isclose(math.log10(value), round(math.log10(value)), abs_tol=1e-9)]


def short(value: float) -> str:
    """A tick's label without needless digits."""
    return f"{value:.6g}"


def text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    size: float = 12,
    colour: str = "muted",
    weight: int = 400,
    extra: str = "",
) -> str:
    """A line of text; ``y`` is its baseline."""
    heavy = f' font-weight="{weight}"' if weight != 400 else ""
    place = f' text-anchor="{anchor}"' if anchor != "start" else ""
    style = f'font-size="{size:g}" fill="var(--{colour})"{place}{heavy}{extra}'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str = "grid", width: float = 1, extra: str = "") -> str:
    """A straight line."""
    style = f'stroke="var(--{colour})" stroke-width="{width:g}"{extra}'
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" {style}/>'


def circle(x: float, y: float, radius: float, fill: str, stroke: str = "surface", width: float = 1.5) -> str:
    """A dot with a rim."""
    return (
        f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="var(--{fill})" stroke="var(--{stroke})" '
        f'stroke-width="{width:g}"/>'
    )


def path(places: Sequence[tuple[float, float]], colour: str, width: float = 2, extra: str = "") -> str:
    """A line through points."""
    steps = "L".join(f"{x:g} {y:g}" for x, y in places)
    return (
        f'<path d="M{steps}" fill="none" stroke="var(--{colour})" stroke-width="{width:g}" '
        f'stroke-linejoin="round" stroke-linecap="round"{extra}/>'
    )


def drawing(width: float, height: float, parts: Sequence[str], *, title: str, description: str, key: str) -> str:
    """An SVG element with a title and a description for those who cannot see it; ``key`` makes its ids unique."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-labelledby="{key}-t {key}-d" {FONT}>'
        f'<title id="{key}-t">{escape(title)}</title><desc id="{key}-d">{escape(description)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def y_axis(
    scale: Scale,
    values: Sequence[float],
    left: float,
    right: float,
    label: Callable[[float], str] = short,
    size: float = 12,
) -> list[str]:
    """Gridlines from ``left`` to ``right`` with labels left of them."""
    parts = []
    for value in values:
        parts.append(line(left, scale(value), right, scale(value)))
        parts.append(text(left - 8, scale(value) + size * 0.35, label(value), anchor="end", size=size))
    return parts


def x_axis(
    scale: Scale,
    values: Sequence[float],
    top: float,
    bottom: float,
    label: Callable[[float], str] = short,
    size: float = 12,
    grid: bool = False,
) -> list[str]:
    """Labels below ``bottom``, with gridlines up to ``top`` if wanted, else short ticks."""
    parts = []
    for value in values:
        parts.append(
            line(
                scale(value),
                top if grid else bottom,
                scale(value),
                bottom + (0 if grid else 4),
                "grid" if grid else "rule",
            )
        )
        parts.append(text(scale(value), bottom + size + 6, label(value), anchor="middle", size=size))
    return parts


def text_width(words: str, size: float = 12) -> float:
    """A cautious guess of a text's width."""
    return 0.58 * size * len(words)


def clipped(words: str, most: int) -> str:
    """``words`` cut to ``most`` characters, the cut shown by an ellipsis."""
    return words if len(words) <= most else words[: most - 1].rstrip() + "…"


def place_labels(
    points: Sequence[tuple[float, float]],
    words: Sequence[str],
    box: tuple[float, float, float, float],
    size: float = 12,
) -> list[tuple[float, float, str]]:
    """Where to write each point's label so that labels and points stay clear of each other, best place first.

    Args:
        points: (x, y) pixels.
        words: labels.
        box: left, top, right, bottom within which labels must stay.
        size: font size.

    Returns:
        For each point x, baseline y and text anchor.
    """
    left, top, right, bottom = box
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    placed: list[tuple[float, float, str]] = [(0.0, 0.0, "start")] * len(points)
    for index in sorted(range(len(points)), key=lambda position: points[position][1]):
        x, y = points[index]
        width = text_width(words[index], size)
        best: tuple[float, tuple[float, float, str], tuple[float, float, float, float]] | None = None
        for rank, lift in enumerate((0.0, -0.9, 0.9, -1.8, 1.8, -2.7, 2.7, -3.6, 3.6)):
            for side, anchor in enumerate(("start", "end", "middle")):
                if anchor == "middle" and abs(lift) < 1:
                    continue
                at = x + (10 if anchor == "start" else -10 if anchor == "end" else 0)
                base = y + size * (0.35 + lift)
                begin = at if anchor == "start" else at - width if anchor == "end" else at - width / 2
                area = (begin, base - size * 0.8, begin + width, base + size * 0.25)
                outside = max(0.0, left - area[0]) + max(0.0, area[2] - right)
                outside += max(0.0, top - area[1]) + max(0.0, area[3] - bottom)
                hits = sum(overlap(area, other) for position, other in enumerate(taken) if position != index)
                penalty = 10 * outside + hits + 3 * rank + side
                if best is None or penalty < best[0]:
                    best = (penalty, (round(at, 1), round(base, 1), anchor), area)
        assert best is not None
        placed[index] = best[1]
        taken.append(best[2])
    return placed


def overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    """Area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0
