"""Chart primitives: SVG text from numbers. Colours are the theme's variables, text is escaped, sizes are in pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

FONT = "font-family=\"Inter,-apple-system,'Segoe UI',Roboto,'Helvetica Neue','Liberation Sans',Arial,sans-serif\""
HALO = ' paint-order="stroke" stroke="var(--surface)" stroke-width="3" stroke-linejoin="round"'
"""Attributes that keep a label legible over lines."""
Label = Callable[[float], str]


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
        low, high, place = (math.log10(each) if self.log else each for each in (self.low, self.high, value))
        share = (place - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 2)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, about ``count`` of them, in steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from ``low`` to ``high``; powers alone over several decades, else ``ticks``."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)

    def inside(factors: tuple[int, ...]) -> list[float]:
        found = [factor * 10.0**power for power in powers for factor in factors]
        return [value for value in found if low <= value * 1.000001 and value <= high * 1.000001]

    fine = inside((1, 2, 5))
    if len(fine) > 7:
        return inside((1,))
    return fine if len(fine) > 1 else [value for value in ticks(low, high) if value > 0]


def short(value: float) -> str:
    """A number without needless digits."""
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


def turned(x: float, y: float, words: str, **style: float | str) -> str:
    """A line of text that reads upwards from (x, y)."""
    return text(x, y, words, extra=f' transform="rotate(-90 {x:g} {y:g})"', **style)  # type: ignore[arg-type]


def line(x1: float, y1: float, x2: float, y2: float, colour: str = "grid", width: float = 1, extra: str = "") -> str:
    """A straight line."""
    style = f'stroke="var(--{colour})" stroke-width="{width:g}"{extra}'
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" {style}/>'


def circle(x: float, y: float, radius: float, fill: str) -> str:
    """A dot with a rim."""
    return (
        f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="var(--{fill})" stroke="var(--surface)" '
        'stroke-width="1.5"/>'
    )


def path(places: Sequence[tuple[float, float]], colour: str, width: float = 2, extra: str = "") -> str:
    """A line through points."""
    steps = "L".join(f"{x:g} {y:g}" for x, y in places)
    return (
        f'<path d="M{steps}" fill="none" stroke="var(--{colour})" stroke-width="{width:g}" '
        f'stroke-linejoin="round" stroke-linecap="round"{extra}/>'
    )


def drawing(width: float, height: float, parts: Sequence[str], *, title: str, description: str, key: str) -> str:
    """An SVG element with a title and a description for screen readers; ``key`` makes its ids unique."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-labelledby="{key}-t {key}-d" {FONT}>'
        f'<title id="{key}-t">{escape(title)}</title><desc id="{key}-d">{escape(description)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def y_axis(scale: Scale, values: Sequence[float], left: float, right: float, label: Label) -> str:
    """Gridlines from ``left`` to ``right`` with labels left of them."""
    return "".join(
        line(left, scale(value), right, scale(value)) + text(left - 8, scale(value) + 4.2, label(value), anchor="end")
        for value in values
    )


def x_axis(
    scale: Scale, values: Sequence[float], top: float, bottom: float, label: Label = short, grid: bool = False
) -> str:
    """Labels below ``bottom``, with gridlines up to ``top`` if ``grid``, else short ticks."""
    ends, colour = ((top, bottom), "grid") if grid else ((bottom, bottom + 4), "rule")
    return "".join(
        line(scale(value), ends[0], scale(value), ends[1], colour)
        + text(scale(value), bottom + 18, label(value), anchor="middle")
        for value in values
    )


def text_width(words: str, size: float = 12) -> float:
    """A cautious estimate of a text's width."""
    return 0.58 * size * len(words)


def clipped(words: str, most: int) -> str:
    """``words`` cut to ``most`` characters, with an ellipsis at the cut."""
    return words if len(words) <= most else words[: most - 1].rstrip() + "…"


def place_labels(
    points: Sequence[tuple[float, float]], words: Sequence[str], right: float
) -> list[tuple[float, float, str]]:
    """Places (x, baseline y, text anchor) for points' labels so that they do not overlap: beside the point, or below.

    Labels are 12 pixels high; one that would cross ``right``, the edge of the drawing, stands left of its point.
    """
    places: dict[int, tuple[float, float, str]] = {}
    taken: list[tuple[float, float, float]] = []  # baseline, begin and end of each label, from top to bottom
    for index in sorted(range(len(points)), key=lambda position: points[position][1]):
        x, y = points[index]
        width = text_width(words[index])
        at, begin, anchor = (x + 10, x + 10, "start") if x + 10 + width <= right else (x - 10, x - 10 - width, "end")
        base = y + 4
        for other, start, end in sorted(taken):
            if begin < end and start < begin + width and abs(base - other) < 14:
                base = other + 14
        taken.append((base, begin, begin + width))
        places[index] = (round(at, 1), round(base, 1), anchor)
    return [places[index] for index in range(len(points))]
