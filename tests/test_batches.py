"""Packing and lanes: every token once, every example once, targets in place, pictures beside their rows."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from got_jax import prompts
from got_jax.data.batches import Sample, encode_example, pack
from got_jax.data.example import Example
from got_jax.data.lanes import BAD, CARRY, NEXT, NOTHING, SET_ASIDE, Bad, Draws, Lanes, check_share, fill, new_state
from got_jax.errors import GotError

PAD = 99
BLANK = np.zeros((4, 4, 3), np.uint8)


def a_sample(name: int, prompt: int, answer: int, pictures: int = 1) -> Sample:
    return Sample([name] * prompt, [100 + name] * answer, (np.full_like(BLANK, name),) * pictures)


@given(lengths=st.lists(st.tuples(st.integers(2, 12), st.integers(1, 12)), min_size=1, max_size=12))
def test_packing_keeps_every_token(lengths):
    samples = [a_sample(i + 1, prompt, answer) for i, (prompt, answer) in enumerate(lengths)]
    rows = [samples[i : i + 3] for i in range(0, len(samples), 3)]
    batch = pack(rows, 72, 4, 4, PAD)
    assert batch.images.shape == (4 * len(rows), 4, 4, 3)
    seen = []
    for row in range(len(batch.tokens)):
        places = batch.images[4 * row : 4 * row + 4, 0, 0, 0].tolist()
        order = []
        for segment in range(1, batch.segments[row].max() + 1):
            here = batch.segments[row] == segment
            ids = [*batch.tokens[row, here], batch.targets[row, here][-1]]
            name = ids[0]
            prompt, answer = lengths[name - 1]
            assert ids == [name] * prompt + [100 + name] * answer
            assert batch.targets[row, here].tolist() == ids[1:]
            assert batch.positions[row, here].tolist() == list(range(prompt + answer - 1))
            assert batch.weights[row, here].tolist() == [0] * (prompt - 1) + [1] * answer
            order.append(name)
        assert places == order + [0] * (4 - len(order)), "pictures stand in the order of their samples"
        assert batch.pictures[row] == len(order)
        seen += order
    assert seen == list(range(1, len(lengths) + 1))
    assert (batch.weights[batch.segments == 0] == 0).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(GotError, match="29 tokens and 1 pictures exceeds"):
        pack([[a_sample(1, 20, 10)]], 24, 4, 4, PAD)
    with pytest.raises(GotError, match="3 pictures exceeds"):
        pack([[a_sample(1, 2, 1)] * 3], 64, 2, 4, PAD)


@settings(max_examples=200)
@given(
    st.lists(st.one_of(st.none(), st.tuples(st.integers(1, 20), st.integers(0, 3))), min_size=30, max_size=120).filter(
        lambda draws: sum(d is None for d in draws) < len(draws) // 2
    )
)
def test_a_lane_reads_each_draw_once_and_in_order_but_for_what_it_sets_aside(draws):
    def draw(number):
        size = draws[number % len(draws)]
        if size is None:
            return Bad(f"number {number}")
        return Sample([number], [0] * size[0], (BLANK,) * size[1])  # `size[0]` tokens

    state, read, bad = new_state(1)[0], [], []
    for _ in range(12):
        before = state.copy()
        row, state, reasons = fill(state, draw, row_tokens=20, row_pictures=3)
        assert sum(s.length for s in row) <= 20
        assert sum(len(s.pictures) for s in row) <= 3
        assert len(row) >= 1
        again, _, _ = fill(before, draw, 20, 3)
        assert [s.prompt for s in again] == [s.prompt for s in row], "a row is a function of the lane's state"
        read += [s.prompt[0] for s in row]
        bad += reasons
    waiting = [i for i in state[SET_ASIDE] if i != NOTHING]
    wrong = [int(reason.split()[-1]) for reason in bad]
    assert sorted([*read, *waiting, *wrong]) == list(range(state[NEXT])), "none lost, none doubled"
    assert state[BAD] == len(bad)
    assert len(waiting) <= CARRY


@dataclass(frozen=True)
class Words:
    """A toy engine: the index in digits; index 3 is damaged, index 5 too long, index 6 makes the engine fail."""

    name: str = "words"

    def example(self, seed: int, index: int) -> Example:
        if index == 6:
            raise ZeroDivisionError("a slip")
        buffer = io.BytesIO()
        Image.new("RGB", (9, 9), (index, 0, 0)).save(buffer, "PNG")
        text = "x " * 300 if index == 5 else f"{seed} {index}"
        return Example((buffer.getvalue() if index != 3 else b"",), prompts.PLAIN, text)


def lanes(tiny, pieces, mine=(0, 1), state=None, workers=0) -> Lanes:
    draws = Draws(Words(), pieces, tiny, seed=7, row_tokens=128, row_pictures=2)
    return Lanes(draws, 2, mine, new_state(2) if state is None else state, workers)


def texts(batch, pieces) -> list[list[str]]:
    return [
        [
            pieces.decode(batch.targets[row, (batch.segments[row] == segment) & (batch.weights[row] > 0)])
            for segment in range(1, batch.segments[row].max() + 1)
        ]
        for row in range(len(batch.tokens))
    ]


def test_bad_examples_are_counted_and_named(tiny, pieces):
    made = lanes(tiny, pieces).batches()
    (first, _, none), (second, state, reasons) = next(made), next(made)
    assert texts(first, pieces) == [["7 0", "7 2"], ["7 1", "7 7"]]
    assert texts(second, pieces) == [["7 4", "7 8"], ["7 9", "7 11"]]
    assert [r.partition(":")[0] for r in none] == ["words (seed 7, index 3)", "words (seed 7, index 5)"]
    assert "example is empty" in none[0]
    assert "do not fit a row of 128 and 2" in none[1]
    assert reasons == ["words (seed 7, index 6): ZeroDivisionError: a slip"]
    assert state[:, BAD].tolist() == [1, 2]
    with pytest.raises(GotError, match=r"3 of 100 training examples are bad, more than data.max_bad 1.0%; bad.log"):
        check_share(3, 100, 0.01, "bad.log")
    check_share(3, 99, 0.01, "bad.log")
    check_share(1, 100, 0.01, "bad.log")


def test_slips_are_the_draws_own(tiny, pieces):
    true = Draws(Words(), pieces, tiny, seed=7, row_tokens=128, row_pictures=2)
    draws = dataclasses.replace(true, slips=1.0)
    for index in (0, 1, 2):
        sample, again = draws(index), draws(index)
        assert isinstance(sample, Sample)
        assert isinstance(again, Sample)
        assert (sample.answer, sample.targets) == (again.answer, again.targets)
        assert sample.answer != sample.targets, "a slip at every token"
        assert sample.targets
        assert sample.targets[-1] == pieces.special[prompts.IM_END]
    plain = true(0)
    assert isinstance(plain, Sample)
    assert plain.targets is None


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_go_on_from_any_state_whoever_makes_them(tiny, pieces, workers):
    whole = lanes(tiny, pieces)
    made = whole.batches()
    next(made)
    _, state, _ = next(made)
    expected = [next(made)[0] for _ in range(2)]
    resumed, alone = lanes(tiny, pieces, state=state, workers=workers), lanes(tiny, pieces, (1,), state)
    try:
        for batch, (got, _, _), (mine, _, _) in zip(expected, resumed.batches(), alone.batches(), strict=False):
            for a, b, c in zip(batch[:-2], got[:-2], mine[:-2], strict=True):  # no labels
                np.testing.assert_array_equal(a, b)
                np.testing.assert_array_equal(a[len(a) // 2 :], c, err_msg="lane 1 alone fills row 1")
    finally:
        resumed.close()


def test_examples_are_encoded_by_the_rules_of_prompts(tiny, pieces):
    sample = encode_example(Words().example(1, 2), pieces, tiny)
    assert sample.prompt == prompts.prompt_ids(pieces, "OCR: ", 9)
    assert sample.answer == prompts.answer_ids(pieces, "1 2")
    assert sample.pictures[0].shape == (96, 96, 3)
    assert (sample.pictures[0][..., 0] == 2).all()
