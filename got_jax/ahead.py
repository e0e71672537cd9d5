"""Work on the host that goes on while a device computes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")
MOST_THREADS = 16  # decode pages for several fast devices


def ahead(
    function: Callable[[Item], Made], items: Iterable[Item], most: int, threads: int | None = None
) -> Iterator[Made]:
    """`function` of every item, in order, made by threads before it is asked for.

    Meant for functions that let other threads run, as Pillow's decoding and resizing do. Items are drawn by the caller.

    Args:
        most: results that are made or being made and not yet taken. threads: default: one a processor.
    """
    pool = ThreadPoolExecutor(threads or min(MOST_THREADS, os.cpu_count() or 1), "got-jax-ahead")
    waiting: deque[Future[Made]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
