"""What the CPU kernels give over XLA: products of few rows in every form of weights, and attention of every kind.

python -m eval.products
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eval.command import printed
from got_jax.errors import require
from got_jax.generate import likeliest
from got_jax.ops import attention, kernels
from got_jax.ops.linear import linear, matrix
from got_jax.ops.product import ROUNDED

REPEATS = 5


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """The median of a few runs of the jitted function."""
    jitted = jax.jit(function)
    jax.block_until_ready(jitted(*arguments))
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        jax.block_until_ready(jitted(*arguments))
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def both(function: Callable[..., Any], *arguments: Any) -> tuple[float, float]:
    """Seconds with the kernels and without."""
    with_kernels = seconds(lambda *a: function(*a), *arguments)
    os.environ[kernels.SETTING] = "0"
    try:
        return with_kernels, seconds(lambda *a: function(*a), *arguments)
    finally:
        del os.environ[kernels.SETTING]


def random(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))


def turned(heads: jax.Array, angles: jax.Array) -> attention.Heads:
    return attention.Heads(heads, jnp.cos(angles), jnp.sin(angles))


def table() -> str:
    """Markdown, a line a product."""
    require(kernels.native(), "the kernels are not built here; install g++, and run on a CPU.")
    lines = ["| work | kernel | plain JAX | |", "|---|---|---|---|"]
    weights = random(24 * 1024, 1024)
    for kind in ("float32", "bfloat16", "int8"):
        kept = matrix(weights, kind)
        for rows in (1, 4, 16, 64, 512):
            ours, plain = both(lambda x, w=kept: linear(x, w), random(rows, 1024))
            rate = lambda s: f"{weights.size / s / 1e9:.2f}"
            name = f"{rows} rows x [24576, 1024] {kind}, 1e9 weights/s"
            lines.append(f"| {name} | {rate(ours)} | {rate(plain)} | {plain / ours:.1f} x |")
    head = 64
    for side, squares in ((64, 1), (14, 25)):
        tables = random(2 * side - 1, head), random(2 * side - 1, head)
        attend = lambda qkv, h, w: attention.square_attention(qkv, h, w, query_block=256, rounded=True)
        ours, plain = both(attend, random(squares, side**2, 3, 12, head), *tables)
        lines.append(
            f"| {squares} squares of {side} x {side}, 12 heads, s | {ours:.3f} | {plain:.3f} | {plain / ours:.1f} x |"
        )
    for length in (300, 2048):
        heads = turned(random(1, length, 48, head), random(1, length, head // 2))
        attend = lambda h, n=length: attention.causal_attention(h, 16, n, jnp.dtype("bfloat16"), 512, rounded=True)
        ours, plain = both(attend, heads)
        lines.append(f"| a prompt of {length}, 16 heads, s | {ours:.4f} | {plain:.4f} | {plain / ours:.1f} x |")
    for rows, slots, kind in ((1, 1024, "bfloat16"), (16, 1024, "bfloat16"), (16, 1024, "int8")):
        kept, scales = attention.kept(random(rows, 16, slots, head), jnp.dtype(kind))
        cache = attention.LayerCache(kept, kept, scales, scales)
        heads = turned(random(rows, 48, head), random(rows, head // 2))
        look = lambda h, p, cache: attention.decode_step(h, p, cache)[0]
        ours, plain = both(look, heads, jnp.full(rows, slots - 1), cache)
        lines.append(
            f"| {rows} rows look at {slots} tokens in {kind}, s | {ours:.5f} | {plain:.5f} | {plain / ours:.1f} x |"
        )
    for rows in (1, 16):
        scores = random(rows, 151860)
        ours, plain = seconds(lambda s: likeliest(s)[0], scores), seconds(lambda s: s.argmax(-1), scores)
        work = f"the likeliest of 151,860 scores, {rows} rows, s"
        lines.append(f"| {work} | {ours:.5f} | {plain:.5f} | {plain / ours:.1f} x |")
    for precision, said in ((None, ""), (ROUNDED, ", rounded")):
        with jax.default_matmul_precision(precision):
            lines += _training(head, said)
    return "\n".join(lines)


def _training(head: int, said: str) -> list[str]:
    """Lines of the attention that trains got_nano, with `head` numbers a head."""
    lines = []
    for side, squares in ((40, 8), (8, 200)):
        tables = random(2 * side - 1, head), random(2 * side - 1, head)
        ours, plain = both(gradients(attention.relative_attention), *[random(squares, side**2, 2, head)] * 3, *tables)
        work = f"{squares} squares of {side} x {side}, 2 heads, with gradients{said}, s"
        lines.append(f"| {work} | {ours:.3f} | {plain:.3f} | {plain / ours:.1f} x |")
    spans = attention.Spans.of_segments(jnp.arange(1024)[None].repeat(2, 0) // 256)
    attend = lambda q, k, v: attention.attention(q, k, v, spans)
    ours, plain = both(gradients(attend), *[random(2, 1024, 4, head)] * 3)
    work = f"2 rows of 4 x 256 packed tokens, 4 heads, with gradients{said}, s"
    return [*lines, f"| {work} | {ours:.3f} | {plain:.3f} | {plain / ours:.1f} x |"]


def gradients(function: Callable[..., jax.Array]) -> Callable[..., Any]:
    """The function's result and the gradients of its sum."""
    return lambda *a: jax.value_and_grad(lambda a: function(*a).sum())(a)


def main() -> int:
    jax.config.update("jax_platforms", "cpu")
    return printed(table)


if __name__ == "__main__":
    sys.exit(main())
