"""Slips: what the decoder is given goes astray, what it is to answer never does."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from got_jax.data.batches import UNCOUNTED, Sample, pack
from got_jax.data.letters import NOWHERE
from got_jax.data.slips import with_slips

END = 1000


def slipped(length: int, rate: float, seed: int = 0) -> Sample:
    """A sample whose answer counts up, so that an id tells its place."""
    return with_slips(Sample([5, 6], [*range(length), END], ()), rate, np.random.default_rng(seed))


@given(length=st.integers(0, 60), rate=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_targets_go_through_the_truth_in_order_to_its_end(length, rate, seed):
    sample = slipped(length, rate, seed)
    assert sample.prompt == [5, 6]
    assert sample.targets
    assert len(sample.answer) == len(sample.targets)
    assert set(sample.answer) <= {*range(length), END}
    assert sample.answer[-1] == END
    counted = [target for target in sample.targets if target != UNCOUNTED]
    assert counted == sorted(counted), "never back"
    assert counted[0] == (0 if length else END)
    assert counted[-1] == END


@given(length=st.integers(1, 60), rate=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_places_go_with_the_targets(length, rate, seed):
    places = [100 + i for i in range(length + 1)]
    whole = Sample([5, 6], [*range(length), length], (), places=places)
    sample = with_slips(whole, rate, np.random.default_rng(seed))
    assert sample.places == [t + 100 if t != UNCOUNTED else NOWHERE for t in sample.targets or []]


def test_without_slips_nothing_changes():
    assert slipped(50, 0.0).answer == slipped(50, 0.0).targets == [*range(50), END]


def test_all_three_kinds_come_and_as_often_as_asked():
    samples = [slipped(300, 0.015, seed) for seed in range(60)]
    wrong = again = left_out = given = right = follows = 0
    for sample in samples:
        given += len(sample.answer)
        places = zip(sample.answer, sample.targets or [], strict=True)
        wrong += sum(token not in (target, END) for token, target in places)
        again += sum(len(v) > 1 for v in _repeats(sample.answer))
        pairs = [*zip(sample.answer, sample.targets or [], strict=True), (END, END)]
        pairs = [(b[1], a[0] + 1) for a, b in itertools.pairwise(pairs) if a[0] == a[1] < 299]
        right, follows = right + len(pairs), follows + sum(target == next_one for target, next_one in pairs)
        left_out += len(set(range(300)) - set(sample.answer))
    assert 0.05 < wrong / given < 0.08, "6%, as docs/nano.md says"
    assert again
    assert left_out
    assert follows > 0.95 * right, "after a right token comes the next one, but before a repetition"


def _repeats(ids: list[int]) -> list[list[int]]:
    return [[i for i, other in enumerate(ids) if other == token] for token in set(ids)]


def test_a_packed_row_holds_the_targets_and_leaves_the_uncounted_ones_out():
    sample = dataclasses.replace(slipped(4, 0.0), answer=[0, 1, 1, 1, 2, END], targets=[0, 1, 2, UNCOUNTED, 2, END])
    batch = pack([[sample]], 8, 1, 4, 99)
    assert batch.tokens[0].tolist() == [5, 6, 0, 1, 1, 1, 2, 0]
    assert batch.targets[0].tolist() == [6, 0, 1, 2, 0, 2, END, 0]
    assert batch.weights[0].tolist() == [0, 1, 1, 1, 0, 1, 1, 0]
