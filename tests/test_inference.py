"""The layout for reading against the plain model, and every CPU kernel against its twin in plain JAX."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from got_jax import inference
from got_jax.errors import GotError
from got_jax.generate import DecodeConfig, generate
from got_jax.models.got import apply, init_params
from got_jax.ops import attention, kernels
from got_jax.ops.linear import linear, matrix, rows_of

PAD, STOPS = 511, (1, 2)
ROUNDED = 0.06  # factors with eight bits, scores of a few units


def arrays(*shapes: tuple[int, ...]) -> list[jax.Array]:
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape, dtype=np.float32)) for shape in shapes]


@pytest.fixture(params=["kernels", "vectors", "twins"])
def path(request, monkeypatch) -> Iterator[str]:
    """With the kernels where this machine can compile them, without their products of bfloat16, and without them."""
    yield from ways(request.param, monkeypatch)


@pytest.fixture(params=["kernels", "vectors", "twins", "tpu"])
def reading(request, monkeypatch) -> Iterator[str]:
    """The same, and what a TPU runs."""
    yield from ways(request.param, monkeypatch)


def ways(way: str, monkeypatch) -> Iterator[str]:
    jax.clear_caches()
    if way == "twins":
        monkeypatch.setenv(kernels.SETTING, "0")
    elif way == "tpu":
        monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    elif not kernels.native():
        pytest.skip("no C++ compiler here")
    elif way == "vectors":
        if not kernels.rounds():
            pytest.skip("this processor multiplies no bfloat16: what 'kernels' tests")
        monkeypatch.setenv(kernels.SETTING, "vectors")
        assert not kernels.rounds()
    yield way
    jax.clear_caches()  # programs are kept by their arguments, not by what is in the environment


def plain(cache: attention.Cache, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values as float32, [B, G, S, C]."""
    keys, values = (np.asarray(x, np.float32) for x in cache[:2])
    if isinstance(cache, attention.FlatCache):
        keys, values = (x.reshape(*x.shape[:2], groups, -1).swapaxes(1, 2) for x in (keys, values))
    if cache.key_scales is None or cache.value_scales is None:
        return keys, values
    return keys * np.asarray(cache.key_scales)[..., None], values * np.asarray(cache.value_scales)[..., None]


NEAR = {"float32": 1e-5, "bfloat16": 0.02, "int8": 0.5 * 6 / 127}  # of numbers up to 6: half a step


def close(got, want, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(got, np.float32), np.asarray(want, np.float32), rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [(1, 64, 50), (1, 7, 5), (2, 33, 1), (3, 128, 13), (6, 96, 700), (17, 40, 9), (70, 37, 11), (1200, 1024, 70)],
)
def test_products(reading, kind, rows, inputs, outputs):
    x, w, bias = arrays((rows, inputs), (outputs, inputs), (outputs,))
    if kind != "float32" and kernels.rounds():
        x = x.astype(jnp.bfloat16).astype(jnp.float32)  # as the kernels do
    kept = matrix(w, kind)
    exact = np.asarray(kept.values, np.float64) * (1 if kept.scale is None else np.asarray(kept.scale)[:, None])
    tolerance = 0.1 if reading in ("twins", "tpu") and kind == "bfloat16" else 2e-5
    want = np.asarray(x, np.float64) @ exact.T
    close(linear(x, kept), want, tolerance * (1 + inputs / 128))
    close(linear(x.reshape(1, rows, inputs), kept, bias)[0], want + bias, tolerance * (1 + inputs / 128))
    close(rows_of(kept, jnp.array([outputs - 1, 0]), jnp.float32), exact[[outputs - 1, 0]], 1e-6)


def test_rounding_to_int8_errs_by_half_a_step_and_zeros_stay():
    [w] = arrays((6, 40))
    kept = matrix(w.at[3].set(0), "int8")
    error = np.abs(rows_of(kept, jnp.arange(6), jnp.float32) - w.at[3].set(0))
    assert (error <= np.asarray(kept.scale)[:, None] * 0.5001).all()
    assert (error[3] == 0).all()
    with pytest.raises(GotError, match="choose float32"):
        matrix(w, "int3")


