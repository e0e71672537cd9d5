"""Examples that can fail to be drawn: the next sub-seed is tried, and how often that was is told."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable

import numpy as np

from got_jax.data.example import Example
from got_jax.errors import GotError

MOST = 20


class Unusable(GotError):
    """What a draw came upon cannot be made a picture of; another draw can."""


def generator(name: str, seed: int, index: int, turn: int = 0) -> np.random.Generator:
    """The numbers of an engine's example; a redrawn one has a `turn` above 0."""
    key = [zlib.crc32(name.encode()), seed, index]
    return np.random.default_rng([*key, turn] if turn else key)


def first_usable(name: str, seed: int, index: int, make: Callable[[np.random.Generator], Example]) -> Example:
    """The first example that `make` does not refuse with `Unusable`; `meta["redrawn"]` says how many it did.

    Raises:
        GotError: when it refuses `MOST` in a row, with the last reason.
    """
    for turn in range(MOST):
        try:
            example = make(generator(name, seed, index, turn))
        except Unusable as err:
            last = err
            continue
        return dataclasses.replace(example, meta={**example.meta, "redrawn": turn}) if turn else example
    raise GotError(f"{name}: {MOST} draws in a row cannot be used, the last: {last}")
