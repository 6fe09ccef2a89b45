from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from anychannel.data.batches.lanes import Stretch, check_lanes, count_lanes, cut_row, endless, shard_order, shuffled


@pytest.mark.parametrize("seed", range(20))
def test_pieces_of_the_row_hold_every_image_once_and_in_order(seed):
    random = np.random.default_rng(seed)
    counts = random.integers(0, 9, random.integers(1, 7)).tolist()
    order = random.permutation(len(counts)).tolist()
    row = [(shard, image) for shard in order for image in range(counts[shard])]
    bounds = np.sort(random.integers(0, len(row) + 1, 4)).tolist()
    lengths = np.diff([0, *bounds]).tolist()
    pieces = cut_row(counts, order, lengths)
    listed = [[(s, i) for s, start, stop in piece for i in range(start, stop)] for piece in pieces]
    assert [len(piece) for piece in listed] == lengths
    assert [image for piece in listed for image in piece] == row[: sum(lengths)]
    assert all(stretch.stop > stretch.start for piece in pieces for stretch in piece)


@pytest.mark.parametrize(
    ("lanes", "shards", "processes", "expected"),
    [(None, 100, 1, 8), (None, 100, 3, 9), (None, 100, 16, 16), (None, 2, 1, 2), (None, 1, 4, 4), (6, 2, 3, 6)],
)
def test_the_number_of_lanes_can_be_shared_by_the_processes(lanes, shards, processes, expected):
    assert count_lanes(lanes, shards, processes) == expected


def test_lanes_that_processes_cannot_share_are_refused():
    with pytest.raises(ValueError, match="lanes=8 cannot be shared by 3 processes; give a multiple of their number"):
        count_lanes(8, 100, 3)


def test_endless_lanes_go_through_all_shards_before_any_comes_again():
    lanes = [[s.shard for s in islice(endless(0, 5, 6, lane, 2), 9)] for lane in range(2)]
    for round_ in range(3):
        seen = [shard for lane in lanes for shard in lane[3 * round_ : 3 * round_ + 3]]
        assert sorted(seen) == list(range(6))
    assert next(endless(0, 5, 6, 0, 2)) == Stretch(lanes[0][0], 0, None)


def test_more_endless_lanes_than_shards_are_refused():
    with pytest.raises(ValueError, match="8 lanes need as many shards, got 3; give lanes=3 or fewer"):
        check_lanes(8, 3)
    check_lanes(3, 3)


def test_shards_come_in_another_order_each_epoch_and_the_same_for_one_seed():
    orders = [tuple(shard_order(0, epoch, 50)) for epoch in range(4)]
    assert len(set(orders)) == 4
    assert orders == [tuple(shard_order(0, epoch, 50)) for epoch in range(4)]


@pytest.mark.parametrize("size", [0, 1, 7, 100, 1000])
def test_shuffling_loses_nothing_and_holds_only_so_many(size):
    taken = 0

    def count():
        nonlocal taken
        for item in range(100):
            taken += 1
            yield item

    found = []
    for item in shuffled(count(), size, np.random.default_rng(0)):
        found.append(item)
        assert taken - len(found) <= size
    assert sorted(found) == list(range(100))
    assert (found == list(range(100))) is (size <= 1)
