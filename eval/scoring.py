"""Scores many rows: on all cores where there are enough of them, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from tqdm import tqdm

from eval.metrics import text

WORTH = 400  # rows from which on a second process pays for its start
CHUNK = 50


def score_texts(
    pairs: Iterable[tuple[str, str]], unit: text.Unit = "words", processes: int | None = None
) -> list[dict[str, dict[str, float] | None]]:
    """`text.score` of (label, answer) pairs, in order; by `processes` (default: all cores for many pairs)."""
    return spread(_score, [(label, answer, unit) for label, answer in pairs], processes)


def _score(row: tuple[str, str, text.Unit]) -> dict[str, dict[str, float] | None]:
    return text.score(*row)


def spread(function: Callable[[Any], Any], rows: Sequence[Any], processes: int | None = None) -> list[Any]:
    """`function` of every row, in order. New processes are spawned, for forks of JAX's threads may hang."""
    if processes is None:
        processes = (os.cpu_count() or 1) if len(rows) >= WORTH else 1
    show = {"desc": "score", "unit": "row", "total": len(rows), "disable": None if len(rows) >= WORTH else True}
    if processes == 1:
        return list(tqdm(map(function, rows), **show))
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawned) as pool:
        return list(tqdm(pool.map(function, rows, chunksize=CHUNK), **show))
