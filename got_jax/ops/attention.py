"""Scaled dot-product attention, and the decomposed relative positions of ViTDet written as extra channels."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from got_jax.ops import few, flash, kernels
from got_jax.ops.product import rounds
from got_jax.ops.trial import usable


class Heads(NamedTuple):
    """Queries, keys and values of tokens, and the angles of their positions; not rotated or scaled yet.

    *B is [batch, length], or [batch] for one token a row.
    """

    all: Float[Array, "*B K+2*G C"]
    cosines: Float[Array, "*B C/2"]
    sines: Float[Array, "*B C/2"]


class LayerCache(NamedTuple):
    """Keys and values of one layer; slot s of a row holds position s. In int8 each has a scale a slot."""

    keys: Float[Array, "B G S C"] | Int[Array, "B G S C"]
    values: Float[Array, "B G S C"] | Int[Array, "B G S C"]
    key_scales: Float[Array, "B G S"] | None = None
    value_scales: Float[Array, "B G S"] | None = None

    def widened(self, more: int) -> LayerCache:
        """The same with `more` empty slots."""
        pad = lambda a: jnp.pad(a, ((0, 0), (0, 0), (0, more), *((0, 0),) * (a.ndim - 3)))
        return jax.tree.map(pad, self)


class FlatCache(NamedTuple):
    """The same as a TPU keeps it: a slot's heads lie side by side in one row.

    A TPU fills a last axis of 64 numbers up to 128, and writes a token's heads at once: with heads apart a cache takes
    twice the memory and is copied at every call (docs/gpu-runs.md).
    """

    keys: Float[Array, "B S G*C"] | Int[Array, "B S G*C"]
    values: Float[Array, "B S G*C"] | Int[Array, "B S G*C"]
    key_scales: Float[Array, "B G S"] | None = None
    value_scales: Float[Array, "B G S"] | None = None

    def widened(self, more: int) -> FlatCache:
        """The same with `more` empty slots."""
        both = (jnp.pad(x, ((0, 0), (0, more), (0, 0))) for x in (self.keys, self.values))
        pad = lambda a: jnp.pad(a, ((0, 0), (0, 0), (0, more)))
        return FlatCache(*both, *jax.tree.map(pad, (self.key_scales, self.value_scales)))


Cache = LayerCache | FlatCache


class Spans(NamedTuple):
    """The keys that each query looks at: from `first` to `last`, both included."""

    first: Int[Array, "B Q"]
    last: Int[Array, "B Q"]

    @classmethod
    def of_segments(cls, segments: Int[Array, "B L"]) -> Spans:
        """Each token of a packed row looks at the tokens of its own segment, a run of equal numbers, up to itself."""
        places = jnp.broadcast_to(jnp.arange(segments.shape[1], dtype=jnp.int32), segments.shape)
        begins = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)))
        return cls(jax.lax.cummax(jnp.where(begins, places, 0), axis=1), places)

    @classmethod
    def up_to(cls, positions: Int[Array, "B Q"]) -> Spans:
        """Each query looks at the keys up to its position."""
        return cls(jnp.zeros_like(positions), positions)

    def mask(self, keys: int) -> Bool[Array, "B Q S"]:
        """True where a query looks at one of `keys` keys."""
        places = jnp.arange(keys)
        return (places >= self.first[..., None]) & (places <= self.last[..., None])


def fused(*arrays: Array) -> bool:
    """Does training on these arrays run the CPU's attention kernel? It serves float32 on one device."""
    mesh = jax.sharding.get_abstract_mesh()
    alone = mesh.empty or mesh.size == 1
    return alone and all(x.dtype == jnp.float32 for x in arrays) and kernels.native("attend")


def attention(
    q: Float[Array, "B Q K C"],
    k: Float[Array, "B S G C"],
    v: Float[Array, "B S G E"],
    spans: Spans | None = None,
    query_block: int = 0,
) -> Float[Array, "B Q K E"]:
    """softmax(q k^T) v with float32 scores; the caller has scaled `q`.

    Args:
        q: queries of K heads.
        k, v: keys and values of G heads; G divides K (grouped-query attention).
        spans: the keys that each query may look at; default: all.
        query_block: when positive, queries are scored that many at a time and the backward pass recomputes them, so
            that no [Q, S] matrix is ever held.
    """
    if v.shape == k.shape and fused(q, k, v):
        return kernels.attend(q, k, v, spans, rounded=rounds())
    return plain_attention(q, k, v, spans, query_block)