@pytest.mark.parametrize(
    ("side", "squares", "heads", "width"), [(64, 1, 1, 64), (14, 3, 2, 64), (5, 2, 3, 12), (1, 1, 1, 1), (20, 1, 2, 7)]
)
def test_attention_of_squares(path, side, squares, heads, width):
    qkv, table_h, table_w = arrays((squares, side**2, 3, heads, width), (2 * side - 1, width), (2 * side - 1, width))
    q, k, v = np.moveaxis(np.asarray(qkv, np.float64), 2, 0)
    place = np.arange(side)
    offsets = place[:, None] - place + side - 1
    grid = q.reshape(squares, side, side, heads, width)
    bias = np.einsum("bhwkc,hsc->bkhws", grid, np.asarray(table_h)[offsets])[..., :, None]
    bias = bias + np.einsum("bhwkc,wsc->bkhws", grid, np.asarray(table_w)[offsets])[..., None, :]
    scores = np.einsum("bqkc,bskc->bkqs", q, k) * width**-0.5 + bias.reshape(squares, heads, side**2, side**2)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    want = np.einsum("bkqs,bskc->bqkc", weights / weights.sum(-1, keepdims=True), v)
    close(jax.jit(attention.square_attention)(qkv, table_h, table_w), want, 5e-5)
    rounded = jax.jit(lambda *a: attention.square_attention(*a, rounded=True))(qkv, table_h, table_w)
    close(rounded, want, ROUNDED)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize(
    ("length", "heads", "groups", "width"), [(1, 2, 1, 8), (70, 4, 2, 16), (300, 2, 2, 64), (600, 3, 1, 6)]
)
def test_attention_of_prompts(reading, dtype, length, heads, groups, width):
    everything, angles = arrays((2, length, heads + 2 * groups, width), (2, length, width // 2))
    given = attention.Heads(everything, jnp.cos(angles), jnp.sin(angles))
    q, k, v = attention.rotated(given, groups)
    spans = attention.Spans.up_to(jnp.broadcast_to(jnp.arange(length), (2, length)))
    want = attention.plain_attention(q * width**-0.5, k, v, spans)
    run = jax.jit(attention.causal_attention, static_argnums=(1, 2, 3, 4, 5))
    out, cache = run(given, groups, length + 5, jnp.dtype(dtype), 0, False)
    close(out, want)
    close(run(given, groups, length + 5, jnp.dtype(dtype), 0, True)[0], want, ROUNDED)
    assert isinstance(cache, attention.FlatCache) == (reading == "tpu")
    assert cache[0].dtype == dtype
    keys, values = plain(cache, groups)
    close(keys[:, :, :length], k.swapaxes(1, 2), NEAR[dtype])
    close(values[:, :, :length], v.swapaxes(1, 2), NEAR[dtype])
    assert not keys[:, :, length:].any()
    assert not values[:, :, length:].any()


def judged(fast, plain, *given) -> None:
    """Results and gradients of both, to float32's rounding; where products are rounded, to bfloat16's."""
    weights = jax.random.normal(jax.random.key(9), plain(*given).shape)
    loss = lambda f: lambda *args: (f(*args) * weights).sum()
    everything = tuple(range(len(given)))
    close(jax.jit(fast)(*given), plain(*given))
    got, want = (jax.jit(jax.grad(loss(f), everything))(*given) for f in (fast, plain))
    with jax.default_matmul_precision("bfloat16"):
        close(jax.jit(fast)(*given), plain(*given), ROUNDED)
        rounded = jax.jit(jax.grad(loss(fast), everything))(*given)
    for mine, its, near in zip(got, want, rounded, strict=True):
        largest = max(1.0, float(jnp.abs(its).max()))
        close(mine, its, 1e-5 * largest)
        close(near, its, 0.03 * largest)


@pytest.mark.parametrize(
    ("length", "heads", "groups", "width"), [(1, 2, 1, 8), (59, 4, 2, 16), (130, 2, 2, 64), (600, 3, 1, 6)]
)
def test_attention_that_trains(path, length, heads, groups, width):
    """Packed rows: samples of uneven lengths, padding, and queries that share heads of keys."""
    q, k, v = arrays(*((2, length, count, width) for count in (heads, groups, groups)))
    segments = np.sort(np.random.default_rng(1).integers(1, 5, (2, length)), axis=1)
    segments[0, length * 4 // 5 :] = 0
    spans = attention.Spans.of_segments(jnp.asarray(segments))
    places = np.arange(length)
    mask = (segments[:, :, None] == segments[:, None, :]) & (places[:, None] >= places)
    np.testing.assert_array_equal(spans.mask(length), mask)
    assert attention.fused(q, k, v) == (path != "twins")
    plain = lambda q, k, v: attention.plain_attention(q, k, v, spans)
    judged(lambda q, k, v: attention.attention(q, k, v, spans), plain, q * width**-0.5, k, v)


@pytest.mark.parametrize(
    ("squares", "side", "heads", "width"), [(3, 1, 1, 4), (2, 5, 3, 20), (2, 14, 2, 64), (1, 24, 1, 8)]
)
def test_attention_of_squares_that_trains(path, squares, side, heads, width):
    q, k, v, table_h, table_w = arrays(*[(squares, side**2, heads, width)] * 3, *[(2 * side - 1, width)] * 2)
    plain = lambda q, k, *rest: attention.plain_attention(
        *attention.relative_position_channels(q, k, *rest[1:]), rest[0]
    )
    judged(attention.relative_attention, plain, q, k, v, table_h * 0.3, table_w * 0.3)


def test_the_training_kernel_serves_float32_on_one_device():
    q = jnp.ones((1, 4, 2, 8))
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((2,), ("data",))):
        assert not attention.fused(q)
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1,), ("data",))):
        assert attention.fused(q) == kernels.native()
    assert not attention.fused(q.astype(jnp.bfloat16))


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 64, 50), (5, 37, 11), (70, 48, 33)])
def test_norm_and_gate_before_a_product_and_the_sum_after_it(path, kind, rows, inputs, outputs):
    x, w, norm, bias, plus = arrays((rows, 2 * inputs), (outputs, inputs), (inputs,), (outputs,), (rows, outputs))
    kept = matrix(w * inputs**-0.5, kind)
    weights = np.asarray(rows_of(kept, jnp.arange(outputs), jnp.float32), np.float64)
    a, b = np.split(np.asarray(x, np.float64), 2, axis=-1)
    tolerance = 2e-5 if kind == "float32" or not (path == "kernels" and kernels.rounds()) else 0.05
    normed = a / np.sqrt((a**2).mean(-1, keepdims=True) + 0.1) * np.asarray(norm)
    got = jax.jit(lambda x: linear(x, kept, bias, norm=norm, eps=0.1, plus=plus))(x[:, :inputs])
    close(got, normed @ weights.T + bias + plus, tolerance)
    got = jax.jit(lambda x: linear(x, kept, gated=True))(x)
    close(got, (a / (1 + np.exp(-a)) * b) @ weights.T, tolerance)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize(("slots", "heads", "groups", "width"), [(9, 2, 1, 8), (64, 4, 4, 64), (33, 6, 2, 10)])
