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
from got_jax.data.letters import CELL_LETTERS, NOWHERE, letter_labels, no_letters, place_labels
from got_jax.errors import GotError
from got_jax.prompts import IMG_PAD
from got_jax.tokenizers import load_tokenizer
from got_jax.train.letters import init_heads, letter_losses, place_losses
from got_jax.train.lora import LoraConfig, init_lora
from got_jax.train.step import LossConfig, Training, loss_fn
from pipelines.documents import Documents


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("sentencepiece", NANO)


def labelled(config, tokenizer, count: int):
    """Samples of one line, with the labels of their letters."""
    engine = Documents(pages=0, max_lines=1, line_chars=(4, 8), effects=False)
    return [encode_example(engine.example(0, i), tokenizer, config, letters=True) for i in range(count)]


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


def test_each_token_knows_the_cell_of_the_letter_that_comes_next(tokenizer):
    # A grid of 8: two cells in a row. A space and a line break wait for the next letter; the Hebrew one is two bytes.
    middles = np.array([[0.1, 0.1], [0.7, 0.2], [0.2, 0.9], [0.9, 0.8]], np.float32)
    letters = Letters("ab\u05d0d", np.concatenate([middles - 0.01, middles + 0.01], axis=1))
    text = "a b\n\u05d0d"
    length = len(tokenizer.encode(text)) + 1
    assert length == 8
    assert place_labels(text, length, letters, tokenizer, 8) == [0, 1, 1, 2, 2, 2, 3, NOWHERE]
    assert place_labels(text + "e", length + 1, letters, tokenizer, 8) == [NOWHERE] * 9, "other letters"
    assert place_labels(text, length - 1, letters, tokenizer, 8) == [NOWHERE] * 7, "other tokens"


def test_a_tokenizer_of_words_has_no_places(qwen):
    text = "several words"
    letters = Letters("severalwords", np.zeros((12, 4), np.float32))
    length = len(qwen.encode(text)) + 1
    assert place_labels(text, length, letters, qwen, 8) == [NOWHERE] * length


def test_places_are_those_of_the_rows_picture_tokens(tiny, tokenizer):
    first, second = labelled(tiny, tokenizer, 2)
    unlabelled = dataclasses.replace(second, letters=None, places=None)
    sizes = tiny.encoder.image_px, tokenizer.special[IMG_PAD]
    batch = pack([[first], [first, unlabelled, second]], 192, 4, *sizes, no_letters(tiny.encoder.grid))
    assert batch.places is not None
    for row, segment, picture, sample in ((0, 1, 0, first), (1, 1, 0, first), (1, 3, 2, second)):
        assert sample.places is not None
        counted = (batch.segments[row] == segment) & (batch.weights[row] > 0)
        own = [p + picture * tiny.encoder.image_tokens if p != NOWHERE else NOWHERE for p in sample.places]
        assert batch.places[row, counted].tolist() == own
        assert max(sample.places) < tiny.encoder.image_tokens
        assert (np.diff(own[:-1]) >= 0).all(), "one line is read to the right"
    of_answers = (batch.weights > 0) & ((batch.segments != 2) | (np.arange(2) == 0)[:, None])
    assert (batch.places[~of_answers] == NOWHERE).all()


def test_the_loss_of_places_against_a_naive_one(tiny, tokenizer):
    """Token by token: the softmax over the picture's own tokens only, heads in the mean, blocks of the second half."""
    samples = labelled(tiny, tokenizer, 3)
    sizes = tiny.encoder.image_px, tokenizer.special[IMG_PAD]
    batch = pack([samples[:2], samples[2:]], 144, 2, *sizes, no_letters(tiny.encoder.grid))
    assert batch.places is not None
    rng = np.random.default_rng(0)
    q = rng.normal(size=(3, 2, 144, 4, 8)).astype(np.float32)
    k = rng.normal(size=(3, 2, 144, 2, 8)).astype(np.float32)
    nll, right = [], []
    for layer in (1, 2):
        for row, column in zip(*np.nonzero(batch.places != NOWHERE), strict=True):
            shown = np.flatnonzero(batch.is_image[row])
            own = shown[batch.segments[row, shown] == batch.segments[row, column]]
            scores = np.einsum("hc,mhc->hm", q[layer, row, column], np.repeat(k[layer, row, own], 2, axis=1))
            looks = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
            letter = list(own).index(shown[batch.places[row, column]])
            nll.append(-np.log(looks.mean(0)[letter]))
            right.append(looks.mean(0).argmax() == letter)
    found = jax.jit(lambda q, k: place_losses(q, k, batch, tiny.encoder.image_tokens))(q, k)
    np.testing.assert_allclose(found["places"], np.mean(nll), rtol=1e-5)
    np.testing.assert_allclose(found["place_accuracy"], np.mean(right), rtol=1e-5)


def test_places_are_asked_of_adapted_models_too(tiny, tiny_params, tokenizer):
    sizes = tiny.encoder.image_px, tokenizer.special[IMG_PAD]
    batch = pack([labelled(tiny, tokenizer, 1)], 96, 1, *sizes, no_letters(tiny.encoder.grid))
    training = Training(tiny, LossConfig(places=0.5), LoraConfig(rank=2))
    params = {**tiny_params, "lora": init_lora(training.lora, tiny, jax.random.key(1))}
    assert jax.eval_shape(lambda: loss_fn(training, params, batch)[1])["places"].shape == ()


def test_labels_stand_beside_their_pictures(tiny, tokenizer):
    """Packing reorders samples; labels of one picture must not land on another."""
    samples = labelled(tiny, tokenizer, 5)
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
    batch = pack([[]], 8, 1, 16, 0)
    with pytest.raises(GotError, match=r"set losses\.places to 0"):
        place_losses(jnp.zeros(1), jnp.zeros(1), batch, 9)
    with pytest.raises(GotError, match=r"losses\.text is 0"):
        LossConfig(text=0, patches=1, places=1)
    with pytest.raises(GotError, match="up to 16,384 entries, and this one has 151,860"):
        init_heads(got_580m(), jax.random.key(0))