def plain_attention(
    q: Float[Array, "B Q K C"],
    k: Float[Array, "B S G C"],
    v: Float[Array, "B S G E"],
    spans: Spans | None = None,
    query_block: int = 0,
) -> Float[Array, "B Q K E"]:
    """`attention` in plain JAX."""
    length = q.shape[1]
    if query_block and length > query_block:
        more = -length % query_block
        pad = lambda x: jnp.pad(x, ((0, 0), (0, more), *[(0, 0)] * (x.ndim - 2)))
        split = lambda x: jnp.moveaxis(pad(x).reshape(x.shape[0], -1, query_block, *x.shape[2:]), 1, 0)
        xs = (split(q), None if spans is None else Spans(*map(split, spans)))
        out = jax.lax.map(jax.checkpoint(lambda x: _attention(x[0], k, v, x[1])), xs)
        return jnp.moveaxis(out, 0, 1).reshape(q.shape[0], -1, q.shape[2], v.shape[-1])[:, :length]
    return _attention(q, k, v, spans)


def _attention(q: Array, k: Array, v: Array, spans: Spans | None) -> Array:
    """Softmax is normalised after the product with `v`: a column of ones in `v` sums the weights on the way.

    That saves two passes over the [Q, S] scores forward and two backward.
    """
    b, n, heads, c = q.shape
    groups = k.shape[2]
    q = q.reshape(b, n, groups, heads // groups, c)
    scores = jnp.einsum("bqgrc,bsgc->bgrqs", q, k, preferred_element_type=jnp.float32)
    if spans is not None:
        scores = jnp.where(spans.mask(k.shape[1])[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True))).astype(v.dtype)
    ones = jnp.ones((*v.shape[:-1], 1), v.dtype)
    out = jnp.einsum("bgrqs,bsge->bqgre", weights, jnp.concatenate([v, ones], -1), preferred_element_type=jnp.float32)
    out = (out[..., :-1] / out[..., -1:]).astype(v.dtype)
    return out.reshape(b, n, heads, v.shape[-1])


def relative_position_channels(
    q: Float[Array, "B P K C"],
    k: Float[Array, "B P K C"],
    table_h: Float[Array, "2*side-1 C"],
    table_w: Float[Array, "2*side-1 C"],
) -> tuple[Float[Array, "B P K C+2*side"], Float[Array, "B P K C+2*side"]]:
    """Appends channels whose product is the decomposed relative bias of MViTv2 and SAM.

    The bias of query (h, w) for key (h', w') is q.R_h[h - h'] + q.R_w[w - w'], with the *unscaled* q. It depends on
    the key only through its row and its column, so [q * C^-0.5, q.R_h, q.R_w] . [k, onehot(h'), onehot(w')] gives
    the biased score exactly, without a [P, P] bias matrix, and any attention kernel can run it.

    Args:
        q, k: heads of a square of side * side cells in row-major order, unscaled.
        table_h, table_w: relative position embeddings, entry i - j + side - 1 for query i and key j.
    """
    b, cells, heads, c = q.shape
    side = (table_h.shape[0] + 1) // 2
    rel_h, rel_w = relative_biases(q, table_h, table_w)
    q_out = jnp.concatenate([q * c**-0.5, rel_h, rel_w], axis=-1)
    rows, columns = np.divmod(np.arange(cells), side)
    places = np.concatenate([np.eye(side)[rows], np.eye(side)[columns]], axis=-1)
    places = jnp.broadcast_to(jnp.asarray(places, k.dtype)[None, :, None, :], (b, cells, heads, 2 * side))
    return q_out, jnp.concatenate([k, places], axis=-1)


