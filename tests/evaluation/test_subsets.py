"""Which subsets are evaluated, from 1 to 64 channels."""

from __future__ import annotations

from collections import Counter
from math import comb

import pytest

from anychannel.channels import ChannelError, ChannelSet
from anychannel.evaluation import choose_subsets


def numbered(count: int) -> ChannelSet:
    return ChannelSet(tuple(f"c{i}" for i in range(count)))


RGB = ChannelSet(("R", "G", "B"))


def test_few_channels_give_every_subset_largest_first():
    subsets, sampled, note = choose_subsets(RGB)
    assert [RGB.key(subset) for subset in subsets] == ["R,G,B", "R,G", "R,B", "G,B", "R", "G", "B"]
    assert (sampled, note) == (False, "")


def test_named_subsets_keep_their_order_and_lose_repeats():
    subsets, sampled, note = choose_subsets(RGB, ["B", "G,R", "R,G"])
    assert [RGB.key(subset) for subset in subsets] == ["B", "R,G"]
    assert (sampled, note) == (False, "")


def test_one_subset_may_be_named_as_a_plain_string():
    assert choose_subsets(RGB, "R,B")[0] == [(0, 2)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no subset is named; give some, such as 'R,G,B'"),
        (["R,X"], "unknown channel 'X'; the channels are R, G, B"),
        (["R,R"], "channel 'R' is given twice"),
    ],
)
def test_subsets_that_cannot_be_named_are_refused(names, message):
    with pytest.raises(ChannelError, match=message):
        choose_subsets(RGB, names)


@pytest.mark.parametrize("count", range(1, 65))
def test_any_number_of_channels_gives_distinct_subsets_in_bounded_number(count):
    channels = numbered(count)
    subsets, sampled, note = choose_subsets(channels)
    assert len(subsets) == len(set(subsets)) <= 129
    assert subsets[0] == channels.full
    for subset in subsets:
        assert list(subset) == sorted(set(subset))
        assert subset[0] >= 0
        assert subset[-1] < count
    sizes = [len(subset) for subset in subsets]
    assert sizes == sorted(sizes, reverse=True)
    assert sampled is (2**count - 1 > 64)
    assert bool(note) is sampled


@pytest.mark.parametrize("count", [7, 8, 12, 16])
def test_up_to_sixteen_channels_every_size_and_every_single_channel_is_there(count):
    subsets, _, note = choose_subsets(numbered(count), per_size=5)
    found = Counter(len(subset) for subset in subsets)
    assert found[1] == count
    assert found[count] == 1
    assert all(found[size] == min(5, comb(count, size)) for size in range(2, count))
    assert f"{count} channels have {2**count - 1:,} subsets" in note
    assert "every single channel and at most 5 of each size" in note


def test_sixty_four_channels_sample_fifteen_sizes_and_say_so():
    subsets, _, note = choose_subsets(numbered(64))
    found = Counter(len(subset) for subset in subsets)
    assert len(found) == 16
    assert {1, 32, 63, 64} <= set(found)
    assert all(found[size] == 8 for size in found if size < 64)
    assert "the sizes 1, " in note
    assert "(seed 0)" in note
    assert f"these {len(subsets)} are" in note


def test_a_draw_repeats():
    assert choose_subsets(numbered(20)) == choose_subsets(numbered(20))


@pytest.mark.parametrize("count", [8, 40])
def test_a_smaller_draw_is_part_of_a_larger_one(count):
    few, _, _ = choose_subsets(numbered(count), limit=1, per_size=2)
    many, _, _ = choose_subsets(numbered(count), limit=1, per_size=8)
    assert set(few) < set(many)