def test_one_token_against_the_cache(reading, dtype, slots, heads, groups, width):
    everything, angles, keys, values = arrays(
        (3, heads + 2 * groups, width), (3, width // 2), *[(3, groups, slots, width)] * 2
    )
    (keys, key_scales), (values, value_scales) = (attention.kept(x, jnp.dtype(dtype)) for x in (keys, values))
    before = attention.LayerCache(keys, values, key_scales, value_scales)
    if reading == "tpu":
        flat = lambda x: x.swapaxes(1, 2).reshape(3, slots, -1)
        before = attention.FlatCache(flat(keys), flat(values), key_scales, value_scales)
    positions = jnp.array([0, slots - 1, slots // 2])
    given = attention.Heads(everything, jnp.cos(angles), jnp.sin(angles))
    out, after = jax.jit(attention.decode_step)(given, positions, before)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), before)
    q, k, v = attention.rotated(given, groups)
    q = q * width**-0.5
    for row, place in enumerate(np.asarray(positions)):
        written = []
        for old, now, new in zip(plain(before, groups), plain(after, groups), (k, v), strict=True):
            close(now[row, :, place], new[row], NEAR[dtype])
            np.testing.assert_array_equal(np.delete(now[row], place, 1), np.delete(old[row], place, 1))
            written.append(np.repeat(now[row, :, : place + 1], heads // groups, 0))
        scores = np.einsum("kc,ksc->ks", np.asarray(q[row]), written[0])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        want = np.einsum("ks,ksc->kc", weights, written[1])
        close(out[row], want / weights.sum(-1, keepdims=True), 5e-2 if dtype == "bfloat16" else 1e-5)


def prompts_and_pictures(side: int):
    rng = np.random.default_rng(3)
    prompts = [[5, *[PAD] * 9, 7, 9], [6, *[PAD] * 18, 7, 9, 11, 30]]
    return prompts, jnp.asarray(rng.integers(0, 255, (3, side, side, 3), np.uint8)), np.array([0, 1, 1], np.int32)


def test_layout_for_reading_gives_the_plain_models_answers(reading, tiny, tiny_params):
    prompts, pictures, rows = prompts_and_pictures(tiny.encoder.image_px)
    laid = inference.prepare(tiny, tiny_params)
    plain = jax.jit(lambda params, pictures: apply(tiny, params, pictures, method="encode"))
    fast = jax.jit(lambda laid, pictures: inference.encode(tiny, laid, pictures))
    close(fast(laid, pictures), plain(tiny_params, pictures), 2e-5)
    answers = [
        generate(tiny, params, prompts, np.asarray(pictures), rows, PAD, STOPS, DecodeConfig(20, 3))
        for params in (tiny_params, laid)
    ]
    for plain, fast in zip(*answers, strict=True):
        assert plain.tokens == fast.tokens
        assert plain.stopped == fast.stopped
        np.testing.assert_allclose(plain.logprobs, fast.logprobs, atol=1e-4)


@pytest.mark.parametrize("name", ["linear", "rows", "decode_step", "square", "causal", "fused"])
def test_any_kernel_can_be_left_out(name, tiny, tiny_params, monkeypatch):
    if not kernels.native():
        pytest.skip("no C++ compiler here")
    _, pictures, rows = prompts_and_pictures(tiny.encoder.image_px)
    tokens = jnp.full((3, 8 + tiny.encoder.image_tokens), 7)
    laid = inference.prepare(tiny, tiny_params)

    def read(laid):
        is_image = jnp.broadcast_to(jnp.arange(tokens.shape[1]) < tiny.encoder.image_tokens, tokens.shape)
        caches, hidden = inference.prefill(tiny, laid, tokens, is_image, pictures, jnp.asarray(rows), 60)
        places = jnp.full(3, tokens.shape[1])
        return hidden, inference.step(tiny, laid, tokens[:, 0], places, caches)[0]

    compiled = lambda: jax.jit(lambda laid: read(laid)).lower(laid)
    target = f"got_jax_{name}" if name != "fused" else "got_jax_linear"
    whole = compiled()
    assert target in whole.as_text()
    monkeypatch.setenv(kernels.PLAIN, f"{name},another")
    left = compiled()
    assert (target in left.as_text()) == (name == "fused")
    assert left.as_text() != whole.as_text()
    for got, want in zip(left.compile()(laid), whole.compile()(laid), strict=True):
        close(got, want, 1e-4)


def test_an_int8_cache_is_exact_for_the_first_token_and_near_for_the_next(path, tiny, tiny_params):
    prompts, pictures, rows = prompts_and_pictures(tiny.encoder.image_px)
    ask = lambda params, cache: generate(
        tiny, params, prompts, np.asarray(pictures), rows, PAD, STOPS, DecodeConfig(2, 0, cache)
    )
    laid = inference.prepare(tiny, tiny_params)
    for exact, near in zip(ask(laid, ""), ask(laid, "int8"), strict=True):
        assert exact.tokens == near.tokens
        np.testing.assert_allclose(exact.logprobs[0], near.logprobs[0], atol=1e-6)
        np.testing.assert_allclose(exact.logprobs[1:], near.logprobs[1:], atol=0.02)
        assert exact.logprobs[1:] != near.logprobs[1:]
    with pytest.raises(GotError, match="leave `cache` empty"):
        ask(tiny_params, "int8")


def test_an_encoder_of_many_rows_is_cut_into_blocks(path, tiny, tiny_params):
    wide = dataclasses.replace(tiny.encoder, image_px=32, patch_px=1, window=7)
    config = dataclasses.replace(tiny, encoder=wide)

    params = jax.jit(lambda: init_params(config, jax.random.key(0)))()
    assert wide.grid**2 % inference.ROW_BLOCK == 0
    pictures = jnp.asarray(np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8))
    plain = jax.jit(lambda params, pictures: apply(config, params, pictures, method="encode"))
    fast = jax.jit(lambda laid, pictures: inference.encode(config, laid, pictures))
    close(fast(inference.prepare(config, params), pictures), plain(params, pictures), 5e-5)


def test_an_opt_decoder_is_refused(tiny, tiny_params):
    opt = dataclasses.replace(tiny, decoder=dataclasses.replace(tiny.decoder, kind="opt", kv_heads=4))
    with pytest.raises(GotError, match="Qwen2"):
        inference.prepare(opt, tiny_params)


@pytest.mark.parametrize("compiler", ["", "false"])
def test_a_machine_without_a_compiler_reads_all_the_same(monkeypatch, tmp_path, compiler):
    """No compiler, and one that fails: the twins serve, and nothing is raised."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", compiler)
    if not compiler:
        monkeypatch.setenv("PATH", "")
    kernels._register.cache_clear()
    kernels._library.cache_clear()
    jax.clear_caches()
    try:
        assert not kernels.native()
        x, w = arrays((2, 8), (3, 8))
        close(linear(x, matrix(w, "float32")), x @ w.T)
    finally:
        kernels._register.cache_clear()
        kernels._library.cache_clear()
        jax.clear_caches()