def relative_biases(
    q: Float[Array, "B P K C"], table_h: Float[Array, "2*side-1 C"], table_w: Float[Array, "2*side-1 C"]
) -> tuple[Float[Array, "B P K side"], Float[Array, "B P K side"]]:
    """q.R_h[h - h'] for every row h' of keys, and q.R_w[w - w'] for every column w'; see above."""
    b, cells, heads, c = q.shape
    side = (table_h.shape[0] + 1) // 2
    offsets = np.arange(side)[:, None] - np.arange(side)[None, :] + side - 1
    square = q.reshape(b, side, side, heads, c)
    rel_h = jnp.einsum("bhwkc,hsc->bhwks", square, table_h[offsets].astype(q.dtype))
    rel_w = jnp.einsum("bhwkc,wsc->bhwks", square, table_w[offsets].astype(q.dtype))
    return rel_h.reshape(b, cells, heads, side), rel_w.reshape(b, cells, heads, side)


def relative_attention(
    q: Float[Array, "B P K C"],
    k: Float[Array, "B P K C"],
    v: Float[Array, "B P K C"],
    table_h: Float[Array, "2*side-1 C"],
    table_w: Float[Array, "2*side-1 C"],
    query_block: int = 0,
) -> Float[Array, "B P K C"]:
    """Self-attention of squares of cells with decomposed relative positions, for training; `q` is unscaled."""
    if fused(q, k, v):
        biases = relative_biases(q, table_h, table_w)
        return kernels.attend(q * q.shape[-1] ** -0.5, k, v, biases=biases, rounded=rounds())
    q, k = relative_position_channels(q, k, table_h, table_w)
    return plain_attention(q, k, v, query_block=query_block)


def square_attention(
    qkv: Float[Array, "B P 3 K C"] | tuple[Array, Array, Array],
    table_h: Float[Array, "2*side-1 C"],
    table_w: Float[Array, "2*side-1 C"],
    query_block: int = 0,
    rounded: bool = False,
) -> Float[Array, "B P K C"]:
    """Self-attention of squares of cells with decomposed relative positions, for inference (no gradient on CPU).

    Args:
        qkv: queries, keys and values, in one array or apart.
        rounded: float32 factors may be rounded to bfloat16 where the processor has units for that.
    """
    whole = None if isinstance(qkv, tuple) else qkv
    if whole is not None and whole.dtype == jnp.float32 and kernels.native("square"):
        return kernels.square(whole, table_h.astype(jnp.float32), table_w.astype(jnp.float32), rounded)
    q, k, v = qkv if isinstance(qkv, tuple) else jnp.moveaxis(qkv, 2, 0)
    sizes = (table_h.shape[0] + 1) // 2, q.shape[-1], q.dtype
    large = flash.serves(*sizes)
    if large and usable("flash", _flash_trial):
        return flash.square(q, k, v, *relative_biases(q, table_h, table_w), jax.default_backend())
    if whole is not None and not large and flash.serves_windows(*sizes) and usable("windows", _windows_trial):
        return flash.windows(whole, table_h, table_w)
    q, k = relative_position_channels(q, k, table_h, table_w)
    return plain_attention(q, k, v, query_block=query_block)


def _flash_trial() -> tuple[Array, Array]:
    qkv, tables, plain = _trial_square(32, 32)
    q, k, v = jnp.moveaxis(qkv, 2, 0)
    return flash.square(q, k, v, *relative_biases(q, *tables), jax.default_backend()), plain


def _windows_trial() -> tuple[Array, Array]:
    qkv, tables, plain = _trial_square(14, 64)
    return flash.windows(qkv, *tables), plain


def _trial_square(side: int, width: int) -> tuple[Array, tuple[Array, Array], Array]:
    """Two heads of one square, tables of relative positions, and what plain JAX makes of them."""
    normal = lambda number, *shape: jax.random.normal(jax.random.key(number), shape, jnp.bfloat16)
    qkv, table = normal(0, 1, side**2, 3, 2, width), (2 * side - 1, width)
    tables = normal(1, *table) * 0.3, normal(2, *table) * 0.3
    q, k, v = jnp.moveaxis(qkv, 2, 0)
    return qkv, tables, plain_attention(*relative_position_channels(q, k, *tables), v)


CACHED = (jnp.float32, jnp.bfloat16, jnp.int8)  # what the kernels keep keys and values as


