from __future__ import annotations

from collections import Counter

import pytest
import torch

from anychannel.channels import ChannelSet
from anychannel.nn.channel_sampling import SAMPLERS, DropoutSampler, create_sampler, size_ranges


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("channels", [1, 3, 64])
@pytest.mark.parametrize("batch", [1, 7, 128])
def test_parts_are_within_the_batch_and_show_ascending_channels(name, channels, batch):
    sampler, random = create_sampler(name, channels), generator()
    for _ in range(20):
        for part in sampler(batch, random):
            assert 0 <= part.start < part.stop <= batch
            assert part.subset
            assert list(part.subset) == sorted(set(part.subset))
            assert part.subset[0] >= 0
            assert part.subset[-1] < channels


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_step_can_be_repeated_from_its_generator(name):
    sampler = create_sampler(name, 5)
    assert sampler(32, generator(3)) == sampler(32, generator(3))


def test_dropout_never_drops_all_and_keeps_the_others_odds():
    sampler, random = DropoutSampler(2, drop=0.9), generator()
    counts = Counter(sampler.draw(random) for _ in range(4000))
    assert set(counts) == {(0,), (1,), (0, 1)}
    share = counts[(0, 1)] / 4000
    assert share == pytest.approx(0.01 / (1 - 0.81), abs=0.01)


