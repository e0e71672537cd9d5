"""Matrices as inference keeps them: outputs first, so one output's weights lie together, and rounded if asked for."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from got_jax.errors import GotError
from got_jax.ops import few, kernels
from got_jax.ops.trial import usable


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


def linear(
    x: Float[Array, "*B K"] | Float[Array, "*B 2*K"],
    w: Matrix,
    bias: Float[Array, "N"] | None = None,
    *,
    norm: Float[Array, "K"] | None = None,
    eps: float = 0.0,
    gated: bool = False,
    plus: Float[Array, "*B N"] | None = None,
    dtype: Any = None,
) -> Float[Array, "*B N"]:
    """before(x) . w^T + bias + plus; sums in float32.

    A processor that multiplies bfloat16 rounds `x` to it for weights that are kept in bfloat16 or int8.

    Args:
        norm, eps: when given, before(x) is x / sqrt(mean(x^2) + eps) * norm.
        gated: before(x) is silu(a) * b of x = [a, b].
        plus: a residual.
        dtype: of the result; default: of `x`.
    """
    dtype = x.dtype if dtype is None else dtype
    if _served(w) and kernels.native("fused"):
        y = kernels.linear(x.astype(jnp.float32), *w, bias, norm, eps, gated, plus)
        return y.astype(dtype)
    rows = math.prod(x.shape[:-1])
    if few.serves(rows, w.values.shape, x.dtype, w.values.dtype) and usable("few_linear", _few_trial):
        flat = None if plus is None else plus.reshape(rows, -1)
        y = few.linear(x.reshape(rows, -1), *w, bias, norm, eps, gated, flat, dtype)
        return y.reshape(*x.shape[:-1], -1)
    return _linear(x, w, bias, norm, eps, gated, plus, dtype)


def _served(w: Matrix) -> bool:
    return w.values.dtype in (jnp.float32, jnp.bfloat16, jnp.int8) and kernels.native("linear")


def _linear(x: Array, w: Matrix, bias: Any, norm: Any, eps: float, gated: bool, plus: Any, dtype: Any) -> Array:
    """The same, what is around the product apart from it."""
    if norm is not None:
        x = rms_norm(x, norm, eps)
    if gated:
        gate, up = jnp.split(x, 2, axis=-1)
        x = jax.nn.silu(gate) * up
    if _served(w):
        y = kernels.linear(x.astype(jnp.float32), *w, bias, None, 0.0, False, None)
    else:
        # Sums are float32's in any case; a bias is what GPUs' libraries add before they round.
        out = dtype if w.scale is None and jnp.dtype(dtype) == x.dtype else jnp.float32
        y = _product(x, w.values.astype(x.dtype), out)
        y = y if w.scale is None else y * w.scale
        y = y if bias is None else y + bias.astype(y.dtype)
    y = y.astype(dtype)
    return y if plus is None else y + plus


def _product(x: Array, weights: Array, dtype: Any) -> Array:
    """A TPU multiplies one row number by number, but eight as a matrix, in fewer cycles (docs/gpu-runs.md)."""
    rows = math.prod(x.shape[:-1])
    product = functools.partial(jnp.einsum, "...k,nk->...n", preferred_element_type=dtype)
    if jax.default_backend() != "tpu" or rows >= 8:
        return product(x, weights)
    filled = jnp.pad(x.reshape(rows, -1), ((0, 8 - rows), (0, 0)))
    return product(filled, weights)[:rows].reshape(*x.shape[:-1], -1)


def apart(
    x: Float[Array, "*B D"], w: Matrix, bias: Float[Array, "3*K*C"], heads: int
) -> tuple[Float[Array, "*B K C"], Float[Array, "*B K C"], Float[Array, "*B K C"]]:
    """Queries, keys and values of heads, a product each; `linear` makes one array of them.

    A TPU's compiler lets such a product write heads as attention wants them, and turns them a second time when they
    are cut out of one array (docs/gpu-runs.md). `w` has no scale.
    """
    parts = w.values.reshape(3, heads, -1, x.shape[-1]).astype(x.dtype)
    biases = bias.reshape(3, heads, -1).astype(x.dtype)
    q, k, v = (jnp.einsum("...d,kcd->...kc", x, part) + b for part, b in zip(parts, biases, strict=True))
    return q, k, v


def _few_trial() -> tuple[Array, Array]:
    """One row with gates, and 16 with a norm, against what plain JAX makes of them."""
    outputs, inputs = 130, 192
    normal = lambda number, *shape: jax.random.normal(jax.random.key(number), shape, jnp.bfloat16)
    w = matrix(normal(0, outputs, inputs) * inputs**-0.5, "bfloat16")
    norm, plus = normal(1, inputs), normal(2, 1, outputs)
    got, want = [], []
    for x, around in (
        (normal(3, 1, 2 * inputs), (None, None, 0.0, True, plus)),
        (normal(4, 16, inputs), (normal(5, outputs), norm, 1e-6, False, None)),
    ):
        got.append(few.linear(x, *w, *around, jnp.bfloat16))
        want.append(_linear(x, w, *around, jnp.bfloat16))
    return jnp.concatenate(got), jnp.concatenate(want)


def rms_norm(x: Float[Array, "*B K"], scale: Float[Array, "K"], eps: float) -> Float[Array, "*B K"]:
    """x / sqrt(mean(x^2) + eps) * scale, computed in float32."""
    y = x.astype(jnp.float32)
    return (y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + eps) * scale).astype(x.dtype)


def rows_of(w: Matrix, index: Int[Array, "*B"], dtype: Any) -> Float[Array, "*B K"]:
    """The rows at `index`: embedding by a table that is also the matrix of scores."""
    if w.values.dtype in (jnp.float32, jnp.bfloat16, jnp.int8) and kernels.native("rows"):
        return kernels.rows(w.values, w.scale, index).astype(dtype)  # XLA widens the whole table first
    rows = w.values[index].astype(dtype)
    return rows if w.scale is None else rows * w.scale[index][..., None].astype(dtype)
