from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from anychannel.data.workers import map_ahead, one_ahead


def test_results_come_in_order_with_few_items_taken_before_them():
    taken = 0

    def items():
        nonlocal taken
        for item in range(50):
            taken += 1
            yield item

    with ThreadPoolExecutor(4) as pool:
        for done, result in enumerate(map_ahead(pool, lambda item: item * item, items(), 5)):
            assert result == done * done
            assert taken <= done + 6
    assert taken == 50


def test_one_item_is_made_while_another_is_used():
    made, wanted = threading.Event(), iter([0, 1, 2])

    def items():
        for item in wanted:
            if item == 1:
                made.set()
            yield item

    found = one_ahead(items())
    assert next(found) == 0
    assert made.wait(10)
    assert list(found) == [1, 2]


def test_an_error_of_what_makes_the_items_arrives_in_its_turn():
    def items():
        yield 1
        raise KeyError("two")

    found = one_ahead(items())
    assert next(found) == 1
    with pytest.raises(KeyError, match="two"):
        next(found)
    left = one_ahead(iter(range(10)))
    assert next(left) == 0
    left.close()
