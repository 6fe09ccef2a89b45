"""Properties of what reads text: band names, channel lists, list files."""

from __future__ import annotations

import string
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anychannel.channels import ChannelError, ChannelSet, as_channel_set, parse_names
from anychannel.data import DataError, load_dataset
from anychannel.data.errors import Problems
from anychannel.data.files.names import SYNONYMS, check_names, readings, squash
from anychannel.data.sources.folders import parse_line, read_list
from anychannel.data.sources.source import each_label, split_channels
from tests.helpers.image_files import write_image

quick = settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
plain = st.text(string.ascii_letters + string.digits + "_éüØ", min_size=1, max_size=8)
name_lists = st.lists(plain, min_size=1, max_size=6, unique=True)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@quick
@given(name_lists, st.sampled_from([",", " , ", ",  "]))
def test_names_that_are_joined_by_commas_are_found_again(names: list[str], separator: str):
    normal = tuple(unicodedata.normalize("NFC", name) for name in names)
    assert parse_names(separator.join(names)) == normal
    assert parse_names([unicodedata.normalize("NFD", name) for name in names]) == normal


@quick
@given(any_text)
def test_any_text_is_channels_or_a_channel_error(text: str):
    try:
        channels = as_channel_set(text)
    except ChannelError:
        return
    assert channels.names
    assert channels.positions(channels.names) == channels.full


@quick
@given(name_lists)
def test_a_set_finds_each_of_its_subsets_again(names: list[str]):
    channels = ChannelSet(tuple(names))
    for subset in channels.subsets():
        assert channels.subset(channels.key(subset)) == subset


@quick
@given(name_lists.filter(lambda names: not any(name.isdecimal() for name in names)), st.sampled_from([",", ";"]))
def test_the_channels_of_an_image_are_split_at_either_mark(names: list[str], mark: str):
    assert split_channels(mark.join(names) + mark) == tuple(unicodedata.normalize("NFC", name) for name in names)


@quick
@given(any_text)
def test_squashed_names_stay_as_they_are(text: str):
    assert squash(squash(text)) == squash(text)
    assert squash(text.upper().lower()) == squash(text.lower())


@quick
@given(st.lists(st.sampled_from(sorted(SYNONYMS)), min_size=2, max_size=5, unique=True), st.randoms())
def test_synonyms_pass_in_their_order_and_in_no_other(kinds: list[str], random):
    own = [random.choice(SYNONYMS[kind]) for kind in kinds]
    check_names(own, kinds)
    with pytest.raises(DataError, match=r"in another order|names its channels otherwise"):
        check_names([*own[1:], own[0]], kinds)


@quick
@given(any_text)
def test_every_name_has_readings_that_do_not_depend_on_case_or_composition(text: str):
    assert readings(text) == readings(unicodedata.normalize("NFD", text))


paths = st.lists(plain, min_size=1, max_size=3).map("/".join)
spaced = st.tuples(paths, plain).map(" ".join)
classes = plain.filter(lambda name: not name.lstrip("-").isdecimal())


@quick
@given(paths | spaced, st.sampled_from([".png", ".TIF", ".npy"]), st.integers(0, 999) | classes, name_lists)
def test_a_line_of_a_list_says_path_label_and_channels(path: str, suffix: str, label, names: list[str]):
    image, channels = path + suffix, tuple(unicodedata.normalize("NFC", name) for name in names)
    word = unicodedata.normalize("NFC", str(label))
    assert parse_line(f"{image} {label}") == (image, word, None)
    assert parse_line(f"  {image}\t{label} ") == (image, word, None)
    assert parse_line(f"{image},{label}") == (image, word, None)
    assert parse_line(f'"{image}","{label}"') == (image, word, None)
    assert parse_line(f"{image},{label},{';'.join(names)};") == (image, word, channels)
    assert parse_line(f"{image} {label} {';'.join(names)};") == (image, word, channels)


@quick
@given(lines=st.lists(any_text, max_size=8))
def test_any_text_is_a_list_or_named_problems(lines: list[str], tmp_path: Path):
    path = tmp_path / "train.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    problems = Problems()
    for sample in read_list(path, problems):
        assert sample.path
        assert sample.label != ""
        assert all(isinstance(label, str) or label >= 0 for label in each_label(sample.label))
    assert all(place.startswith("train.txt line") for places in problems.lines.values() for place in places)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("{path} {label}", ("0", "1")),
        ("{path} {name}", ("cat", "red fox".replace(" ", "_"))),
        ("{path},{name}", ("cat", "red_fox")),
        ("{path}\t{label}", ("0", "1")),
        ('"{path}","{name}"', ("cat", "red_fox")),
    ],
)
@pytest.mark.parametrize(
    "header", ["", "path label", "path,label", "filename,class", "path,label,channels", '"image","label"']
)
def test_lists_have_a_header_or_none_and_numbers_or_names(tmp_path: Path, header: str, line: str, names):
    for number, split in enumerate(("train", "val", "test")):
        rows = [header] if header else []
        for i in range(4):
            path = f"{split} {i}.png"
            write_image(tmp_path / path, np.full((3, 6, 6), 10 * number + i, np.uint8))
            rows.append(line.format(path=path, label=i % 2, name=("cat", "red_fox")[i % 2]))
        (tmp_path / f"{split}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    data = load_dataset(tmp_path)
    assert data.classes == names
    assert data.train.labels.tolist() == [0, 1, 0, 1]
    assert data.train.paths == tuple(f"train {i}.png" for i in range(4))
