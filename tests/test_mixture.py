"""Mixtures: shares, epochs, and names."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from got_jax.data.example import Example
from got_jax.data.mixture import Mixture, names, place_at
from got_jax.errors import GotError


@dataclass(frozen=True)
class Live:
    name: str

    def example(self, seed: int, index: int) -> Example:
        return Example((), "", f"{self.name} {seed} {index}")


@dataclass(frozen=True)
class Finite(Live):
    count: int = 5

    def __len__(self) -> int:
        return self.count


def test_shares_hold_over_any_stretch():
    mixture = Mixture(((Live("a"), 3.0), (Mixture(((Live("b"), 1.0), (Finite("c"), 1.0))), 1.0)))
    assert names(mixture) == ("a", "b", "c")
    for start in (0, 1000, 10**8):
        found = Counter(place_at(mixture, 0, i).source for i in range(start, start + 80))
        assert found == {0: 60, 1: 10, 2: 10}
    places = [place_at(mixture, 0, i) for i in range(400)]
    assert [p.index for p in places if p.source == 0] == list(range(300)), "an engine's examples come in order"


def test_a_finite_engine_is_read_whole_in_a_new_order_every_epoch():
    epochs = [tuple(place_at(Finite("c", 9), 1, 9 * e + i).index for i in range(9)) for e in range(4)]
    assert all(sorted(epoch) == list(range(9)) for epoch in epochs)
    assert len(set(epochs)) == 4


def test_the_same_engine_twice_draws_other_examples():
    mixture = Mixture(((Live("a"), 1.0), (Live("a"), 1.0)))
    assert names(mixture) == ("a", "a_2")
    assert len({mixture.example(0, i).text for i in range(100)}) == 100


def test_weights_must_be_above_zero():
    with pytest.raises(GotError, match="engine a has weight 0; give one above 0"):
        Mixture(((Live("a"), 0),))
    with pytest.raises(GotError, match="at least one"):
        Mixture(())
