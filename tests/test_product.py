"""Products with rounded operands: near the exact ones, forward and backward, and only where they are asked for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from got_jax.ops.product import ROUNDED, product


def operands(shape: tuple[int, ...], width: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, w, g = jax.random.split(jax.random.key(0), 3)
    return (
        jax.random.normal(x, shape),
        jax.random.normal(w, (shape[-1], width)),
        jax.random.normal(g, (*shape[:-1], width)),
    )


def gradients(x: jax.Array, w: jax.Array, g: jax.Array) -> list[np.ndarray]:
    """The product and what flows back to x and w."""
    y, back = jax.vjp(product, x, w)
    return [np.asarray(v) for v in (y, *back(g))]


@pytest.mark.parametrize("shape", [(1, 1), (7, 33), (2, 5, 64), (3, 2, 4, 27)])
def test_rounded_products_are_near_the_exact_ones(shape):
    x, w, g = operands(shape, 19)
    exact = gradients(x, w, g)
    with jax.default_matmul_precision(ROUNDED):
        rounded = gradients(x, w, g)
    for a, b in zip(exact, rounded, strict=True):
        assert a.dtype == b.dtype == np.float32
        assert a.shape == b.shape
        assert np.abs(a - b).max() > 0
        assert np.abs(a - b).max() < 0.03 * max(1.0, np.abs(a).max())


def test_operands_that_bfloat16_holds_give_exact_sums():
    x, w, g = (jnp.round(v * 4) for v in operands((40, 300), 21))
    exact = gradients(x, w, g)
    with jax.default_matmul_precision(ROUNDED):
        for a, b in zip(exact, gradients(x, w, g), strict=True):
            np.testing.assert_array_equal(a, b)


def test_other_dtypes_stay_as_they_are():
    x, w, _ = operands((8, 16), 4)
    with jax.default_matmul_precision(ROUNDED):
        assert product(x.astype(jnp.float16), w).dtype == jnp.float16
        narrow = product(x.astype(jnp.bfloat16), w)
    np.testing.assert_array_equal(narrow, product(x.astype(jnp.bfloat16), w))
