from __future__ import annotations

import base64
import io
import itertools
import math

import numpy as np
import pytest
from PIL import Image

from anychannel.report import svg, theme
from anychannel.report.confusion import matrix_png
from anychannel.report.tables import reference_figures


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (40, 60, [40, 45, 50, 55, 60]),
        (0, 47, [0, 10, 20, 30, 40]),
        (3, 3, [3]),
        (1.71, 3.07, [2, 2.5, 3]),
    ],
)
def test_ticks_are_round_and_inside(low, high, expected):
    assert svg.ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(("low", "high"), [(0.5, 10), (1e-3, 1e4), (3, 3.2)])
def test_log_ticks_are_inside_and_few(low, high):
    found = svg.log_ticks(low, high)
    assert all(low <= value <= high for value in found)
    assert len(found) <= 8
    assert found == sorted(found)


def test_a_log_scale_puts_the_geometric_mean_in_the_middle():
    scale = svg.Scale(1, 100, 0, 300, log=True)
    assert [scale(1), scale(10), scale(100)] == [0, 150, 300]


@pytest.mark.parametrize("right", [700, 380])
def test_labels_of_near_points_do_not_overlap(right):
    generator = np.random.default_rng(0)
    points = [(float(x), float(y)) for x, y in generator.uniform((300, 150), (330, 250), (8, 2))]
    words = [f"network_{index}" for index in range(8)]
    boxes = []
    for (x, base, anchor), word in zip(svg.place_labels(points, words, right), words, strict=True):
        width = svg.text_width(word)
        left = x if anchor == "start" else x - width
        assert left + width <= right
        boxes.append((left, base - 9, left + width, base + 2))
    for one, other in itertools.combinations(boxes, 2):
        beside = one[2] <= other[0] or other[2] <= one[0]
        assert beside or one[3] <= other[1] or other[3] <= one[1]


@pytest.mark.parametrize("size", [13, 50])
def test_the_matrix_picture_has_one_pixel_a_cell_as_strong_as_its_share(size):
    confusion = np.random.default_rng(size).integers(0, 9, (size, size))
    confusion[3] = 0
    uri = matrix_png(confusion.tolist())
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    assert pixels.shape == (size, size, 4)
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    assert np.abs(pixels[..., 3] / 255 - np.sqrt(share)).max() < 1 / 31
    assert (pixels[pixels[..., 3] > 0][:, :3] == theme.MATRIX).all()
    assert len(data) < 3000


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_text_is_legible_in_both_themes(colours):
    """WCAG 2.2 AA: 4.5 for text, 3 for lines that carry meaning."""
    for ground in ("bg", "surface", "raised"):
        for text in ("ink", "muted", "accent", "second", "good", "warn", "bad"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for ground in ("heat", "loss"):
        assert contrast(colours["ink"], colours[ground]) >= 4.5, ground
    for strength in (0.25, 0.5, 0.6):
        mixed = "#" + "".join(
            f"{round(strength * part + (1 - strength) * int(colours['surface'][at : at + 2], 16)):02x}"
            for part, at in zip(theme.MATRIX, (1, 3, 5), strict=True)
        )
        assert contrast(colours["ink"], mixed) >= 4.5, strength


def test_the_original_reports_figures_hold_its_eight_networks():
    figures = {name: value for name, value in reference_figures().items() if isinstance(value, dict)}
    assert len(figures) == 8
    assert figures["task_1/v4"]["test"] == pytest.approx(
        {"RGB": 46.44, "RG": 26.89, "RB": 31.78, "GB": 28.89, "R": 15.11, "G": 17.78, "B": 19.11}
    )
    assert all(math.isfinite(value["test"]["RGB"]) for value in figures.values())
