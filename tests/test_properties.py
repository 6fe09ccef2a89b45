"""Properties of channel names, channel sets and channel sampling, over generated input."""

from __future__ import annotations

import json
import unicodedata

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from anychannel.channels import AT_WAVELENGTH, ChannelError, ChannelSet, as_channel_set, parse_names
from anychannel.nn.channel_sampling import SplitSampler, create_sampler, size_ranges, split_evenly
from anychannel.sensors import SENSORS

quick = settings(
    derandomize=True, max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)

names = st.text(st.characters(blacklist_characters=",", blacklist_categories=("Cs",)), min_size=1, max_size=12).filter(
    lambda name: name == name.strip() and name
)
many = st.lists(names, min_size=1, max_size=7, unique=True)
numbers = st.floats(-1e6, 1e6, allow_nan=False)
positive = st.floats(1e-3, 1e6)


@st.composite
def channel_sets(draw, least: int = 1) -> ChannelSet:
    chosen = draw(st.lists(names, min_size=least, max_size=6, unique=True))
    count = len(chosen)
    mean, std = (draw(st.lists(values, min_size=count, max_size=count)) for values in (numbers, positive))
    rows = draw(st.lists(st.lists(st.floats(-1, 1), min_size=count, max_size=count), min_size=count, max_size=count))
    waves = draw(st.lists(st.none() | st.floats(1, 1e8), min_size=count, max_size=count))
    kinds = draw(st.lists(st.none() | names, min_size=count, max_size=count))
    return ChannelSet(tuple(chosen), mean, std, correlation=rows, wavelengths_nm=tuple(waves), kinds=tuple(kinds))


@quick
@given(many)
def test_names_survive_being_joined_and_split(chosen):
    assert parse_names(",".join(chosen)) == parse_names(chosen) == tuple(chosen)
    assert parse_names(" , ".join(chosen)) == tuple(chosen)


@quick
@given(st.text(max_size=30))
def test_any_text_is_channels_or_a_channel_error(text):
    try:
        channels = as_channel_set(text)
    except ChannelError:
        return
    assert len(set(channels.names)) == len(channels) >= 1
    assert all(name.strip() for name in channels.names)


@quick
@given(
    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=3), st.binary(max_size=3), st.booleans()), max_size=4)
)
def test_any_list_is_channels_or_a_channel_error(values):
    try:
        channels = as_channel_set(values)
    except ChannelError:
        return
    assert channels.names == tuple(value.strip() for value in values)


@quick
@given(names, st.integers(1, 10**6))
def test_a_wavelength_is_read_from_its_name(name, wavelength):
    assume("@" not in name and "\n" not in name and name.partition(":")[0] not in SENSORS)
    text = f"{name} @ {wavelength} nm"
    assert AT_WAVELENGTH.fullmatch(text)
    channels = as_channel_set([text, "other channel"])
    assert (channels.names[0], channels.wavelengths_nm[0]) == (unicodedata.normalize("NFC", name), float(wavelength))


@quick
@given(channel_sets())
def test_a_channel_set_survives_json(channels):
    assert ChannelSet.from_dict(json.loads(json.dumps(channels.to_dict()))) == channels


@quick
@given(channel_sets(), st.data())
def test_selecting_in_any_order_takes_each_channels_own_values(channels, data):
    chosen = data.draw(st.permutations(channels.names).flatmap(lambda o: st.integers(1, len(o)).map(lambda n: o[:n])))
    selected = channels.select(chosen)
    assert selected.names == tuple(chosen)
    for i, name in enumerate(chosen):
        place = channels.names.index(name)
        assert (selected.mean[i], selected.std[i]) == (channels.mean[place], channels.std[place])
        assert selected.wavelengths_nm[i] == channels.wavelengths_nm[place]
        for j, other in enumerate(chosen):
            assert selected.correlation[i][j] == channels.correlation[place][channels.names.index(other)]
    assert channels.positions(chosen) == tuple(channels.names.index(name) for name in chosen)
    assert channels.subset(chosen) == tuple(sorted(channels.positions(chosen)))
    assert channels.subset(channels.key(channels.subset(chosen)).split(",")) == channels.subset(chosen)
    assert selected.select(sorted(chosen)).select(chosen) == selected


