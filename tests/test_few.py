"""The Pallas kernels of few rows, interpreted, against plain JAX; where they are used, and when they are not."""

from __future__ import annotations

import dataclasses
import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from got_jax import generate, inference
from got_jax.models.got import init_params
from got_jax.ops import attention, few, flash, kernels, trial
from got_jax.ops import linear as products
from got_jax.ops.linear import Matrix, matrix

NEAR = 0.05


def normal(seed: int, *shape: int, dtype: str = "bfloat16") -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32), dtype)


def close(got, want, tolerance: float = NEAR) -> None:
    np.testing.assert_allclose(np.asarray(got, np.float32), np.asarray(want, np.float32), rtol=0, atol=tolerance)


def exact(x, w: Matrix, bias=None, norm=None, eps=0.0, gated=False, plus=None) -> np.ndarray:
    """`linear` in float64."""
    wide = lambda a: np.asarray(a, np.float64)
    x, weights = wide(x), wide(w.values) * (1 if w.scale is None else wide(w.scale)[:, None])
    if norm is not None:
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * wide(norm)
    if gated:
        a, b = np.split(x, 2, axis=-1)
        x = a / (1 + np.exp(-a)) * b
    return x @ weights.T + (0 if bias is None else wide(bias)) + (0 if plus is None else wide(plus))


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [(1, 64, 50), (3, 192, 16), (4, 2816, 37), (5, 128, 33), (17, 192, 40), (64, 64, 20)]
)
def test_products(rows, inputs, outputs, kind):
    """Few rows and more, outputs that end within a program's, and inputs that are no power of two."""
    w = matrix(normal(0, outputs, inputs) * inputs**-0.5, kind)
    x, bias, norm, plus = normal(1, rows, 2 * inputs), normal(2, outputs), normal(3, inputs), normal(4, rows, outputs)
    run = functools.partial(few.linear, interpret=True)
    got = run(x[:, :inputs], *w, bias, norm, 0.1, False, None, jnp.float32)
    assert got.dtype == jnp.float32
    close(got, exact(x[:, :inputs], w, bias, norm, 0.1))
    got = run(x, *w, None, None, 0.0, True, plus, jnp.bfloat16)
    assert got.dtype == jnp.bfloat16
    close(got, exact(x, w, gated=True, plus=plus))


