"""Which engine's which example stands at index i of a run: weights, epochs and orders, by Grain."""

from __future__ import annotations

import functools
from collections.abc import Sized
from dataclasses import dataclass
from typing import Any, NamedTuple

import grain

from got_jax.data.example import Engine, Example
from got_jax.errors import require

ENDLESS = 2**31 - 1


@dataclass(frozen=True)
class Mixture:
    """Engines with the share that each has of the examples; a part may be a mixture itself.

    Every index has its engine: shares hold over any stretch of indices, not only on average.
    """

    parts: tuple[tuple[Engine, float], ...]

    def __post_init__(self) -> None:
        require(bool(self.parts), "a mixture needs at least one (engine, weight) pair.")
        for engine, weight in self.parts:
            require(weight > 0, f"engine {engine_name(engine)} has weight {weight}; give one above 0, or leave it out.")

    def example(self, seed: int, index: int) -> Example:
        place = place_at(self, seed, index)
        return place.engine.example(place.seed, place.index)


class Place(NamedTuple):
    """One example of a run: its engine (number among `leaves`), and the engine's own seed and index."""

    source: int
    engine: Engine
    seed: int
    index: int


@dataclass(frozen=True)
class _Leaf:
    """An engine's places as a Grain source."""

    source: int
    engine: Engine
    seed: int

    def __len__(self) -> int:
        return len(self.engine) if isinstance(self.engine, Sized) else ENDLESS

    def __getitem__(self, index: int) -> Place:  # type: ignore[override]
        return Place(self.source, self.engine, self.seed, int(index))


def leaves(engine: Engine) -> list[Engine]:
    """The engines of a mixture of mixtures, in order."""
    if isinstance(engine, Mixture):
        return [leaf for part, _ in engine.parts for leaf in leaves(part)]
    return [engine]


def engine_name(engine: Engine) -> str:
    return getattr(engine, "name", "") or type(engine).__name__.lower()


def names(engine: Engine) -> tuple[str, ...]:
    """A name for each of the `leaves`; a second one of the same name gets a number."""
    found: list[str] = []
    for leaf in leaves(engine):
        name, number = engine_name(leaf), 2
        while name in found:
            name, number = f"{engine_name(leaf)}_{number}", number + 1
        found.append(name)
    return tuple(found)


def place_at(engine: Engine, seed: int, index: int) -> Place:
    """Example `index` of a run. Finite engines are shuffled anew each epoch; nothing is drawn twice in one."""
    place = _ordered(engine, seed)[index]
    assert place is not None  # Grain's datasets may filter; these do not
    return place


@functools.lru_cache(maxsize=16)
def _ordered(engine: Engine, seed: int) -> grain.MapDataset[Place]:
    numbers = iter(range(len(leaves(engine))))

    def made(part: Engine) -> grain.MapDataset[Any]:
        if isinstance(part, Mixture):
            parents = [made(inner) for inner, _ in part.parts]
            return grain.MapDataset.mix(parents, weights=[weight for _, weight in part.parts])
        number = next(numbers)
        dataset = grain.MapDataset.source(_Leaf(number, part, seed + number))  # type: ignore[arg-type]
        return dataset.shuffle(seed=seed + number).repeat() if isinstance(part, Sized) else dataset

    return made(engine)
