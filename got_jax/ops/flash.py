"""Self-attention of squares on GPUs and TPUs without a score matrix (FlashAttention), as Pallas kernels.

`square` is for the whole grid, `windows` for many small squares of any side, on GPUs. Their twin is
`ops.attention.plain_attention` over `relative_position_channels`.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

QUERIES = {"gpu": 64, "tpu": 512}  # a program's
ROWS = {"gpu": 1, "tpu": 8}  # of keys that it looks at in one step


def serves(side: int, width: int, dtype: Any) -> bool:
    """Is there a kernel for this device, and for squares of this side and heads of this width?

    Triton's arrays have powers of two, also [q, rel_h]: sides are widths. Rounding is that of 16 bits.
    """
    device = jax.default_backend()
    whole = device in QUERIES and side**2 % QUERIES[device] == 0 and side % ROWS[device] == 0
    return whole and side == width and side & (side - 1) == 0 and jnp.dtype(dtype).itemsize == 2


def square(
    q: Float[Array, "B P K C"],
    k: Float[Array, "B P K C"],
    v: Float[Array, "B P K C"],
    rel_h: Float[Array, "B P K side"],
    rel_w: Float[Array, "B P K side"],
    device: str,
    interpret: bool = False,
) -> Float[Array, "B P K C"]:
    """softmax(q k^T C^-0.5 + rel_h at the key's row + rel_w at its column) v of side * side cells in row-major order.

    Rows' biases are channels of the product, [q, rel_h] . [k, onehot(row)], which costs a TPU nothing: it multiplies
    128 numbers at once. Columns' are added to each row of keys.

    Args:
        q: unscaled; rel_h, rel_w: its products with relative positions (`ops.attention.relative_biases`).
        device: "gpu" or "tpu".
        interpret: run it as plain JAX, anywhere.
    """
    from jax.experimental import pallas as pl  # which a CPU does not need

    b, cells, heads, width = q.shape
    side = rel_h.shape[-1]
    rows = jnp.asarray(np.repeat(np.eye(side), side, axis=0), k.dtype)[:, None]
    q = jnp.concatenate([q * width**-0.5, rel_h], axis=-1)
    k = jnp.concatenate([k, jnp.broadcast_to(rows, (b, cells, heads, side))], axis=-1)
    q, k, v, rel_w = (x.swapaxes(1, 2) for x in (q, k, v, rel_w))
    some = lambda x: pl.BlockSpec((None, None, QUERIES[device], x.shape[-1]), lambda b, h, n: (b, h, n, 0))
    every = lambda x: pl.BlockSpec((None, None, cells, x.shape[-1]), lambda b, h, n: (b, h, 0, 0))
    out = pl.pallas_call(
        functools.partial(_look, rows=ROWS[device]),
        grid=(b, heads, cells // QUERIES[device]),
        in_specs=[some(q), every(k), every(v), some(rel_w)],
        out_specs=some(v),
        out_shape=jax.ShapeDtypeStruct(v.shape, v.dtype),
        compiler_params=on_triton() if device == "gpu" else None,
        interpret=interpret,
    )(q, k, v, rel_w)
    return out.swapaxes(1, 2)


KEYS = 64  # of a window that a program looks at in one step


def serves_windows(side: int, width: int, dtype: Any) -> bool:
    """Is there a kernel for this device, and for many squares of this side and heads of this width?"""
    whole = width >= 16 and width & (width - 1) == 0
    return jax.default_backend() == "gpu" and whole and side <= 64 and jnp.dtype(dtype).itemsize == 2


def windows(
    qkv: Float[Array, "B P 3 K C"],
    table_h: Float[Array, "2*side-1 C"],
    table_w: Float[Array, "2*side-1 C"],
    interpret: bool = False,
) -> Float[Array, "B P K C"]:
    """Self-attention of squares with decomposed relative positions; `qkv` is read, and heads are written, as they lie.

    A block of scores is q . k plus [rel_h, rel_w] . [onehot(row), onehot(column)], a product of few channels.

    Args:
        interpret: run it as plain JAX, anywhere.
    """
    from jax.experimental import pallas as pl

    b, cells, _, heads, width = qkv.shape
    side = (table_h.shape[0] + 1) // 2
    room = max(8, 1 << (side - 1).bit_length())  # channels of rows, and of columns
    # One product with both tables, then each query's part of it.
    tables = jnp.concatenate([table_h, table_w]).astype(qkv.dtype)
    full = jnp.einsum("bpkc,tc->bpkt", qkv[:, :, 0], tables)
    places, offsets = np.divmod(np.arange(cells), side), side - 1 - np.arange(room)
    part = [np.clip(place[:, None] + offsets, 0, 2 * side - 2) for place in places]
    part = np.concatenate([part[0], part[1] + 2 * side - 1], axis=-1)
    biases = jnp.take_along_axis(full, jnp.asarray(part)[None, :, None], axis=-1)
    return pl.pallas_call(
        functools.partial(_window, side=side),
        grid=(b, heads, pl.cdiv(cells, QUERIES["gpu"])),
        out_shape=jax.ShapeDtypeStruct((b, cells, heads, width), qkv.dtype),
        compiler_params=on_triton(),
        interpret=interpret,
    )(qkv, biases)


def _window(qkv: Any, biases: Any, out: Any, *, side: int) -> None:
    """Some queries of one head of one square over all its keys; what lies past the last cell repeats it."""
    from jax.experimental import pallas as pl

    window, head = pl.program_id(0), pl.program_id(1)
    cells, width, channels = qkv.shape[1], qkv.shape[-1], biases.shape[-1]
    mine = jnp.minimum(pl.program_id(2) * QUERIES["gpu"] + jnp.arange(QUERIES["gpu"]), cells - 1)
    q, bias = qkv[window, mine, 0, head, :] * width**-0.5, biases[window, mine, head, :]
    product = functools.partial(jax.lax.dot_general, preferred_element_type=jnp.float32)
    axis = jnp.arange(channels)[:, None]

    def body(step: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        top, total, sums = carry
        key = step * KEYS + jnp.arange(KEYS)
        there = jnp.minimum(key, cells - 1)
        row, column = there // side, there % side + channels // 2
        place = ((axis == row[None]) | (axis == column[None])).astype(bias.dtype)
        scores = product(q, qkv[window, there, 1, head, :], (((1,), (1,)), ((), ())))
        scores = scores + product(bias, place, (((1,), (0,)), ((), ())))
        scores = jnp.where((key < cells)[None], scores, -1e30)
        higher = jnp.maximum(top, scores.max(-1, keepdims=True))
        weights, less = jnp.exp(scores - higher), jnp.exp(top - higher)
        v = qkv[window, there, 2, head, :]
        sums = sums * less + product(weights.astype(v.dtype), v, (((1,), (0,)), ((), ())))
        return higher, total * less + weights.sum(-1, keepdims=True), sums

    zeros = jnp.zeros((QUERIES["gpu"], 1), jnp.float32)
    first = zeros - 1e30, zeros, jnp.zeros((QUERIES["gpu"], width), jnp.float32)
    _, total, sums = jax.lax.fori_loop(0, pl.cdiv(cells, KEYS), body, first)
    out[window, mine, head, :] = (sums / total).astype(out.dtype)


def on_triton(warps: int = 4, stages: int = 2) -> Any:
    """How a GPU's kernel is compiled: warps of a program, and loads that are under way in its loop."""
    from jax.experimental.pallas import triton

    return triton.CompilerParams(num_warps=warps, num_stages=stages)


def _look(q_ref: Any, k_ref: Any, v_ref: Any, rel_w_ref: Any, out_ref: Any, *, rows: int) -> None:
    """Some queries of one head over all its keys, `rows` rows of the square at a time; softmax as they come."""
    from jax.experimental import pallas as pl

    q, bias = q_ref[...], rel_w_ref[...].astype(jnp.float32)
    keys = rows * bias.shape[-1]
    bias = jnp.concatenate([bias] * rows, axis=-1) if rows > 1 else bias
    product = functools.partial(jax.lax.dot_general, preferred_element_type=jnp.float32)

    def body(step: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        top, total, sums = carry
        there = pl.ds(step * keys, keys)
        scores = product(q, k_ref[there, :], (((1,), (1,)), ((), ()))) + bias
        higher = jnp.maximum(top, scores.max(-1, keepdims=True))
        weights, less = jnp.exp(scores - higher), jnp.exp(top - higher)
        v = v_ref[there, :]
        sums = sums * less + product(weights.astype(v.dtype), v, (((1,), (0,)), ((), ())))
        return higher, total * less + weights.sum(-1, keepdims=True), sums

    zeros = jnp.zeros((q.shape[0], 1), jnp.float32)
    first = zeros - 1e30, zeros, jnp.zeros((q.shape[0], v_ref.shape[-1]), jnp.float32)
    _, total, sums = jax.lax.fori_loop(0, k_ref.shape[0] // keys, body, first)
    out_ref[...] = (sums / total).astype(out_ref.dtype)
