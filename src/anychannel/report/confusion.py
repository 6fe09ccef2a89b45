"""Confusion matrices: legible from 2 classes to 50 and more, and small.

Up to 12 classes a matrix is drawn cell by cell with its counts. Beyond that it is a picture of one pixel a cell, shown
enlarged without smoothing, so that a matrix of 50 classes takes about a kilobyte.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence

from PIL import Image

from anychannel.report import svg
from anychannel.report.records import Run, SubsetResult
from anychannel.report.theme import MATRIX

NUMBERS_UP_TO = 12
LEVELS = 32
"""Shades in a matrix picture; few enough that its palette stays small."""


def share(row: Sequence[int], position: int) -> float:
    """Part of a true class that was predicted as the class at ``position``."""
    total = sum(row)
    return row[position] / total if total else 0.0


def strength(part: float) -> float:
    """How strongly a cell is coloured: the square root, so that rare confusions show."""
    return math.sqrt(part)


def matrix_png(confusion: Sequence[Sequence[int]]) -> str:
    """The matrix as a PNG data URI, one pixel a cell, from transparent to opaque."""
    size = len(confusion)
    image = Image.new("P", (size, size))
    image.putpalette([*MATRIX] * LEVELS)
    levels = [round(strength(share(row, column)) * (LEVELS - 1)) for row in confusion for column in range(size)]
    image.putdata(levels)
    buffer = io.BytesIO()
    opacity = bytes(round(255 * level / (LEVELS - 1)) for level in range(LEVELS))
    image.save(buffer, format="PNG", optimize=True, transparency=opacity)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def matrix_drawing(run: Run, result: SubsetResult, key: str) -> str:
    """A confusion matrix with its axes: true classes down, predicted across, each row in parts of its true class."""
    count = len(result.per_class)
    labels, size, cell, margin = layout(result)
    edge = cell * count
    parts = [f'<rect x="{margin:g}" y="{margin:g}" width="{edge:g}" height="{edge:g}" fill="var(--surface)"/>']
    if count <= NUMBERS_UP_TO:
        parts += cells_with_counts(result.confusion, margin, cell)
    else:
        parts.append(
            f'<image x="{margin:g}" y="{margin:g}" width="{edge:g}" height="{edge:g}" preserveAspectRatio="none" '
            f'style="image-rendering:pixelated" href="{matrix_png(result.confusion)}"/>'
        )
    parts.append(
        f'<rect x="{margin:g}" y="{margin:g}" width="{edge:g}" height="{edge:g}" fill="none" stroke="var(--rule)"/>'
    )
    parts += class_labels(labels, margin, cell, size)
    parts.append(
        svg.text(
            14,
            margin + edge / 2,
            "true class",
            anchor="middle",
            size=12,
            extra=f' transform="rotate(-90 14 {margin + edge / 2:g})"',
        )
    )
    parts.append(svg.text(margin + edge / 2, 14, "predicted class", anchor="middle", size=12))
    pairs = "; ".join(confused_pairs(result, 3)) or "no confusion"
    return svg.drawing(
        margin + edge + 12,
        margin + edge + 12,
        parts,
        title=f"{run.name}, {result.key}: confusion matrix",
        description=f"Rows are true classes, columns predictions. {pairs}.",
        key=key,
    )


def layout(result: SubsetResult) -> tuple[list[str], float, float, float]:
    """Labels, their font size, a cell's edge and the margin that the labels need, in pixels."""
    count = len(result.per_class)
    labels = [svg.clipped(score.name, 22) for score in result.per_class]
    size = 12.0 if count <= NUMBERS_UP_TO else max(8.5, min(11.0, 480 / count))
    cell = 46.0 if count <= 6 else 38.0 if count <= NUMBERS_UP_TO else max(size + 2.5, 420 / count)
    return labels, size, cell, 30 + max((svg.text_width(label, size) for label in labels), default=0.0)


def drawing_width(result: SubsetResult) -> float:
    """Width of ``matrix_drawing`` in pixels."""
    _, _, cell, margin = layout(result)
    return margin + cell * len(result.per_class) + 12


def matrix_data(result: SubsetResult) -> str:
    """What the page needs to read a matrix out under the pointer: drawing's width, margin, cell and counts, as JSON."""
    _, _, cell, margin = layout(result)
    rows = ";".join(",".join(str(count) if count else "" for count in row) for row in result.confusion)
    return json.dumps(
        {"width": drawing_width(result), "margin": margin, "cell": cell, "rows": rows}, separators=(",", ":")
    )


def cells_with_counts(confusion: Sequence[Sequence[int]], margin: float, cell: float) -> list[str]:
    """Cells as rectangles with their counts; zeros stay blank."""
    parts = []
    red, green, blue = MATRIX
    for down, row in enumerate(confusion):
        for across, count in enumerate(row):
            if not count:
                continue
            x, y = margin + across * cell, margin + down * cell
            opacity = 0.6 * strength(share(row, across))
            parts.append(
                f'<rect x="{x:g}" y="{y:g}" width="{cell:g}" height="{cell:g}" fill="rgb({red},{green},{blue})" '
                f'fill-opacity="{opacity:.3f}"/>'
            )
            parts.append(
                svg.text(
                    x + cell / 2,
                    y + cell / 2 + 4.5,
                    str(count),
                    anchor="middle",
                    size=13,
                    colour="ink",
                    weight=600 if across == down else 400,
                )
            )
    return parts


def class_labels(labels: Sequence[str], margin: float, cell: float, size: float) -> list[str]:
    """Names beside the rows and, turned, above the columns."""
    rows, columns = [], []
    for index, label in enumerate(labels):
        middle = margin + (index + 0.5) * cell
        rows.append(svg.text(margin - 6, middle + size * 0.35, label, anchor="end", size=size))
        x, y = middle + size * 0.35, margin - 6
        columns.append(svg.text(x, y, label, size=size, extra=f' transform="rotate(-90 {x:g} {y:g})"'))
    return rows + columns


def confused_pairs(result: SubsetResult, most: int = 6) -> list[str]:
    """The largest parts of a true class taken for another, in words, largest first; a single image is no pattern."""
    names = [score.name for score in result.per_class]
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
