"""The Pallas kernel of squares, interpreted, against plain attention; and where it is used."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from got_jax.ops import attention, flash, kernels


def square(side: int, heads: int, width: int, dtype: str) -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(5)
    shapes = (2, side**2, 3, heads, width), (2 * side - 1, width), (2 * side - 1, width)
    qkv, *tables = (jnp.asarray(rng.standard_normal(shape, np.float32), dtype) for shape in shapes)
    return qkv, *(table * 0.3 for table in tables)


def plain(qkv: jax.Array, table_h: jax.Array, table_w: jax.Array) -> jax.Array:
    q, k, v = jnp.moveaxis(qkv, 2, 0)
    return attention.plain_attention(*attention.relative_position_channels(q, k, table_h, table_w), v)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("bfloat16", 0.05)])
@pytest.mark.parametrize(
    ("device", "side", "heads", "width"), [("gpu", 16, 3, 16), ("gpu", 8, 1, 32), ("tpu", 32, 2, 16)]
)
def test_the_kernel_attends_as_plain_jax(device, side, heads, width, dtype, tolerance):
    qkv, table_h, table_w = square(side, heads, width, dtype)
    q, k, v = jnp.moveaxis(qkv, 2, 0)
    got = flash.square(q, k, v, *attention.relative_biases(q, table_h, table_w), device, interpret=True)
    assert got.dtype == qkv.dtype
    want = plain(*(x.astype(jnp.float32) for x in (qkv, table_h, table_w)))
    np.testing.assert_allclose(np.asarray(got, np.float32), want, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("bfloat16", 0.05)])
@pytest.mark.parametrize(("side", "heads", "width"), [(14, 2, 64), (3, 1, 16), (20, 2, 16), (8, 1, 32), (1, 2, 16)])
def test_windows_attend_as_plain_jax(side, heads, width, dtype, tolerance):
    given = square(side, heads, width, dtype)
    got = flash.windows(given[0], given[1], given[2], interpret=True)
    assert got.dtype == dtype
    want = plain(*(x.astype(jnp.float32) for x in given))
    np.testing.assert_allclose(np.asarray(got, np.float32), want, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("device", "side", "width", "dtype", "served"),
    [
        ("gpu", 14, 64, "bfloat16", True),
        ("gpu", 40, 32, "float16", True),
        ("gpu", 70, 64, "bfloat16", False),
        ("gpu", 14, 80, "bfloat16", False),
        ("gpu", 14, 8, "bfloat16", False),
        ("gpu", 14, 64, "float32", False),
        ("tpu", 14, 64, "bfloat16", False),
    ],
)
def test_windows_that_it_serves(device, side, width, dtype, served, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    assert flash.serves_windows(side, width, dtype) == served


@pytest.mark.parametrize(
    ("device", "side", "width", "dtype", "served"),
    [
        ("tpu", 64, 64, "bfloat16", True),
        ("gpu", 64, 64, "bfloat16", True),
        ("gpu", 64, 64, "float16", True),
        ("gpu", 64, 64, "float32", False),
        ("cpu", 64, 64, "bfloat16", False),
        ("gpu", 14, 14, "bfloat16", False),
        ("tpu", 16, 16, "bfloat16", False),  # fewer cells than queries of a program
        ("gpu", 48, 48, "bfloat16", False),
        ("gpu", 64, 32, "bfloat16", False),
    ],
)
def test_squares_that_it_serves(device, side, width, dtype, served, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    assert flash.serves(side, width, dtype) == served


@pytest.mark.parametrize("left_out", [False, True])
@pytest.mark.parametrize(
    ("device", "side", "kernel", "name"),
    [("tpu", 32, "square", "flash"), ("gpu", 32, "square", "flash"), ("gpu", 14, "windows", "windows")],
)
def test_squares_are_read_with_it_unless_it_is_left_out(device, side, kernel, name, left_out, monkeypatch):
    given = square(side, 2, 32, "bfloat16")
    calls = []

    def noted(*args):
        calls.append(kernel)
        return original(*args, interpret=True)

    original = getattr(flash, kernel)
    monkeypatch.setattr(flash, kernel, noted)
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    monkeypatch.setenv(kernels.PLAIN, name if left_out else "")
    got = attention.square_attention(given[0], given[1], given[2])
    want = np.asarray(plain(*given), np.float32)
    assert calls == ([] if left_out else [kernel])
    np.testing.assert_allclose(np.asarray(got, np.float32), want, rtol=0, atol=0.05)