def test_dropout_parts_cover_the_batch_once():
    parts = DropoutSampler(4, drop=0.5, parts=5)(13, generator())
    covered = [row for part in parts for row in range(part.start, part.stop)]
    assert covered == list(range(13))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ful", {}, "did you mean 'full'.*the samplers are full, dropout, uniform_size, sandwich, split"),
        ("dropout", {"drop": 1.0}, r"drop is a probability in \[0, 1\), got 1.0"),
        ("dropout", {"parts": 0}, "parts must be at least 1, got 0"),
        ("dropout", {"p": 0.5}, "sampler 'dropout' does not take these options.*the settings are drop, parts"),
        ("full", {"p": 0.5}, "sampler 'full' does not take these options: .*there are no settings"),
        ("split", {"paired": "maybe"}, "paired must be true or false, got 'maybe'"),
    ],
)
def test_a_wrong_sampler_or_option_says_what_is_valid(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_sampler(name, 3, **options)


def test_uniform_size_draws_each_size_as_often():
    sampler, random = create_sampler("uniform_size", 3), generator()
    sizes = Counter(len(sampler(8, random)[0].subset) for _ in range(3000))
    assert all(abs(sizes[size] - 1000) < 100 for size in (1, 2, 3))


def test_the_sandwich_shows_every_image_with_all_with_one_and_with_some_channels():
    parts = create_sampler("sandwich", 6)(10, generator())
    assert [(part.start, part.stop) for part in parts] == [(0, 10)] * 3
    assert len(parts[0].subset) == 6
    assert len(parts[1].subset) == 1
    assert 2 <= len(parts[2].subset) <= 5


def test_the_split_of_three_channels_is_half_full_a_quarter_pair_a_quarter_single():
    sampler, random = create_sampler("split", 3), generator()
    seen = Counter()
    for _ in range(600):
        full, single, pair = sampler(128, random)
        assert [len(part) for part in (full, single, pair)] == [64, 32, 32]
        assert (full.stop, single.start, single.stop, pair.start, pair.stop) == (64, 64, 96, 96, 128)
        assert full.subset == (0, 1, 2)
        seen[single.subset] += 1
        seen[pair.subset] += 1
    assert set(seen) == {(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)}
    assert all(abs(count - 200) < 60 for count in seen.values())


@pytest.mark.parametrize(
    ("channels", "number", "ranges"),
    [
        (1, 3, []),
        (2, 1, [(1, 1)]),
        (3, 2, [(1, 1), (2, 2)]),
        (5, 3, [(1, 1), (2, 2), (3, 4)]),
        (8, 3, [(1, 1), (2, 3), (4, 7)]),
        (13, 4, [(1, 1), (2, 3), (4, 6), (7, 12)]),
        (64, 6, [(1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 63)]),
        (8, 1, [(1, 7)]),
        (8, 7, [(size, size) for size in range(1, 8)]),
        (4, 9, [(1, 1), (2, 2), (3, 3)]),
    ],
)
def test_ranges_of_sizes_double_and_leave_none_out(channels, number, ranges):
    assert size_ranges(channels, number) == ranges


@pytest.mark.parametrize(
    ("channels", "lengths", "sizes"),
    [
        (1, [96], [(1, 1)]),
        (2, [48, 48], [(2, 2), (1, 1)]),
        (4, [48, 24, 24], [(4, 4), (1, 1), (2, 3)]),
        (8, [32, 16, 16, 16, 16], [(8, 8), (1, 1), (2, 3), (1, 1), (4, 7)]),
        (13, [24, *[12] * 6], [(13, 13), (1, 1), (2, 3), (1, 1), (4, 6), (1, 1), (7, 12)]),
    ],
)
def test_half_of_what_a_split_reduces_shows_single_channels_the_rest_sizes_by_doublings(channels, lengths, sizes):
    sampler, random = create_sampler("split", channels), generator()
    seen = [set() for _ in sizes]
    for _ in range(200):
        parts = sampler(96, random)
        assert [len(part) for part in parts] == lengths
        for part, met in zip(parts, seen, strict=True):
            met.add(len(part.subset))
    assert [(min(met), max(met)) for met in seen] == sizes


@pytest.mark.parametrize(
    ("channels", "batch_size", "lengths"),
    [
        (3, 128, [64, 32, 32]),
        (3, 64, [32, 16, 16]),
        (3, 63, [32, 31]),
        (3, 32, [16, 16]),
        (3, 12, [6, 6]),
        (8, 64, [21, 22, 21]),
        (16, 128, [32, *[16] * 6]),
        (16, 64, [16, 16, 16, 16]),
    ],
)
def test_the_reduced_parts_of_a_small_batch_hold_as_many_images_as_asked_for_or_all_of_them(
    channels, batch_size, lengths
):
    sampler, random = create_sampler("split", channels, fewest=16), generator()
    steps = [sampler(batch_size, random) for _ in range(60)]
    assert all(sorted(map(len, parts[1:])) == sorted(lengths[1:]) for parts in steps)
    assert all(len(parts[0]) == lengths[0] for parts in steps)
    assert len({len(part.subset) for parts in steps for part in parts[1:]}) > 1  # single channels, and sizes between


def test_a_paired_split_reduces_the_same_images_as_the_full_part():
    full, *reduced = create_sampler("split", 3, paired=True)(128, generator())
    assert sum(map(len, [full, *reduced])) == 128
    assert [(part.start, part.stop) for part in reduced] == [(0, 32), (32, 64)]


@pytest.mark.parametrize("channels", [2, 4, 5, 8, 13, 64])
def test_a_paired_split_reduces_only_images_that_it_shows_whole_and_as_many_as_unpaired(channels):
    full, *reduced = create_sampler("split", channels, paired=True)(128, generator())
    _, *unpaired = create_sampler("split", channels)(128, generator())
    assert all(0 <= part.start < part.stop <= full.stop for part in reduced)
    assert {image for part in reduced for image in range(part.start, part.stop)} == set(range(full.stop))
    assert [len(part) for part in reduced] == [len(part) for part in unpaired]


@pytest.mark.parametrize(("channels", "batch_size"), [(64, 8), (8, 4), (13, 4), (3, 2), (8, 2)])
def test_a_split_of_few_images_shows_every_size_in_some_step(channels, batch_size):
    sampler, random = create_sampler("split", channels), generator()
    steps = [sampler(batch_size, random) for _ in range(1500)]
    assert {len(part.subset) for parts in steps for part in parts} == set(range(1, channels + 1))
    assert all(sum(map(len, parts)) == batch_size for parts in steps)


@pytest.mark.parametrize(
    ("fractions", "paired", "expected"),
    [
        ((1 / 2, 1 / 3, 1 / 6), False, [(3, 0, 6), (2, 6, 10), (1, 10, 12)]),
        ((1 / 2, 1 / 3, 1 / 6), True, [(3, 0, 6), (2, 0, 4), (1, 4, 6)]),
        ((1 / 4, 1 / 4, 1 / 2), True, [(3, 0, 3), (2, 0, 3), (1, 0, 3)]),
        ((1 / 4, 0, 3 / 4), False, [(3, 0, 3), (1, 3, 12)]),
        ((0.01, 0.99, 0), False, [(3, 0, 1), (2, 1, 12)]),
        ((1, 0, 0), False, [(3, 0, 12)]),
    ],
)
def test_fractions_say_what_each_size_gets(fractions, paired, expected):
    parts = create_sampler("split", 3, fractions=fractions, paired=paired)(12, generator())
    assert [(len(part.subset), part.start, part.stop) for part in parts] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": (0.5, 0.5)}, "fractions needs 3 numbers that sum to 1"),
        ({"fractions": (0.5, 0.5, 0.5)}, r"got \[0.5, 0.5, 0.5\]"),
        ({"fractions": (0, 0.5, 0.5)}, "of which the first is positive"),
        ({"fractions": (0.5, 0.25, 0.25), "full": 0.5}, "leave full and ranges out"),
    ],
)
def test_fractions_that_say_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create_sampler("split", 3, **options)