@given(st.integers(1, 10**5))
def test_inputs_are_cut_into_powers_of_two(count):
    parts = few.powers(count)
    assert [start for start, _ in parts] == np.cumsum([0, *(size for _, size in parts[:-1])]).tolist()
    assert sum(size for _, size in parts) == count
    assert all(size & (size - 1) == 0 and size <= 2048 for _, size in parts)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize(
    ("rows", "heads", "groups", "width", "slots"), [(1, 2, 2, 16, 64), (3, 4, 2, 16, 333), (3, 2, 1, 64, 200)]
)
def test_one_token_against_the_cache(rows, heads, groups, width, slots, dtype):
    """Blocks of slots that divide evenly or not, several programs a head, the first place, the last and one past it."""
    angles = normal(0, rows, width // 2, dtype="float32")
    everything = attention.Heads(normal(1, rows, heads + 2 * groups, width), jnp.cos(angles), jnp.sin(angles))
    kept = (attention.kept(normal(n, rows, groups, slots, width), jnp.dtype(dtype)) for n in (2, 3))
    (keys, key_scales), (values, value_scales) = kept
    cache = attention.LayerCache(keys, values, key_scales, value_scales)
    for places in ([0, slots - 1, slots // 2], [slots, 3, 64], [63, 65, slots + 5]):
        positions = jnp.array(places[:rows])
        want, filled = attention.plain_decode_step(everything, positions, cache)
        got, *written = few.decode_step(*everything, positions, *cache, interpret=True)
        assert got.dtype == jnp.bfloat16
        close(got, want)
        for mine, its, old in zip(written, filled, cache, strict=True):
            if its is None:
                assert mine is None
                continue
            assert mine.dtype == its.dtype
            close(mine, its, 1 if mine.dtype == jnp.int8 else 1e-6)  # halves are rounded up, and to even
            np.testing.assert_array_equal(mine != old, its != old)


@pytest.fixture
def gpu(monkeypatch):
    """Programs are traced as for a GPU; the kernels that it would run are interpreted, and noted."""
    jax.clear_caches()
    calls = []

    def noted(name):
        original = getattr(few, name)

        def run(*args):
            calls.append(name)
            return original(*args, interpret=True)

        monkeypatch.setattr(few, name, run)

    noted("linear")
    noted("decode_step")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    yield calls
    jax.clear_caches()


@pytest.fixture(scope="module")
def small(tiny):
    """A model whose decoder has sizes that the kernels serve, in bfloat16."""
    decoder = dataclasses.replace(tiny.decoder, width=64, mlp_width=64, depth=1)
    config = dataclasses.replace(tiny, dtype="bfloat16", decoder=decoder)
    return config, jax.jit(lambda: init_params(config, jax.random.key(0)))()


@pytest.mark.parametrize(
    ("weights", "left_out"), [("bfloat16", ""), ("int8", "few_linear"), ("int8", "few_decode_step")]
)
def test_steps_are_run_with_them_unless_they_are_left_out(small, gpu, monkeypatch, weights, left_out):
    config, params = small
    d, laid = config.decoder, inference.prepare(config, params, weights)
    cache = attention.LayerCache(*(normal(n, 2, d.kv_heads, 90, d.head_width) for n in (0, 1)))

    def step(laid, cache):
        hidden, [cache] = inference.step(config, laid, jnp.array([7, 9]), jnp.array([70, 65]), [cache])
        return inference.logits(laid, hidden), cache

    monkeypatch.setenv(kernels.PLAIN, left_out)
    got, filled = jax.jit(lambda *given: step(*given))(laid, cache)
    assert gpu.count("linear") == (0 if left_out == "few_linear" else 4 * d.depth + 1)
    assert gpu.count("decode_step") == (0 if left_out == "few_decode_step" else d.depth)
    monkeypatch.setenv(kernels.PLAIN, "few_linear,few_decode_step")
    want, plain = jax.jit(lambda *given: step(*given))(laid, cache)
    close(got, want, 0.02 * np.abs(want).max())
    close(filled.keys, plain.keys)
    close(filled.values, plain.values)


def test_answers_are_decoded_with_them(small, gpu):
    """And the loop is compiled with the options that make it one graph."""
    config, params = small
    laid = inference.prepare(config, params)
    nothing = np.zeros((0, 96, 96, 3), np.uint8), np.zeros(0, np.int32)
    prompts = [[5, 7, 9] * 20, [6, 8]]
    decode = generate.DecodeConfig(6, 0)
    answers = generate.generate(config, laid, prompts, *nothing, 511, (1,), decode)
    assert generate.loop(True) is not generate.loop(False)
    assert {"linear", "decode_step"} == set(gpu)
    assert [len(answer.logprobs) for answer in answers] == [6, 6]
    again = generate.generate(config, laid, prompts[1:], *nothing, 511, (1,), decode)
    assert again[0].tokens == answers[1].tokens


@pytest.mark.parametrize(
    ("device", "rows", "weights", "given", "kept", "served"),
    [
        ("gpu", 1, (3072, 1024), "bfloat16", "bfloat16", True),
        ("gpu", 64, (1024, 2816), "float16", "int8", True),
        ("gpu", 65, (1024, 2816), "bfloat16", "bfloat16", False),
        ("gpu", 1, (1024, 100), "bfloat16", "bfloat16", False),
        ("gpu", 1, (15, 64), "bfloat16", "bfloat16", False),
        ("gpu", 1, (1024, 1024), "float32", "float32", False),
        ("gpu", 1, (1024, 1024), "bfloat16", "float32", False),
        ("tpu", 1, (1024, 1024), "bfloat16", "bfloat16", False),
        ("cpu", 1, (1024, 1024), "bfloat16", "bfloat16", False),
    ],
)
def test_products_that_it_serves(device, rows, weights, given, kept, served, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    assert few.serves(rows, weights, jnp.dtype(given), jnp.dtype(kept)) == served


@pytest.mark.parametrize(
    ("device", "slots", "width", "given", "served"),
    [
        ("gpu", 64, 64, "bfloat16", True),
        ("gpu", 63, 64, "bfloat16", False),
        ("gpu", 100, 48, "bfloat16", False),
        ("gpu", 100, 8, "bfloat16", False),
        ("gpu", 100, 64, "float32", False),
        ("tpu", 100, 64, "bfloat16", False),
    ],
)
def test_caches_that_it_serves(device, slots, width, given, served, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    assert few.serves_cache((2, 4, slots, width), jnp.dtype(given)) == served


class TestTrial:
    """A kernel that a device gets wrong, or cannot run, is done without, and that is told once."""

    @pytest.fixture(autouse=True)
    def _there(self, monkeypatch):
        monkeypatch.setattr(trial, "_present", lambda: "gpu")
        trial._passed.cache_clear()
        yield
        trial._passed.cache_clear()

    def tried(self, caplog, test) -> str:
        with caplog.at_level(logging.WARNING):
            usable = [trial.usable("a kernel", test) for _ in range(2)]
        assert usable == [not caplog.records] * 2
        assert len(caplog.records) <= 1
        return caplog.text

    def test_right(self, caplog):
        assert not self.tried(caplog, lambda: (jnp.ones(3), jnp.ones(3) + 0.01))

    @pytest.mark.parametrize("wrong", [1.2, np.nan, np.inf])
    def test_wrong(self, caplog, wrong):
        said = self.tried(caplog, lambda: (jnp.ones(3), jnp.ones(3) * wrong))
        assert "reads without its kernel 'a kernel' on this gpu, slower: it is" in said

    def test_refused(self, caplog):
        def refused():
            raise NotImplementedError("no such array\nand more")

        assert "slower: NotImplementedError: no such array\n" in self.tried(caplog, refused)

    def test_in_the_midst_of_a_program(self, caplog):
        """Trials run when a program is traced, and are no part of it."""
        program = lambda x: x + trial.usable("a kernel", lambda: (jnp.ones(3), jnp.ones(3)))
        assert jax.jit(program)(1) == 2
        assert jax.make_jaxpr(program)(1).eqns[-1].primitive.name == "add"
        assert len(jax.make_jaxpr(program)(1).eqns) == 1

    @pytest.mark.parametrize(
        ("name", "kernel", "test"),
        [
            ("linear", "few_linear", products._few_trial),
            ("decode_step", "few_decode_step", attention._few_trial),
            ("square", "flash", attention._flash_trial),
            ("windows", "windows", attention._windows_trial),
            ("", "graph", generate._graph_trial),
        ],
    )
    def test_the_kernels_pass_their_own(self, caplog, monkeypatch, name, kernel, test):
        """Interpreted; as they are, a CPU refuses them, and then reads without."""
        module = flash if name in ("square", "windows") else few
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        if name:
            assert not trial.usable(kernel, test)
            assert "Only interpret mode is supported on CPU" in caplog.text
            trial._passed.cache_clear()
            original = getattr(module, name)
            monkeypatch.setattr(module, name, functools.partial(original, interpret=True))
        assert trial.usable(kernel, test)
        monkeypatch.setenv(kernels.PLAIN, kernel)
        assert not trial.usable(kernel, test)
