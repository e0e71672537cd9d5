"""Matrix products of activations and weights, whose operands may be rounded in training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

ROUNDED = "bfloat16"


def rounds() -> bool:
    """Does what is traced here round operands of float32? (`jax.default_matmul_precision("bfloat16")`)"""
    return jax.config.jax_default_matmul_precision == ROUNDED  # type: ignore[attr-defined]


def product(x: Float[Array, "*B D"], w: Float[Array, "D F"]) -> Float[Array, "*B F"]:
    """x @ w, in the dtype of `x`.

    Under `jax.default_matmul_precision("bfloat16")` operands in float32 are rounded to bfloat16, forward and backward,
    and summed in float32. That is what a TPU does of itself; XLA's CPU back end takes no notice of the setting,
    though processors with bfloat16 units multiply so faster (docs/nano.md has the step's figures).
    """
    if x.dtype == jnp.float32 and rounds():
        return _rounded(x, w)
    return jax.lax.dot_general(x, w.astype(x.dtype), (((x.ndim - 1,), (0,)), ((), ()))).astype(x.dtype)


def _dot(a: Array, b: Array, axes: tuple[tuple[int, ...], tuple[int, ...]]) -> Array:
    return jax.lax.dot_general(a, b, (axes, ((), ())), preferred_element_type=jnp.float32)


@jax.custom_vjp
def _rounded(x: Array, w: Array) -> Array:
    return _forward(x, w)[0]


def _forward(x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
    narrow_x, narrow_w = x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
    return _dot(narrow_x, narrow_w, ((x.ndim - 1,), (0,))), (narrow_x, narrow_w)


def _backward(kept: tuple[Array, Array], given: Array) -> tuple[Array, Array]:
    x, w = kept
    narrow = given.astype(jnp.bfloat16)
    rows = tuple(range(x.ndim - 1))
    return _dot(narrow, w, ((x.ndim - 1,), (1,))), _dot(x, narrow, (rows, rows))


_rounded.defvjp(_forward, _backward)