@pytest.mark.parametrize("options", [{"full": 0}, {"full": 1.5}, {"ranges": 0}])
def test_a_split_out_of_range_is_refused(options):
    with pytest.raises(ValueError, match=r"in \(0, 1\], got|ranges must be between 1 and 2, .* got 0"):
        create_sampler("split", 3, **options)


CROWNS = ChannelSet(("R", "G", "B", "height", "a", "b"), groups={"camera": "R,G,B", "spectrometer": "a,b"})


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_draws_whole_groups_as_it_draws_channels(name):
    """The parts are those of three channels, with each group's channels in the place of its number."""
    grouped, plain = create_sampler(name, CROWNS), create_sampler(name, 3)
    units = [(0, 1, 2), (3,), (4, 5)]
    seen = set()
    for seed in range(40):
        mine, theirs = grouped(32, generator(seed)), plain(32, generator(seed))
        assert [(part.start, part.stop) for part in mine] == [(part.start, part.stop) for part in theirs]
        for part, other in zip(mine, theirs, strict=True):
            assert part.subset == tuple(position for i in other.subset for position in units[i])
            seen.add(part.subset)
    assert seen <= set(CROWNS.group_subsets())
    assert len(seen) > 3 or name == "full"


def test_single_channels_are_left_out_in_the_share_of_steps_asked_for():
    sampler = create_sampler("uniform_size", CROWNS, within=0.5)
    random = generator()
    drawn = [part.subset for _ in range(600) for part in sampler(8, random)]
    inside = sum(CROWNS.split(subset) is None for subset in drawn) / len(drawn)
    plain = [part.subset for _ in range(600) for part in create_sampler("uniform_size", 6)(8, random)]
    expected = 0.5 * sum(CROWNS.split(subset) is None for subset in plain) / len(plain)
    assert inside == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize(
    ("name", "channels", "options", "message"),
    [
        ("split", 3, {"within": 0.5}, "within has no effect: the channels have no groups"),
        ("split", CROWNS.select("R,G"), {"within": 0.5}, "within has no effect: the channels have no groups"),
        ("full", CROWNS, {"within": 0.5}, "within has no effect: sampler 'full' leaves no channel out"),
        ("split", CROWNS, {"within": 2}, r"within is the share of steps .* in \[0, 1\], got 2"),
        ("split", CROWNS, {"within": "x"}, "within"),
        ("split", CROWNS, {"fractions": [0.5, 0.5]}, "fractions needs 3 numbers"),
        ("dropout", CROWNS, {"drops": 0.5}, "drops"),
    ],
)
def test_options_of_group_sampling_are_checked(name, channels, options, message):
    with pytest.raises(ValueError, match=message):
        create_sampler(name, channels, **options)
