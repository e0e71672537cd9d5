"""Results by key from processes, and a thread that runs one value ahead."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from got_jax.data.workers import Workers, ahead
from got_jax.errors import GotError


def squared(key: int) -> tuple[int, int]:
    if key == 13:
        os._exit(1)
    return key * key, os.getpid()


@pytest.mark.parametrize("count", [0, 2])
def test_results_come_by_key_in_any_order(count):
    workers = Workers(squared, count)
    try:
        for key in range(6):
            workers.ask(key)
        found = {key: workers.get(key) for key in (5, 0, 3, 1, 4, 2)}
        assert {key: value for key, (value, _) in found.items()} == {key: key * key for key in range(6)}
        processes = {process for _, process in found.values()}
        assert len(processes) == max(count, 1)
        assert (os.getpid() in processes) == (count == 0)
    finally:
        workers.close()


def test_a_worker_that_dies_is_said():
    workers = Workers(squared, 1)
    try:
        with pytest.raises(GotError, match="a process that makes training data has died"):
            workers.get(13)
    finally:
        workers.close()


def test_ahead_keeps_order_and_passes_errors_on():
    def values():
        yield from range(3)
        raise GotError("no more")

    stream = ahead(values())
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(GotError, match="no more"):
        next(stream)
    assert list(ahead(iter("abc"))) == ["a", "b", "c"]


def test_ahead_can_be_closed_while_a_value_or_an_error_waits():
    for failing in (False, True):

        def values(failing=failing):
            yield 1
            yield 2
            if failing:
                raise GotError("late")
            while True:
                yield 3

        stream: Any = ahead(values())
        assert next(stream) == 1
        time.sleep(0.05)
        begun = time.monotonic()
        stream.close()
        assert time.monotonic() - begun < 5