def causal_attention(
    heads: Heads,
    kv_heads: int,
    slots: int,
    dtype: Any,
    query_block: int = 0,
    rounded: bool = False,
) -> tuple[Float[Array, "B L K C"], Cache]:
    """Attention of whole prompts to themselves, each token up to its own place, for inference.

    Args:
        heads: of [batch, length] tokens.
        kv_heads: how many heads have keys and values (G).
        slots: of the cache that is filled, of `dtype`, with zeros after the prompt.
        rounded: float32 factors may be rounded to bfloat16 where the processor has units for that.

    Returns the heads' outputs, and the cache: rotated keys, and values. What is rounded for the cache is not rounded
    for the prompt's own attention.
    """
    given = heads.all.dtype
    if given == jnp.float32 and dtype in CACHED and kernels.native("causal"):
        out, *cache = kernels.causal(heads.all, heads.cosines, heads.sines, kv_heads, slots, dtype, rounded)
        return out, LayerCache(*cache)  # type: ignore[arg-type]
    b, length, _, width = heads.all.shape
    q, k, v = rotated(heads, kv_heads)
    q, k = (q * width**-0.5).astype(given), k.astype(given)
    spans = Spans.up_to(jnp.broadcast_to(jnp.arange(length), (b, length)))
    (keys, key_scales), (values, value_scales) = kept(k, dtype), kept(v, dtype)
    scales = [None if x is None else x.swapaxes(1, 2) for x in (key_scales, value_scales)]
    if jax.default_backend() == "tpu":
        cache = FlatCache(keys.reshape(b, length, -1), values.reshape(b, length, -1), *scales)
    else:
        cache = LayerCache(keys.swapaxes(1, 2), values.swapaxes(1, 2), *scales)
    return plain_attention(q, k, v, spans, query_block), cache.widened(slots - length)


def kept(x: Float[Array, "*B C"], dtype: Any) -> tuple[Array, Float[Array, "*B"] | None]:
    """Keys or values as a cache of `dtype` keeps them, and their scales where that is int8."""
    if dtype != jnp.int8:
        return x.astype(dtype), None
    x = x.astype(jnp.float32)
    scale = jnp.maximum(jnp.abs(x).max(-1), 1e-12) / 127
    return jnp.round(x / scale[..., None]).astype(jnp.int8), scale


def rotated(heads: Heads, kv_heads: int) -> tuple[Array, Array, Array]:
    """Queries and keys turned by the angles of their positions (pairs are (c, c + C/2)), in float32, and values."""
    count = heads.all.shape[-2]
    q, k, v = jnp.split(heads.all, [count - 2 * kv_heads, count - kv_heads], axis=-2)
    cosines, sines = heads.cosines[..., None, :], heads.sines[..., None, :]

    def turn(x: Array) -> Array:
        a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        return jnp.concatenate([a * cosines - b * sines, b * cosines + a * sines], axis=-1)

    return turn(q), turn(k), v


def decode_step(heads: Heads, positions: Int[Array, "B"], cache: Cache) -> tuple[Float[Array, "B K C"], Cache]:
    """One token a row: its rotated key and its value go into slot positions[b], its queries look at 0 .. positions[b].

    Args:
        heads: of [batch] tokens.

    Returns the heads' outputs and the cache as written.
    """
    given, dtype = heads.all.dtype, cache.keys.dtype
    if isinstance(cache, LayerCache) and dtype in CACHED and kernels.native("decode_step"):
        full = heads.all.astype(jnp.float32)
        out, *written = kernels.decode_step(full, heads.cosines, heads.sines, positions, *cache)
        return out.astype(given), LayerCache(*written)  # type: ignore[arg-type]
    if (
        isinstance(cache, LayerCache)
        and few.serves_cache(cache.keys.shape, given)
        and usable("few_decode_step", _few_trial)
    ):
        out, *written = few.decode_step(*heads, positions, *cache)
        return out, LayerCache(*written)
    return plain_decode_step(heads, positions, cache)


