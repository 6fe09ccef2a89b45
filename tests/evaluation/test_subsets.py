"""Which subsets are evaluated, from 1 to 64 channels."""

from __future__ import annotations

from collections import Counter

import pytest

from anychannel.channels import ChannelError, ChannelSet
from anychannel.evaluation import choose_subsets
from anychannel.results.shapley import draw_orders


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
    assert len(subsets) == len(set(subsets)) <= 137
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
def test_up_to_sixteen_channels_every_size_every_single_channel_and_every_lack_of_one_is_there(count):
    subsets, _, note = choose_subsets(numbered(count), per_size=5)
    found = Counter(len(subset) for subset in subsets)
    assert found[1] == found[count - 1] == count
    assert found[count] == 1
    assert all(1 <= found[size] <= 5 for size in range(2, count - 1))
    assert f"{count} channels have {2**count - 1:,} subsets" in note
    assert "every single one, every set that lacks one and the first 1, 2, ... channels of 5 random orders" in note


@pytest.mark.parametrize(("count", "orders"), [(7, 8), (16, 8), (17, 7), (32, 4), (64, 2)])
def test_all_beginnings_of_the_random_orders_are_there(count, orders):
    chosen = set(choose_subsets(numbered(count))[0])
    drawn = draw_orders(count)
    assert len(drawn) == orders
    assert all(tuple(sorted(order[:size])) in chosen for order in drawn for size in range(1, count + 1))


def test_beyond_sixty_four_channels_fifteen_sizes_are_sampled_and_the_note_says_so():
    subsets, _, note = choose_subsets(numbered(200))
    found = Counter(len(subset) for subset in subsets)
    assert len(found) == 16
    assert {1, 199, 200} <= set(found)
    assert all(1 <= number <= 8 for number in found.values())
    assert "the first 1, 15, " in note
    assert "(seed 0)" in note
    assert f"these {len(subsets)} are" in note


CROWNS = ChannelSet(("R", "G", "B", "height"), groups={"camera": "R,G,B", "lidar": "height"})


def test_groups_give_every_subset_of_whole_groups_and_single_channels_on_demand():
    assert [CROWNS.name(subset) for subset in choose_subsets(CROWNS)[0]] == ["camera+lidar", "camera", "lidar"]
    assert choose_subsets(CROWNS, by="groups") == choose_subsets(CROWNS)
    assert set(choose_subsets(CROWNS, by="channels")[0]) == set(CROWNS.subsets())
    assert choose_subsets(CROWNS, ["lidar+camera", "B,lidar"])[0] == [(0, 1, 2, 3), (2, 3)]


def test_many_channels_of_few_groups_are_few_subsets_and_many_groups_are_sampled():
    names = tuple(f"c{i}" for i in range(64))
    three = ChannelSet(names, groups={f"g{i}": names[i::3] for i in range(3)})
    assert len(choose_subsets(three)[0]) == 7
    eight = ChannelSet(names, groups={f"g{i}": names[i::8] for i in range(8)})
    subsets, sampled, note = choose_subsets(eight)
    assert sampled
    assert all(eight.split(subset) for subset in subsets)
    assert note.startswith("8 groups have 255 subsets")
    both, _, note = choose_subsets(three, by="channels")
    assert {subset for subset in both if three.split(subset)} >= set(three.group_subsets())
    assert note.endswith("Subsets of groups are added.")


def test_a_kind_of_subsets_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="unknown by 'sensors'"):
        choose_subsets(RGB, by="sensors")
    with pytest.raises(ChannelError, match="there are no groups among the channels R, G, B"):
        choose_subsets(RGB, by="groups")


def test_a_draw_repeats():
    assert choose_subsets(numbered(20)) == choose_subsets(numbered(20))


@pytest.mark.parametrize("count", [8, 40])
def test_a_smaller_draw_is_part_of_a_larger_one(count):
    few, _, _ = choose_subsets(numbered(count), limit=1, per_size=2)
    many, _, _ = choose_subsets(numbered(count), limit=1, per_size=8)
    assert set(few) < set(many)
