"""Confusion matrices, legible and small from 2 classes to 50 and more.

The cells are a picture of one pixel a cell, enlarged without smoothing, so that a matrix of 50 classes takes about a
kilobyte. Up to 12 classes the counts are written into the cells.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence

from markupsafe import Markup
from PIL import Image

from anychannel.report import svg
from anychannel.report.theme import MATRIX
from anychannel.results.evaluation import SubsetResult
from anychannel.results.run import Run

NUMBERS_UP_TO = 12
LEVELS = 32
"""Shades in a matrix picture, few so that its palette stays small."""


def share(row: Sequence[int], position: int) -> float:
    """Part of a true class that was predicted as the class at ``position``."""
    return row[position] / (sum(row) or 1)


def matrix_png(confusion: Sequence[Sequence[int]]) -> str:
    """The matrix as a PNG data URI, one pixel a cell, its opacity the square root of the share of the true class."""
    size = len(confusion)
    image = Image.new("P", (size, size))
    image.putpalette([*MATRIX] * LEVELS)
    image.putdata([round(math.sqrt(share(row, at)) * (LEVELS - 1)) for row in confusion for at in range(size)])
    buffer = io.BytesIO()
    opacity = bytes(round(255 * level / (LEVELS - 1)) for level in range(LEVELS))
    image.save(buffer, format="PNG", optimize=True, transparency=opacity)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def layout(result: SubsetResult) -> tuple[list[str], float, float, float]:
    """The labels, their font size, the edge of a cell and the margin for the labels, in pixels."""
    labels = [svg.clipped(score["class"], 22) for score in result.per_class]
    count = len(labels)
    few = count <= NUMBERS_UP_TO
    size = 12.0 if few else max(8.5, min(11.0, 480 / count))
    cell = 46.0 if count <= 6 else 38.0 if few else max(size + 2.5, 420 / count)
    return labels, size, cell, 30 + max((svg.text_width(label, size) for label in labels), default=0.0)


def width(result: SubsetResult) -> float:
    """Width and height of ``matrix_drawing`` in pixels."""
    labels, _, cell, margin = layout(result)
    return margin + cell * len(labels) + 12


def matrix_drawing(run: Run, result: SubsetResult, key: str) -> Markup:
    """A confusion matrix with its axes: true classes down, predicted classes across."""
    labels, size, cell, margin = layout(result)
    edge = cell * len(labels)
    few = len(labels) <= NUMBERS_UP_TO
    faint = ' opacity="0.6"' if few else ""
    area = f'x="{margin:g}" y="{margin:g}" width="{edge:g}" height="{edge:g}"'
    parts = [
        f'<rect {area} fill="var(--surface)"/>',
        f'<image {area} preserveAspectRatio="none" style="image-rendering:pixelated" '
        f'href="{matrix_png(result.confusion)}"{faint}/>',
        f'<rect {area} fill="none" stroke="var(--rule)"/>',
        svg.turned(14, margin + edge / 2, "true class", anchor="middle"),
        svg.text(margin + edge / 2, 14, "predicted class", anchor="middle"),
    ]
    for index, label in enumerate(labels):
        middle = margin + (index + 0.5) * cell
        parts.append(svg.text(margin - 6, middle + size * 0.35, label, anchor="end", size=size))
        parts.append(svg.turned(middle + size * 0.35, margin - 6, label, size=size))
    for down, row in enumerate(result.confusion if few else ()):
        for across, count in enumerate(row):
            if count:
                x, y = margin + (across + 0.5) * cell, margin + (down + 0.5) * cell + 4.5
                weight = 600 if across == down else 400
                parts.append(svg.text(x, y, str(count), anchor="middle", size=13, colour="ink", weight=weight))
    pairs = "; ".join(confused_pairs(result, 3)) or "no confusion"
    drawing = svg.drawing(
        width(result),
        width(result),
        parts,
        title=f"{run.name}, {result.label}: confusion matrix",
        description=f"Rows are true classes, columns predictions. {pairs}.",
        key=key,
    )
    return Markup(drawing)


def matrix_data(result: SubsetResult) -> str:
    """JSON for the page's script, which reads out the cell under the pointer."""
    _, _, cell, margin = layout(result)
    rows = ";".join(",".join(str(count) if count else "" for count in row) for row in result.confusion)
    return json.dumps({"width": width(result), "margin": margin, "cell": cell, "rows": rows}, separators=(",", ":"))


def confused_pairs(result: SubsetResult, most: int = 6) -> list[str]:
    """Sentences on the most frequent confusions of more than one image, by their share of the true class."""
    names = [score["class"] for score in result.per_class]
    found = [
        (share(row, column), row[column], sum(row), names[true], names[column])
        for true, row in enumerate(result.confusion)
        for column in range(len(row))
        if column != true and row[column] > 1
    ]
    found.sort(key=lambda entry: (-entry[0], -entry[1], entry[3], entry[4]))
    return [
        f"{true} taken for {guess}: {count} of {total} ({100 * part:.0f} %)"
        for part, count, total, true, guess in found[:most]
    ]
