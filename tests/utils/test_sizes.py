"""Heights and widths, as arguments, as words and in files."""

from __future__ import annotations

import pytest

from anychannel.utils.sizes import describe_size, height_width, parse_size, plain_size


def test_one_number_is_a_square_and_two_are_height_and_width():
    assert height_width(84) == (84, 84)
    assert height_width([48, 64]) == (48, 64)
    assert (plain_size((84, 84)), plain_size((48, 64))) == (84, [48, 64])
    assert describe_size((48, 64)) == "48 x 64"


@pytest.mark.parametrize(("text", "size"), [("84", 84), ("48x64", (48, 64)), (" 48 X 64 ", (48, 64))])
def test_a_size_is_written_as_one_number_or_two(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "48x0", "48x64x3", "-8", "8.5", "x8", "eight"])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="a size is written 84, or 48x64 for a height of 48 and a width of 64, got"):
        parse_size(text)


@pytest.mark.parametrize("size", [(8,), (8, 8, 3), 8.0, (8, 8.5), "84", True, None])
def test_only_whole_numbers_are_sizes(size):
    with pytest.raises(ValueError, match=r"image_size is one whole number or \(height, width\), got"):
        height_width(size)


@pytest.mark.parametrize("size", [0, (8, 0), (-1, 8)])
def test_a_side_has_a_pixel_at_least(size):
    with pytest.raises(ValueError, match="image_size must be at least 1 pixel, got"):
        height_width(size)