def plain_decode_step(heads: Heads, positions: Int[Array, "B"], cache: Cache) -> tuple[Array, Cache]:
    """`decode_step` in plain JAX.

    A TPU multiplies matrices, and a head's query is a vector. With heads side by side one matrix of queries, zeros
    where another head's keys are, meets all keys of a row; of what values give, each head's own part is taken.
    """
    given, dtype = heads.all.dtype, cache.keys.dtype
    b, count, width = heads.all.shape
    flat = isinstance(cache, FlatCache)
    groups = cache.keys.shape[-1] // width if flat else cache.keys.shape[1]
    q, k, v = rotated(heads, groups)
    cache = _written(cache, positions, k, v)
    near = given if dtype == jnp.int8 else dtype  # every int8 is a number of bfloat16's
    q = (q * width**-0.5).astype(near)
    keys, values = cache.keys.astype(near), cache.values.astype(near)
    count -= 2 * groups
    shared = count // groups  # heads that look at the same keys
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    own = np.repeat(np.eye(groups, dtype=bool), shared, axis=0)[:, :, None]
    if flat:
        scores = product("bkf,bsf->bks", jnp.where(own, q[:, :, None], 0).reshape(b, count, -1), keys)
    else:
        scores = product("bgrc,bgsc->bgrs", q.reshape(b, groups, shared, width), keys).reshape(b, count, -1)
    if cache.key_scales is not None:
        scores = scores * jnp.repeat(cache.key_scales, shared, axis=1)
    seen = jnp.arange(scores.shape[-1]) <= positions[:, None]
    weights = jax.nn.softmax(jnp.where(seen[:, None], scores, jnp.finfo(jnp.float32).min), axis=-1)
    if cache.value_scales is not None:
        weights = weights * jnp.repeat(cache.value_scales, shared, axis=1)
    weights = weights.astype(near)
    if flat:
        out = product("bks,bsf->bkf", weights, values).reshape(b, count, groups, width)
        out = jnp.where(own, out, 0).sum(2)
    else:
        out = product("bgrs,bgsc->bgrc", weights.reshape(b, groups, shared, -1), values)
    return out.reshape(q.shape).astype(given), cache


def _few_trial() -> tuple[Array, Array]:
    b, heads, slots, width = 2, 4, 128, 64
    normal = lambda number, *shape: jax.random.normal(jax.random.key(number), shape, jnp.bfloat16)
    angles = normal(0, b, width // 2).astype(jnp.float32)
    given = Heads(normal(1, b, 3 * heads, width), jnp.cos(angles), jnp.sin(angles))
    cache = LayerCache(normal(2, b, heads, slots, width), normal(3, b, heads, slots, width))
    positions = jnp.array([100, 3])
    got, *written = few.decode_step(*given, positions, *cache)
    want, plain = plain_decode_step(given, positions, cache)
    flat = lambda out, cache: jnp.concatenate([x.ravel() for x in (out, *cache[:2])])
    return flat(got, written), flat(want, plain)


def _written(cache: Cache, positions: Array, k: Float[Array, "B G C"], v: Float[Array, "B G C"]) -> Cache:
    """The cache with a key and a value in one slot of each row; past the end: nowhere."""
    dtype, rows = cache.keys.dtype, jnp.arange(len(k))
    into = lambda places, new: places.set(new, mode="drop", unique_indices=True)
    (k, key_scale), (v, value_scale) = kept(k, dtype), kept(v, dtype)
    if isinstance(cache, FlatCache):
        k, v = (x.reshape(len(x), -1) for x in (k, v))
        here = jnp.arange(cache.keys.shape[1]) == positions[:, None]
        # A TPU turns an array of int8 to write a row of it: going through all of it costs less.
        through = lambda old, new: jnp.where(here[..., None], new[:, None], old)
        write = through if dtype == jnp.int8 else lambda old, new: into(old.at[rows, positions], new)
        write_scale = lambda old, new: jnp.where(here[:, None], new[..., None], old)
    else:
        write = write_scale = lambda old, new: into(old.at[rows, :, positions], new)
    cache = cache._replace(keys=write(cache.keys, k), values=write(cache.values, v))
    if key_scale is None:
        return cache
    scales = write_scale(cache.key_scales, key_scale), write_scale(cache.value_scales, value_scale)
    return cache._replace(key_scales=scales[0], value_scales=scales[1])
