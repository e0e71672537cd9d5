"""Work ahead of its use: order, how far ahead, and what happens to errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from got_jax.ahead import ahead


def test_results_come_in_order_and_are_made_at_the_same_time():
    """Every call waits for its neighbour, which one thread alone could never do."""
    pairs = [threading.Barrier(2) for _ in range(4)]

    def work(number: int) -> int:
        pairs[number // 2].wait(30)
        return number * number

    assert list(ahead(work, range(8), most=4, threads=2)) == [n * n for n in range(8)]


@pytest.mark.parametrize("most", [1, 3])
def test_items_are_drawn_only_so_far_ahead(most):
    drawn = []

    def items() -> Iterator[int]:
        for n in range(9):
            drawn.append(n)
            yield n

    made = ahead(str, items(), most)
    assert drawn == []
    for taken in range(1, 7):
        assert next(made) == str(taken - 1)
        assert len(drawn) == taken + most - 1
    assert list(made) == ["6", "7", "8"]


def test_an_error_is_raised_in_its_place_and_ends_the_rest():
    made = ahead(lambda n: 1 // n, [1, 1, 0, 1], most=4)
    assert [next(made), next(made)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(made)
    assert list(made) == []


def test_nothing_is_made_of_nothing():
    assert list(ahead(str, [], most=2)) == []
