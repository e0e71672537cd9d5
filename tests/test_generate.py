"""Decoding against one slow, obvious loop; batches against single rows; limits and refusals."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from got_jax.errors import GotError
from got_jax.generate import DecodeConfig, bucket, generate, repeats
from got_jax.models.got import apply

PAD, STOPS = 511, (1, 2)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (96, 96, 3), np.uint8)


@functools.partial(jax.jit, static_argnums=0)
def next_logits(config, params, tokens, is_image, images, length):
    """Scores after the first `length` tokens of one row, by a pass over the whole row without a cache."""
    rows = jnp.zeros(len(images), jnp.int32)
    positions = jnp.arange(tokens.shape[1])[None]
    hidden = apply(config, params, tokens, is_image, images, rows, positions, jnp.ones_like(tokens))
    return apply(config, params, hidden[0, length - 1], method="logits")


def slow_greedy(config, params, prompt, pictures, new, ngram=0):
    """The whole sequence again for every token, with no cache."""
    ids, logprobs = list(prompt), []
    is_image = jnp.array([[i < len(prompt) and prompt[i] == PAD for i in range(64)]])
    for _ in range(new):
        tokens = jnp.array([ids + [0] * (64 - len(ids))])
        logits = np.array(next_logits(config, params, tokens, is_image, np.stack(pictures), len(ids)))
        if ngram:
            tail = tuple(ids[-(ngram - 1) :]) if ngram > 1 else ()
            for i in range(len(ids) - ngram + 1):
                if tuple(ids[i : i + ngram - 1]) == tail:
                    logits[ids[i + ngram - 1]] = -np.inf
        token = int(logits.argmax())
        logprobs.append(float(jax.nn.log_softmax(logits)[token]))
        if token in STOPS:
            break
        ids.append(token)
    return ids[len(prompt) :], logprobs


def prompts_of(*pictures: int) -> list[list[int]]:
    return [[5 + n, *[PAD] * (9 * n), 7, 9, 11, *range(20, 20 + 3 * n)] for n in pictures]


def run(config, params, prompts, counts, **options):
    images = np.stack([picture(row * 10 + i) for row, n in enumerate(counts) for i in range(n)])
    rows = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return generate(config, params, prompts, images, rows, PAD, STOPS, DecodeConfig(**options))


@pytest.mark.parametrize("ngram", [0, 1, 3])
def test_decoding_equals_the_slow_loop(tiny, tiny_params, ngram):
    [prompt] = prompts_of(1)
    [got] = run(tiny, tiny_params, [prompt], [1], max_new_tokens=12, no_repeat_ngram_size=ngram)
    ids, logprobs = slow_greedy(tiny, tiny_params, prompt, [picture(0)], 12, ngram)
    assert got.tokens == ids
    np.testing.assert_allclose(got.logprobs, logprobs, atol=1e-4)


def test_unequal_rows_of_a_batch_read_as_they_read_alone(tiny, tiny_params):
    counts = [1, 3, 2]
    prompts = prompts_of(*counts)
    together = run(tiny, tiny_params, prompts, counts, max_new_tokens=10)
    for row, (prompt, count) in enumerate(zip(prompts, counts, strict=True)):
        ids, _ = slow_greedy(tiny, tiny_params, prompt, [picture(row * 10 + i) for i in range(count)], 10)
        assert together[row].tokens == ids


def test_a_stop_mark_ends_its_row_only(tiny, tiny_params):
    prompts = prompts_of(1, 2)
    free = run(tiny, tiny_params, prompts, [1, 2], max_new_tokens=8)
    stop = free[0].tokens[3]
    images = np.stack([picture(0), picture(10), picture(11)])
    rows = np.array([0, 1, 1], np.int32)
    first, second = generate(tiny, tiny_params, prompts, images, rows, PAD, (stop,), DecodeConfig(8))
    assert first.stopped
    assert first.tokens == free[0].tokens[: free[0].tokens.index(stop)]
    assert len(first.logprobs) == len(first.tokens) + 1
    if stop not in free[1].tokens:
        assert not second.stopped
        assert second.tokens == free[1].tokens


def test_an_answer_is_cut_at_the_context(tiny, tiny_params):
    config = dataclasses.replace(tiny, decoder=dataclasses.replace(tiny.decoder, context_tokens=40))
    [prompt] = prompts_of(1)
    [got] = run(config, tiny_params, [prompt], [1], max_new_tokens=4096)
    assert len(prompt) + len(got.logprobs) <= 40
    assert not got.stopped


def test_a_prompt_beyond_the_context_is_refused(tiny, tiny_params):
    with pytest.raises(GotError, match="a prompt of 364 tokens, which does not fit the model's context of 256 tokens"):
        run(tiny, tiny_params, prompts_of(30), [30])


@pytest.mark.parametrize("options", [{"max_new_tokens": 0}, {"no_repeat_ngram_size": -1}, {"cache": "int4"}])
def test_bad_limits_are_refused(options):
    with pytest.raises(GotError):
        DecodeConfig(**options)


@given(tokens=st.integers(1, 40_000))
def test_buckets_hold_their_tokens_and_waste_little(tokens):
    size = bucket(tokens)
    assert size >= tokens
    assert size - tokens < max(32, size / 8)
    assert bucket(size) == size


@given(
    rows=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=3),
    ngram=st.integers(1, 4),
)
@settings(max_examples=60)
def test_banned_tokens_against_a_plain_search(rows, ngram):
    history = np.zeros((len(rows), 13), np.int32)
    for r, row in enumerate(rows):
        history[r, : len(row)] = row
    got = repeats(jnp.array(history), jnp.array([len(r) for r in rows]), ngram, 4)
    for r, row in enumerate(rows):
        grams = {tuple(row[i : i + ngram]) for i in range(len(row) - ngram + 1)}
        tail = row[len(row) - ngram + 1 :]
        expected = [len(tail) == ngram - 1 and (*tail, t) in grams for t in range(4)]
        assert got[r].tolist() == expected
