"""Decoding's products and attention on a GPU as Pallas kernels (Triton), for few rows at once.

A step of few rows reads every weight once and computes next to nothing, so kernels that only start and end cost as
much as those that read: what lies around a product (norm, gate, bias, residual) and around the attention (rotation,
the write into the cache) is part of it here, five or six kernels a layer instead of fifteen. The twins are
`ops.linear.linear` and `ops.attention.decode_step` in plain JAX.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from got_jax.ops.flash import on_triton

ROWS = 64  # the most; more are what matrix products are made for
VECTORS = 4  # so many rows meet the weights one by one, without a loop over the inputs; more as a matrix
SLOTS = 64  # of the cache that a program looks at in one step
PROGRAMS = 264  # that keep the 132 multiprocessors of a GPU busy
NEVER = -1e30  # the score of what is not looked at


def serves(rows: int, weights: tuple[int, ...], given: Any, kept: Any) -> bool:
    """Is there a kernel on this device for products of `rows` rows of dtype `given` with [N, K] weights of `kept`?

    Triton's arrays have powers of two: inputs are cut into such. Rounding is that of 16 bits.
    """
    outputs, inputs = weights
    sizes = 0 < rows <= ROWS and inputs % 64 == 0 and outputs >= 16
    return jax.default_backend() == "gpu" and sizes and jnp.dtype(given).itemsize == 2 and kept in (given, jnp.int8)


def linear(
    x: Float[Array, "R K"] | Float[Array, "R 2*K"],
    w: Float[Array, "N K"] | Int[Array, "N K"],
    scale: Float[Array, "N"] | None,
    bias: Float[Array, "N"] | None,
    norm: Float[Array, "K"] | None,
    eps: float,
    gated: bool,
    plus: Float[Array, "R N"] | None,
    dtype: Any,
    interpret: bool = False,
) -> Float[Array, "R N"]:
    """`ops.linear.linear` of sizes that `serves` names, a kernel.

    Args:
        interpret: run it as plain JAX, anywhere.
    """
    from jax.experimental import pallas as pl  # which a CPU does not need

    rows, (outputs, inputs) = len(x), w.shape
    singly = rows <= VECTORS
    if gated and not singly:  # every program would compute all gates
        gate, up = jnp.split(x, 2, axis=-1)
        x, gated = jax.nn.silu(gate) * up, False
    some = 16 if outputs > 4096 or not singly else 8 if outputs > 2048 else 4
    padded = rows if singly else max(16, 1 << (rows - 1).bit_length())
    around = {"scale": scale, "bias": bias, "norm": norm, "plus": plus}
    given = {"x": x, "w": w} | {name: value for name, value in around.items() if value is not None}

    def kernel(*refs: Any) -> None:
        *ins, out = refs
        named = dict(zip(given, ins, strict=True))
        # The last program's outputs overlap its neighbour's, which computes the same: none lies past the end.
        mine = pl.ds(jnp.minimum(pl.program_id(0) * some, outputs - some), some)
        wide = lambda name, *where: named[name][*where, mine].astype(jnp.float32) if name in named else None
        if singly:
            places, products = range(rows), _singly(named, mine, rows, inputs, eps, gated)
        else:
            place = jnp.minimum(jnp.arange(padded), rows - 1)
            places, products = [place], [_together(named, mine, place, eps)]
        scales, biases = wide("scale"), wide("bias")
        for place, sums in zip(places, products, strict=True):
            more = wide("plus", place)
            sums = sums if scales is None else sums * scales
            sums = sums if biases is None else sums + biases
            sums = sums if more is None else sums + more
            out[place if singly else slice(None), mine] = sums.astype(out.dtype)

    made = pl.pallas_call(
        kernel,
        grid=(pl.cdiv(outputs, some),),
        out_shape=jax.ShapeDtypeStruct((padded, outputs), dtype),
        compiler_params=on_triton(8 if singly and some * inputs > 2**13 else 4, 4),
        interpret=interpret,
    )(*given.values())
    return made[:rows]


def _singly(named: dict[str, Any], mine: Any, rows: int, inputs: int, eps: float, gated: bool) -> list[Array]:
    """Products of each row with the weights of some outputs, which are read once, in as few steps as can be.

    A row's norm divides its sums, which need not wait for it then.
    """
    from jax.experimental import pallas as pl

    sums, squares = [jnp.float32(0)] * rows, [jnp.float32(0)] * rows
    for start, size in powers(inputs):
        there = pl.ds(start, size)
        weights = named["w"][mine, there].astype(jnp.float32)
        scale = named["norm"][there].astype(jnp.float32) if "norm" in named else None
        for row in range(rows):
            x = named["x"][row, there].astype(jnp.float32)
            if gated:
                x = x * jax.nn.sigmoid(x) * named["x"][row, pl.ds(inputs + start, size)].astype(jnp.float32)
            if scale is not None:
                squares[row] = squares[row] + (x * x).sum()
                x = x * scale
            sums[row] = sums[row] + (weights * x[None]).sum(1)
    if "norm" not in named:
        return sums
    return [s * jax.lax.rsqrt(q / inputs + eps) for s, q in zip(sums, squares, strict=True)]


def powers(count: int) -> list[tuple[int, int]]:
    """(start, size) of consecutive parts, the sizes powers of two up to 2,048, the largest first."""
    parts, start = [], 0
    while start < count:
        size = min(2048, 1 << ((count - start).bit_length() - 1))
        parts.append((start, size))
        start += size
    return parts


def _together(named: dict[str, Any], mine: Any, place: Int[Array, "P"], eps: float) -> Float[Array, "P n"]:
    """Products of all rows, at `place`, with the weights of some outputs; rows that only pad repeat the last."""
    from jax.experimental import pallas as pl

    x_ref, w_ref = named["x"], named["w"]
    inputs = w_ref.shape[1]
    step = 128 if inputs % 128 == 0 else 64

    def body(number: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        sums, squares = carry
        there = pl.ds(number * step, step)
        x = x_ref[place, there]
        if "norm" in named:
            wide = x.astype(jnp.float32)
            squares = squares + (wide * wide).sum(1)
            x = (wide * named["norm"][there].astype(jnp.float32)[None]).astype(x.dtype)
        weights = w_ref[mine, there].astype(x.dtype)
        across = (((1,), (1,)), ((), ()))
        return sums + jax.lax.dot_general(x, weights, across, preferred_element_type=jnp.float32), squares

    zeros = jnp.zeros((len(place), mine.size), jnp.float32), jnp.zeros(len(place), jnp.float32)
    sums, squares = jax.lax.fori_loop(0, inputs // step, body, zeros)
    return sums * jax.lax.rsqrt(squares / inputs + eps)[:, None] if "norm" in named else sums


def serves_cache(keys: tuple[int, ...], given: Any) -> bool:
    """Is there a kernel on this device for attention of heads of dtype `given` to [B, G, S, C] keys?"""
    *_, slots, width = keys
    sizes = slots >= SLOTS and width >= 16 and width & (width - 1) == 0
    return jax.default_backend() == "gpu" and sizes and jnp.dtype(given).itemsize == 2


def decode_step(
    heads: Float[Array, "B K+2*G C"],
    cosines: Float[Array, "B C/2"],
    sines: Float[Array, "B C/2"],
    positions: Int[Array, "B"],
    keys: Float[Array, "B G S C"] | Int[Array, "B G S C"],
    values: Float[Array, "B G S C"] | Int[Array, "B G S C"],
    key_scales: Float[Array, "B G S"] | None,
    value_scales: Float[Array, "B G S"] | None,
    interpret: bool = False,
) -> tuple[Any, ...]:
    """`ops.attention.decode_step`; the caches are written where they lie. Returns the heads' outputs and the caches.

    A program looks at every `splits`-th block of one head's slots, up to the row's position, each slot of a block on
    its own until the end, so that nothing waits within the loop. What some programs found is put together after it.
    """
    from jax.experimental import pallas as pl

    b, groups, slots, width = keys.shape
    count = heads.shape[1] - 2 * groups
    splits = max(1, min(-(-PROGRAMS // (b * count)), slots // (2 * SLOTS)))
    turns = jnp.concatenate([cosines, cosines], -1), jnp.concatenate([-sines, sines], -1)
    caches = [x for x in (keys, values, key_scales, value_scales) if x is not None]
    parts = jax.ShapeDtypeStruct((b, count, splits, width), jnp.float32 if splits > 1 else heads.dtype)
    logs = jax.ShapeDtypeStruct((b, count, splits), jnp.float32)
    out, top, total, *written = pl.pallas_call(
        _look,
        grid=(b, count, splits),
        out_shape=[parts, logs, logs, *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in caches)],
        input_output_aliases={4 + n: 3 + n for n in range(len(caches))},
        compiler_params=on_triton(4, 3),
        interpret=interpret,
    )(heads, *turns, positions, *caches)
    if splits > 1:
        part = jnp.exp(top - top.max(-1, keepdims=True))
        out = (out * part[..., None]).sum(2) / (total * part).sum(-1)[..., None]
    return (out if splits > 1 else out[:, :, 0]).astype(heads.dtype), *written, *[None] * (4 - len(written))


def _look(heads: Any, cosines: Any, sines: Any, positions: Any, *refs: Any) -> None:
    """One head of one row; of the slots, the blocks that are this program's."""
    from jax.experimental import pallas as pl

    caches, (out, out_top, out_total, *writes) = refs[: len(refs) // 2 - 1], refs[len(refs) // 2 - 1 :]
    scaled = len(caches) > 2
    row, head, split = (pl.program_id(axis) for axis in range(3))
    splits, groups, slots, width = out.shape[2], *caches[0].shape[1:]
    count = out.shape[1]
    shared = count // groups  # heads that look at the same keys
    group = head // shared
    place = positions[row]
    inside = place < slots
    lanes = jnp.arange(width)

    def turned(number: Any) -> Array:
        x, other = heads[row, number, :], heads[row, number, lanes ^ (width // 2)]
        return x.astype(jnp.float32) * cosines[row, :] + other.astype(jnp.float32) * sines[row, :]

    query = turned(head) * width**-0.5
    new = turned(count + group), heads[row, count + groups + group, :].astype(jnp.float32)
    kept, seen = zip(*(_kept(x, caches[0].dtype) for x in new), strict=True)

    @pl.when(inside & (split == 0) & (head % shared == 0))
    def _() -> None:
        for write, (number, _) in zip(writes[:2], kept, strict=True):
            write[row, group, place, :] = number
        for write, (_, scale) in zip(writes[2:], kept, strict=False):
            write[row, group, place] = scale

    blocks = pl.cdiv(jnp.minimum(place, slots), SLOTS)

    def body(number: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        top, total, sums = carry
        begin = (split + number * splits) * SLOTS
        start = jnp.minimum(begin, slots - SLOTS)  # what the last block has in common with the one before is left out
        there, slot = pl.ds(start, SLOTS), start + jnp.arange(SLOTS)
        k, v = (cache[row, group, there, :].astype(jnp.float32) for cache in caches[:2])
        scores = (k * query[None]).sum(1)
        scores = scores * caches[2][row, group, there] if scaled else scores
        scores = jnp.where((slot >= begin) & (slot < place), scores, NEVER)
        higher = jnp.maximum(top, scores)
        weights, less = jnp.exp(scores - higher), jnp.exp(top - higher)
        total = total * less + weights
        weights = weights * caches[3][row, group, there] if scaled else weights
        return higher, total, sums * less[:, None] + v * weights[:, None]

    first = (jnp.arange(SLOTS) == 0) & inside & (split == 0)  # the new key and value, from where they are
    top = jnp.where(first, (seen[0] * query).sum(), NEVER)
    total = first.astype(jnp.float32)
    sums = total[:, None] * seen[1][None]
    steps = pl.cdiv(jnp.maximum(blocks - split, 0), splits)
    top, total, sums = jax.lax.fori_loop(0, steps, body, (top, total, sums))
    highest = top.max()
    part = jnp.exp(top - highest)
    whole, sums = (total * part).sum(), (sums * part[:, None]).sum(0)
    out[row, head, split, :] = (sums if splits > 1 else sums / whole).astype(out.dtype)
    out_top[row, head, split] = highest
    out_total[row, head, split] = whole


def _kept(x: Float[Array, "C"], dtype: Any) -> tuple[tuple[Array, Array | None], Float[Array, "C"]]:
    """A key or value as the cache keeps it, its scale, and what that is as a number (`ops.attention.kept`)."""
    if dtype != jnp.int8:
        x = x.astype(dtype)
        return (x, None), x.astype(jnp.float32)
    scale = jnp.maximum(jnp.abs(x).max(), 1e-12) / 127
    whole = jnp.floor(x / scale + 0.5)
    return (whole.astype(jnp.int8), scale), whole * scale