@quick
@given(channel_sets())
def test_subsets_are_all_and_each_once(channels):
    found = channels.subsets()
    assert len(found) == len(set(found)) == channels.count_subsets()
    assert found[0] == channels.full
    assert all(list(subset) == sorted(set(subset)) and subset for subset in found)
    assert [len(subset) for subset in found] == sorted((len(subset) for subset in found), reverse=True)


@quick
@given(channel_sets(), names)
def test_a_name_that_is_not_there_is_named(channels, name):
    assume(name not in channels.names)
    for wanted in (name, [*channels.names, name]):
        with pytest.raises(ChannelError) as found:
            channels.positions(wanted)
        assert repr(name) in str(found.value)


samplers = st.one_of(
    st.tuples(st.just("full"), st.just({})),
    st.tuples(st.just("sandwich"), st.just({})),
    st.tuples(st.just("uniform_size"), st.fixed_dictionaries({"parts": st.integers(1, 9)})),
    st.tuples(st.just("dropout"), st.fixed_dictionaries({"drop": st.floats(0.05, 0.9), "parts": st.integers(1, 9)})),
    st.tuples(st.just("split"), st.fixed_dictionaries({"full": st.floats(0.05, 0.95), "paired": st.booleans()})),
    st.tuples(st.just("split"), st.just({})),
)


@quick
@given(samplers, st.integers(2, 12), st.integers(1, 40), st.integers(0, 2**31))
def test_every_part_is_a_subset_of_the_channels_and_lies_in_the_batch(sampler, channels, batch, seed):
    name, options = sampler
    draw = create_sampler(name, channels, **options)
    parts = draw(batch, torch.Generator().manual_seed(seed))
    assert parts == draw(batch, torch.Generator().manual_seed(seed))
    shown = set()
    for part in parts:
        assert list(part.subset) == sorted(set(part.subset))
        assert part.subset
        assert part.subset[0] >= 0
        assert part.subset[-1] < channels
        assert 0 <= part.start < part.stop <= batch
        shown.update(range(part.start, part.stop))
    if options.get("paired"):
        assert all(part.stop <= parts[0].stop for part in parts)
        return
    assert shown == set(range(batch))
    if name != "sandwich":
        assert sum(map(len, parts)) == batch


@quick
@given(st.integers(2, 9), st.data())
def test_shares_of_sizes_are_kept_to_an_image(channels, data):
    weights = data.draw(st.lists(st.integers(0, 5), min_size=channels - 1, max_size=channels - 1))
    total = sum(weights) + 1
    fractions = [value / total for value in (1, *weights)]
    batch = data.draw(st.integers(channels, 60))
    parts = SplitSampler(channels, fractions=fractions)(batch, torch.Generator().manual_seed(0))
    sizes = [0.0] * channels
    for part in parts:
        sizes[channels - len(part.subset)] += len(part)
    assert sum(sizes) == batch
    assert all(abs(found - batch * share) <= 1 for found, share in zip(sizes[1:], fractions[1:], strict=True) if found)


@quick
@given(st.integers(2, 60), st.integers(1, 60))
def test_ranges_of_sizes_cover_each_size_once(channels, number):
    covered = [size for low, high in size_ranges(channels, number) for size in range(low, high + 1)]
    assert covered == list(range(1, channels))


@quick
@given(st.integers(0, 200), st.integers(1, 50))
def test_an_even_cut_covers_the_batch(batch, parts):
    pieces = split_evenly(batch, parts)
    assert [i for start, stop in pieces for i in range(start, stop)] == list(range(batch))
    lengths = [stop - start for start, stop in pieces]
    assert not lengths or max(lengths) - min(lengths) <= 1
