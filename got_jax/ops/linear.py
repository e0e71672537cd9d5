"""Matrices as inference keeps them: outputs first, so one output's weights lie together, and rounded if asked for."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from got_jax.errors import GotError
from got_jax.ops import kernels

FEW = 64  # rows up to which the kernel, which reads each weight once, is faster than XLA's product (docs/speed.md)


class Matrix(NamedTuple):
    """values[n] * scale[n] are the weights of output n; no scale: 1."""

    values: Float[Array, "N K"] | Int[Array, "N K"]
    scale: Float[Array, "N"] | None = None


def matrix(weights: Float[Array, "N K"], kind: str) -> Matrix:
    """Weights kept as `kind`: "float32", "bfloat16", "float16" or "int8" (one symmetric scale an output).

    Raises:
        GotError: for another kind.
    """
    if kind == "int8":
        weights = weights.astype(jnp.float32)
        scale = jnp.maximum(jnp.abs(weights).max(-1), 1e-12) / 127
        return Matrix(jnp.round(weights / scale[:, None]).astype(jnp.int8), scale)
    if kind not in ("float32", "bfloat16", "float16"):
        raise GotError(f"weights '{kind}' are unknown; choose float32, bfloat16, float16 or int8.")
    return Matrix(weights.astype(kind))


def linear(x: Float[Array, "*B K"], w: Matrix, bias: Float[Array, "N"] | None = None) -> Float[Array, "*B N"]:
    """x . w^T + bias in the dtype of `x`; sums in float32."""
    return _plus(product(x, w), bias, x.dtype)


def product(x: Float[Array, "*B K"], w: Matrix) -> Float[Array, "*B N"]:
    """x . w^T in float32."""
    rows = math.prod(x.shape[:-1])
    if rows <= FEW and w.values.dtype in (jnp.float32, jnp.bfloat16, jnp.int8) and kernels.native():
        return kernels.linear(x.astype(jnp.float32), w.values, w.scale)
    if x.dtype == jnp.float32 and w.values.dtype in (jnp.bfloat16, jnp.int8) and kernels.native():
        w = Matrix(kernels.widen(w.values, w.scale))
    y = jnp.einsum("...k,nk->...n", x, w.values.astype(x.dtype), preferred_element_type=jnp.float32)
    return y if w.scale is None else y * w.scale


def rows_of(w: Matrix, index: Int[Array, "*B"], dtype: Any) -> Float[Array, "*B K"]:
    """The rows at `index`: embedding by a table that is also the matrix of scores."""
    rows = w.values[index].astype(dtype)
    return rows if w.scale is None else rows * w.scale[index][..., None].astype(dtype)


def _plus(y: Array, bias: Array | None, dtype: Any) -> Array:
    return (y if bias is None else y + bias).astype(dtype)


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays of a tree."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
