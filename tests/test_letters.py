"""Labels of the letters lesson against literal expectations; which losses train which parts."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import NANO

from got_jax.config import got_580m
from got_jax.data.batches import encode_example, pack
from got_jax.data.example import Letters
from got_jax.data.letters import CELL_LETTERS, letter_labels, no_letters
from got_jax.errors import GotError
from got_jax.prompts import IMG_PAD
from got_jax.tokenizers import load_tokenizer
from got_jax.train.letters import init_heads, letter_losses
from got_jax.train.step import LossConfig
from pipelines.documents import Documents


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("sentencepiece", NANO)


def test_a_patch_is_named_by_the_letter_over_its_middle_and_a_cell_by_its_letters_in_order(tokenizer):
    # A grid of 8: patches are 1/8 wide with middles at odd sixteenths, cells are halves.
    boxes = np.array(
        [[0.0, 0.0, 0.25, 0.25], [0.26, 0.0, 0.3, 0.25], [0.5, 0.0, 0.6, 0.25], [0.1, 0.6, 0.2, 1.2]], np.float32
    )
    labels = letter_labels(Letters("abca", boxes), tokenizer, 8)
    a, b, c = (tokenizer.encode(ch)[0] for ch in "abc")
    assert [tokenizer.decode([i]) for i in (a, b, c)] == ["a", "b", "c"]
    patches = np.zeros((8, 8), int)
    patches[0:2, 0:2] = a
    patches[0:2, 4] = c
    patches[5:8, 1] = a  # b is too narrow to hold a middle; a box may leave the picture
    np.testing.assert_array_equal(labels.patches, patches)
    assert [row[row > 0].tolist() for row in labels.cells] == [[a, b], [c], [a], []]


def test_a_crowded_cell_keeps_its_first_letters(tokenizer):
    text = "abcdefghijklmnop"
    labels = letter_labels(Letters(text, np.tile([[0, 0, 0.1, 0.1]], (16, 1)).astype(np.float32)), tokenizer, 4)
    assert labels.cells.tolist() == [[tokenizer.encode(ch)[0] for ch in text[:CELL_LETTERS]]]


def test_labels_stand_beside_their_pictures(tiny, tokenizer):
    """Packing reorders samples; labels of one picture must not land on another."""
    engine = Documents(pages=0, max_lines=1, line_chars=(4, 8), effects=False)
    samples = [encode_example(engine.example(0, i), tokenizer, tiny, letters=True) for i in range(5)]
    unlabelled = dataclasses.replace(samples[4], letters=None)
    sizes = tiny.encoder.image_px, tokenizer.special[IMG_PAD]
    batch = pack([samples[:2], [*samples[2:4], unlabelled]], 192, 4, *sizes, no_letters(tiny.encoder.grid))
    assert batch.letters is not None
    for sample in samples[:4]:
        at = [i for i in range(8) if (batch.images[i] == sample.pictures[0]).all()]
        assert len(at) == 1
        assert sample.letters is not None
        np.testing.assert_array_equal(batch.letters.patches[at[0]], sample.letters.patches)
        np.testing.assert_array_equal(batch.letters.cells[at[0]], sample.letters.cells)
    left = [i for i in range(8) if (batch.images[i] == unlabelled.pictures[0]).all()]
    assert not batch.letters.cells[left[0]].any()
    assert not batch.letters.cells[[2, 3, 7]].any(), "empty places are blank paper"
    assert pack([[unlabelled]], 64, 1, *sizes).letters is None


def test_what_the_losses_train():
    assert LossConfig().trained == ("encoder", "connector", "decoder")
    assert LossConfig(text=0, patches=1).trained == ("encoder", "connector", "letters")
    assert LossConfig(cells=1).trained == ("encoder", "connector", "decoder", "letters")
    for text in (0.0, -1.0):
        with pytest.raises(GotError, match="give one above 0"):
            LossConfig(text=text)
    with pytest.raises(GotError, match="does not know where its letters stand"):
        letter_losses({}, jnp.zeros(1), jnp.zeros(1), None)
    with pytest.raises(GotError, match="up to 16,384 entries, and this one has 151,860"):
        init_heads(got_580m(), jax.random.key(0))
