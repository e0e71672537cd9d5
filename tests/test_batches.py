"""Packing: every token once, targets and weights in place, pictures beside their rows."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from got_jax import prompts
from got_jax.data.batches import Sample, encode_example, pack
from got_jax.data.example import Example
from got_jax.data.sources import BatchSource, batches
from got_jax.errors import GotError

PAD = 99
BLANK = np.zeros((4, 4, 3), np.uint8)


@given(lengths=st.lists(st.tuples(st.integers(2, 12), st.integers(1, 12)), min_size=1, max_size=12))
def test_packing_keeps_every_token(lengths):
    samples = [
        Sample([i + 1] * prompt, [100 + i] * answer, (np.full_like(BLANK, i + 1),))
        for i, (prompt, answer) in enumerate(lengths)
    ]
    batch = pack(samples, 24, 16, 4, PAD, rows_multiple=2)
    assert len(batch.tokens) % 2 == 0
    seen = []
    for row in range(len(batch.tokens)):
        pictures = [int(p[0, 0, 0]) for p, r in zip(batch.images, batch.image_rows, strict=True) if r == row]
        order = []
        for segment in range(1, batch.segments[row].max() + 1):
            here = batch.segments[row] == segment
            ids = [*batch.tokens[row, here], batch.targets[row, here][-1]]
            name = ids[0]
            prompt, answer = lengths[name - 1]
            assert ids == [name] * prompt + [99 + name] * answer
            assert batch.targets[row, here].tolist() == ids[1:]
            assert batch.positions[row, here].tolist() == list(range(prompt + answer - 1))
            assert batch.weights[row, here].tolist() == [0] * (prompt - 1) + [1] * answer
            order.append(name)
        assert order == pictures, "pictures stand in the order of their samples"
        seen += order
    assert sorted(seen) == list(range(1, len(lengths) + 1))
    assert (batch.weights[batch.segments == 0] == 0).all()
    assert (np.diff(batch.image_rows) >= 0).all()


def test_what_does_not_fit_is_refused():
    sample = Sample([1] * 20, [2] * 10, (BLANK,))
    with pytest.raises(GotError, match="29 tokens does not fit a row of 24"):
        pack([sample], 24, 4, 4, PAD)
    with pytest.raises(GotError, match="3 pictures exceeds"):
        pack([sample] * 3, 64, 2, 4, PAD)


class Words:
    """A toy engine: the index in digits; index 3 is damaged, index 5 too long."""

    def example(self, seed: int, index: int) -> Example:
        buffer = io.BytesIO()
        Image.new("RGB", (9, 9), (index, 0, 0)).save(buffer, "PNG")
        text = "x " * 300 if index == 5 else f"{seed} {index}"
        return Example((buffer.getvalue() if index != 3 else b"",), prompts.PLAIN, text)


def source(tiny, pieces) -> BatchSource:
    return BatchSource(Words(), pieces, tiny, seed=7, pictures=4, row_tokens=64, rows_multiple=2, steps=5)


def texts(batch, pieces) -> list[str]:
    found = []
    for row in range(len(batch.tokens)):
        for segment in range(1, batch.segments[row].max() + 1):
            here = (batch.segments[row] == segment) & (batch.weights[row] > 0)
            found.append(pieces.decode(batch.targets[row, here]))
    return sorted(found)


def test_bad_and_long_examples_are_named_and_left_out(tiny, pieces, caplog):
    found = [texts(source(tiny, pieces)[step], pieces) for step in range(2)]
    assert found == [["7 0", "7 1", "7 2"], ["7 4", "7 6", "7 7"]]
    assert "index 3) is left out: example is empty" in caplog.text
    assert "index 5) is left out" in caplog.text
    assert "do not fit a row of 64" in caplog.text


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_from_any_step(tiny, pieces, workers):
    made = source(tiny, pieces)
    stream = batches(made, 2, workers)
    for step in (2, 3, 4):
        for got, expected in zip(next(stream), made[step], strict=True):
            np.testing.assert_array_equal(got, expected)
    with pytest.raises(StopIteration):
        next(stream)


def test_examples_are_encoded_by_the_rules_of_prompts(tiny, pieces):
    sample = encode_example(Words().example(1, 2), pieces, tiny)
    assert sample.prompt == prompts.prompt_ids(pieces, "OCR: ", 9)
    assert sample.answer == prompts.answer_ids(pieces, "1 2")
    assert sample.pictures[0].shape == (96, 96, 3)
    assert (sample.pictures[0][..., 0] == 2).all()
