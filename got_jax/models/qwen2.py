"""The decoder: Qwen2 blocks over embeddings, with an optional KV cache.

Source: Qwen1.5-0.5B as GOT uses it (pre-norm RMSNorm, rotary positions in half-split layout, biased q/k/v, SwiGLU,
tied embeddings).
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from got_jax.config import DecoderConfig
from got_jax.models.layers import Linear, RMSNorm, by_batch, logical, normal, remat
from got_jax.ops.attention import Spans, attention


class KVCache(NamedTuple):
    """Keys and values of every layer; slot s of a row holds position s, so a row is valid up to its own length."""

    k: Float[Array, "layers B S G C"]
    v: Float[Array, "layers B S G C"]


def empty_cache(config: DecoderConfig, rows: int, slots: int, dtype: jnp.dtype) -> KVCache:
    shape = (config.depth, rows, slots, config.kv_heads, config.head_width)
    split = lambda x: nn.with_logical_constraint(x, (None, "batch", None, None, None))
    return KVCache(split(jnp.zeros(shape, dtype)), split(jnp.zeros(shape, dtype)))


def rotary(x: Float[Array, "B L K C"], positions: Int[Array, "B L"], theta: float) -> Float[Array, "B L K C"]:
    """Rotary position embedding in the half-split (rotate-half) layout, angles in float32."""
    half = x.shape[-1] // 2
    frequencies = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions[..., None, None].astype(jnp.float32) * frequencies
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


class DecoderAttention(nn.Module):
    """Causal self-attention; with a cache it writes its keys and values there and attends over the cache."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        positions: Int[Array, "B L"],
        spans: Spans,
        cache: KVCache | None,
        layer: Int[Array, ""] | None,
    ) -> tuple[Float[Array, "B L D"], KVCache | None]:
        c = self.config
        split = lambda y, heads: y.reshape(*y.shape[:2], heads, c.head_width)
        q = split(Linear(c.width, ("embed", "heads"), name="q_proj")(x), c.heads)
        k = split(Linear(c.kv_heads * c.head_width, ("embed", "heads"), name="k_proj")(x), c.kv_heads)
        v = split(Linear(c.kv_heads * c.head_width, ("embed", "heads"), name="v_proj")(x), c.kv_heads)
        q = rotary(q, positions, c.rope_theta) * c.head_width**-0.5
        k = rotary(k, positions, c.rope_theta)
        self.sow("intermediates", "queries", q)
        self.sow("intermediates", "keys", k)
        y, cache = cached_attention(q, k, v, positions, spans, cache, layer, c.query_block)
        return Linear(c.width, ("heads", "embed"), bias=False, name="o_proj")(y.reshape(x.shape)), cache


def cached_attention(
    q: Float[Array, "B L K C"],
    k: Float[Array, "B L G C"],
    v: Float[Array, "B L G C"],
    positions: Int[Array, "B L"],
    spans: Spans,
    cache: KVCache | None,
    layer: Int[Array, ""] | None,
    query_block: int = 0,
) -> tuple[Float[Array, "B L K C"], KVCache | None]:
    """Attention over the row itself or, with a cache, over layer `layer` of it after k and v are written there."""
    if cache is not None:
        cache = KVCache(_write(cache.k, k, positions[:, 0], layer), _write(cache.v, v, positions[:, 0], layer))
        k = jax.lax.dynamic_index_in_dim(cache.k, layer, keepdims=False)
        v = jax.lax.dynamic_index_in_dim(cache.v, layer, keepdims=False)
        return attention(q, k, v, spans), cache
    return attention(q, k, v, spans, query_block), None


def _write(cache: Array, new: Array, start: Array, layer: Array | None) -> Array:
    """Writes rows' new entries [B, L, G, C] into layer `layer` of the cache, row b from slot start[b] on."""
    rows = jnp.arange(new.shape[0])[:, None]
    slots = start[:, None] + jnp.arange(new.shape[1])
    return cache.at[layer, rows, slots].set(new.astype(cache.dtype), mode="drop", unique_indices=True)


class DecoderBlock(nn.Module):
    """Pre-norm Qwen2 block; the scan carries activations and cache, and feeds the layer's index."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self, carry: tuple[Array, KVCache | None], layer: Int[Array, ""], positions: Array, spans: Spans
    ) -> tuple[tuple[Array, KVCache | None], None]:
        c = self.config
        x, cache = carry
        y, cache = DecoderAttention(c, name="attn")(RMSNorm(c.eps, name="norm1")(x), positions, spans, cache, layer)
        x = x + y
        y = RMSNorm(c.eps, name="norm2")(x)
        gate = jax.nn.silu(Linear(c.mlp_width, ("embed", "mlp"), bias=False, name="gate_proj")(y))
        up = Linear(c.mlp_width, ("embed", "mlp"), bias=False, name="up_proj")(y)
        x = by_batch(x + Linear(c.width, ("mlp", "embed"), bias=False, name="down_proj")(gate * up))
        return (x, cache), None


class Decoder(nn.Module):
    """Embeddings in, final hidden states out; `embed` and `logits` use the one tied table.

    Queries and keys of the row itself are sown as `intermediates` for whoever makes that collection mutable.
    `opt.OptDecoder` differs in its block, its norm and its positions.
    """

    Block = DecoderBlock
    Norm = RMSNorm

    config: DecoderConfig
    remat: str = "none"
    unroll: int = 1

    def setup(self) -> None:
        c = self.config
        self.embedding = self.param("embedding", logical(normal, "vocab", "embed"), (c.vocab_size, c.width))
        self.layers = nn.scan(
            remat(self.Block, self.remat),
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast),  # type: ignore[arg-type]
            length=c.depth,
            unroll=self.unroll,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )(c)
        self.norm = self.Norm(c.eps)

    def embed(self, tokens: Int[Array, "B L"], dtype: jnp.dtype) -> Float[Array, "B L D"]:
        table = nn.with_logical_constraint(self.embedding.astype(dtype), ("vocab", None))  # gathered over its width
        return by_batch(table[tokens])

    def __call__(
        self,
        x: Float[Array, "B L D"],
        positions: Int[Array, "B L"],
        spans: Spans,
        cache: KVCache | None = None,
    ) -> tuple[Float[Array, "B L D"], KVCache | None]:
        """Args: spans: the keys (slots of the cache when there is one) that each token looks at."""
        (x, cache), _ = self.layers((x, cache), jnp.arange(self.config.depth), positions, spans)
        return self.norm(x), cache

    def logits(self, x: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
        """Scores of every vocabulary entry, float32."""
        return jnp.matmul(x, self.embedding.T.astype(x.dtype), preferred_element_type=jnp.float32)
