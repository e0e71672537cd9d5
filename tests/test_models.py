"""The model against naive references: windows, relative positions, convolutions, rotary positions, the cache."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from got_jax.config import EncoderConfig
from got_jax.models.got import abstract_params, apply, normalise_pixels, place_images
from got_jax.models.qwen2 import empty_cache, rotary
from got_jax.models.vitdet import EncoderBlock, merge_windows, partition_windows
from got_jax.ops.attention import Spans, attention, plain_attention
from got_jax.ops.conv import conv3x3


def naive_relative_attention(x, p, heads, side):
    """SAM's attention, written cell by cell: scaled q.k plus the unscaled q's product with both tables."""
    cells, width = x.shape
    c = width // heads
    qkv = (x @ p["qkv"]["kernel"] + p["qkv"]["bias"]).reshape(cells, 3, heads, c)
    out = np.zeros((cells, heads, c))
    for head in range(heads):
        q, k, v = qkv[:, 0, head], qkv[:, 1, head], qkv[:, 2, head]
        scores = np.zeros((cells, cells))
        for i in range(cells):
            for j in range(cells):
                dh, dw = i // side - j // side, i % side - j % side
                bias = q[i] @ p["rel_pos_h"][dh + side - 1] + q[i] @ p["rel_pos_w"][dw + side - 1]
                scores[i, j] = q[i] @ k[j] * c**-0.5 + bias
        weights = np.exp(scores - scores.max(1, keepdims=True))
        out[:, head] = weights / weights.sum(1, keepdims=True) @ v
    return out.reshape(cells, width) @ p["proj"]["kernel"] + p["proj"]["bias"]


@pytest.mark.parametrize("window", [0, 3, 4])
def test_block_attention_against_a_naive_one(window):
    """Window 3 pads the grid of 8 to 9: padded cells are zeros after the norm and do take part."""
    config = EncoderConfig(image_px=64, patch_px=8, width=12, depth=2, heads=2, mlp_width=16, window=3, global_every=2)
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 12))
    block = EncoderBlock(config, window)
    params = block.init(jax.random.key(1), x)["params"]
    params = jax.tree.map(lambda v: v + 0.3 * jax.random.normal(jax.random.key(v.size), v.shape), params)
    params = jax.tree.map(
        lambda v: v.value if hasattr(v, "value") else v, params, is_leaf=lambda v: hasattr(v, "value")
    )
    got = np.asarray(block.apply({"params": params}, x))[0]

    p = jax.tree.map(lambda v: np.asarray(v, np.float64), params)
    norm = lambda y, n: (
        (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6) * n["scale"] + n["bias"]
    )
    x = np.asarray(x[0], np.float64)
    y = norm(x, p["norm1"])
    if window:
        padded = np.pad(y, ((0, -8 % window), (0, -8 % window), (0, 0)))
        for r in range(0, len(padded), window):
            for c in range(0, len(padded), window):
                tile = padded[r : r + window, c : c + window].reshape(-1, 12)
                padded[r : r + window, c : c + window] = naive_relative_attention(tile, p["attn"], 2, window).reshape(
                    window, window, 12
                )
        x = x + padded[:8, :8]
    else:
        x = x + naive_relative_attention(y.reshape(-1, 12), p["attn"], 2, 8).reshape(8, 8, 12)
    y = norm(x, p["norm2"]) @ p["lin1"]["kernel"] + p["lin1"]["bias"]
    y = np.asarray(jax.nn.gelu(jnp.asarray(y), approximate=False)) @ p["lin2"]["kernel"] + p["lin2"]["bias"]
    np.testing.assert_allclose(got, x + y, atol=2e-4)


@given(grid=st.integers(1, 12), window=st.integers(1, 12))
@settings(max_examples=25)
def test_windows_can_be_undone(grid, window):
    x = jnp.arange(2 * grid * grid * 3.0).reshape(2, grid, grid, 3)
    np.testing.assert_array_equal(merge_windows(partition_windows(x, window), window, grid), x)


def test_attention_in_query_blocks_equals_attention_at_once():
    q, k, v = (jax.random.normal(jax.random.key(i), (2, 16, 4, 8)) for i in range(3))
    causal = Spans.of_segments(jnp.repeat(jnp.array([[1, 2, 0], [1, 2, 3]]), jnp.array([7, 6, 3]), axis=1))
    for spans, size in ((None, 4), (causal, 4), (causal, 5)):  # 16 is no multiple of 5
        whole = lambda q, spans=spans: plain_attention(q, k, v, spans)
        blocks = lambda q, spans=spans, size=size: plain_attention(q, k, v, spans, query_block=size)
        np.testing.assert_allclose(whole(q), blocks(q), atol=1e-6)
        grads = [jax.jit(jax.grad(lambda q, f=f: jnp.sin(f(q)).sum()))(q) for f in (whole, blocks)]
        np.testing.assert_allclose(*grads, atol=1e-5)


def test_attention_against_jax():
    q = jax.random.normal(jax.random.key(0), (2, 7, 4, 8))
    k, v = (jax.random.normal(jax.random.key(i), (2, 9, 2, 8)) for i in (1, 2))
    first = jnp.array([[0, 0, 1, 2, 2, 5, 8], [0, 1, 2, 3, 4, 5, 6]])
    spans = Spans(first, jnp.minimum(8, first + jnp.arange(7)))
    keys = np.arange(9)
    mask = (keys >= np.asarray(spans.first)[..., None]) & (keys <= np.asarray(spans.last)[..., None])
    expected = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None], scale=1.0)
    np.testing.assert_allclose(attention(q, k, v, spans), expected, atol=1e-6)
    np.testing.assert_allclose(plain_attention(q, k, v, spans), expected, atol=1e-6)


def test_huge_scores_do_not_overflow():
    q = jnp.full((1, 2, 1, 4), 1e4)
    assert np.isfinite(attention(q, q, q)).all()


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_against_lax(stride):
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 5))
    expected = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(conv3x3(x, kernel, stride), expected, atol=1e-4)


def test_rotary_positions_are_relative():
    q, k = (jax.random.normal(jax.random.key(i), (1, 1, 1, 8)) for i in range(2))
    score = lambda i, j: (rotary(q, jnp.array([[i]]), 1e4) * rotary(k, jnp.array([[j]]), 1e4)).sum()
    np.testing.assert_allclose(score(9, 4), score(25, 20), atol=1e-4)
    assert abs(score(9, 4) - score(9, 5)) > 1e-3


def test_pictures_land_on_their_rows():
    features = jnp.arange(3 * 2 * 1.0).reshape(3, 2, 1) + 10
    is_image = jnp.array([[0, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]], bool)
    placed = place_images(jnp.zeros((3, 6, 1)), is_image, features, jnp.array([0, 0, 2]))[..., 0]
    np.testing.assert_array_equal(placed, [[0, 10, 11, 0, 12, 13], [0] * 6, [14, 15, 0, 0, 0, 0]])


def test_shapes_of_every_part(tiny, tiny_params):
    images = jnp.zeros((3, 96, 96, 3), jnp.uint8)
    assert apply(tiny, tiny_params, images, method="encode").shape == (3, 9, 32)
    hidden = jnp.zeros((2, 5, 32))
    logits = apply(tiny, tiny_params, hidden, method="logits")
    assert logits.shape == (2, 5, 512)
    assert logits.dtype == jnp.float32


def test_pixels_are_normalised_with_clips_statistics():
    """Literal values of FACTS.md section 2: black and white of each channel."""
    pixels = jnp.array([[[[0, 0, 0], [255, 255, 255]]]], jnp.uint8)
    expected = [[-1.7922626, -1.7520971, -1.4802198], [1.9303361, 2.0748837, 2.1458970]]
    np.testing.assert_allclose(normalise_pixels(pixels, jnp.float32)[0, 0], expected, atol=1e-5)


def test_every_parameter_has_a_logical_name_for_each_axis(tiny):
    boxed = abstract_params(tiny, boxed=True)
    leaves = jax.tree.leaves(boxed, is_leaf=lambda v: hasattr(v, "names"))
    assert len(leaves) == len(jax.tree.leaves(abstract_params(tiny)))
    for leaf in leaves:
        assert len(leaf.names) == len(leaf.value.shape)
    assert abstract_params(tiny)["decoder"]["layers"]["attn"]["q_proj"]["kernel"].shape == (2, 32, 32), "scanned"


def test_cached_steps_equal_one_full_pass(tiny, tiny_params):
    """Prefill of 11, then steps of 1, 3 and 1, give the hidden states of one pass over 16."""
    tokens = jax.random.randint(jax.random.key(0), (2, 16), 0, 512)
    segments = jnp.ones_like(tokens)
    positions = jnp.broadcast_to(jnp.arange(16), tokens.shape)
    is_image = jnp.zeros_like(tokens, bool).at[:, 1:10].set(True)
    images = jax.random.randint(jax.random.key(1), (2, 96, 96, 3), 0, 255).astype(jnp.uint8)
    rows = jnp.arange(2)
    full = apply(tiny, tiny_params, tokens, is_image, images, rows, positions, segments)
    features = apply(tiny, tiny_params, images, method="encode")
    x = apply(tiny, tiny_params, tokens, is_image, features, rows, method="embed")
    cache = empty_cache(tiny.decoder, 2, 20, jnp.float32)
    hidden, start = [], 0
    for size in (11, 1, 3, 1):
        part = slice(start, start + size)
        h, cache = apply(tiny, tiny_params, x[:, part], positions[:, part], cache, method="step")
        hidden.append(h)
        start += size
    np.testing.assert_allclose(jnp.concatenate(hidden, 1), full, atol=1e-5)


def test_packed_rows_equal_separate_rows(tiny, tiny_params):
    tokens = jax.random.randint(jax.random.key(0), (1, 12), 0, 512)
    image = jnp.zeros((1, 96, 96, 3), jnp.uint8)
    run = lambda t, positions, segments: apply(
        tiny, tiny_params, t, jnp.zeros_like(t, bool), image, jnp.array([9]), positions, segments
    )
    packed = run(tokens, jnp.array([[*range(5), *range(7)]]), jnp.array([[1] * 5 + [2] * 7]))
    for part in (slice(0, 5), slice(5, 12)):
        alone = tokens[:, part]
        n = alone.shape[1]
        np.testing.assert_allclose(run(alone, jnp.arange(n)[None], jnp.ones((1, n), int)), packed[:, part], atol=1e-5)


def test_remat_changes_nothing(tiny, tiny_params):
    import dataclasses

    images = jax.random.randint(jax.random.key(1), (1, 96, 96, 3), 0, 255).astype(jnp.uint8)
    grads = []
    for remat in ("none", "blocks"):
        config = dataclasses.replace(tiny, remat=remat)
        loss = lambda p, config=config: jnp.square(apply(config, p, images, method="encode")).mean()
        grads.append(jax.jit(jax.grad(loss))(tiny_params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), *grads)
