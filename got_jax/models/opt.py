"""The small decoder of stage 1: OPT (GOT paper 3.2; the released stage 1 used OPT-125M).

Learned positions, pre-norm blocks with biases everywhere, ReLU, tied embeddings. Source: arXiv 2205.01068 and
transformers' `OPTForCausalLM` with `do_layer_norm_before`.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from got_jax.config import DecoderConfig
from got_jax.models.layers import LayerNorm, Linear, logical, normal
from got_jax.models.qwen2 import KVCache, write_cache
from got_jax.ops.attention import attention

OFFSET = 2  # OPT's position table starts with two rows that nothing uses


class OptAttention(nn.Module):
    """Causal self-attention; with a cache it writes its keys and values there and attends over the cache."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        positions: Int[Array, "B L"],
        mask: Bool[Array, "B L S"],
        cache: KVCache | None,
        layer: Int[Array, ""] | None,
    ) -> tuple[Float[Array, "B L D"], KVCache | None]:
        c = self.config
        project = lambda name: Linear(c.width, ("embed", "heads"), name=name)(x).reshape(*x.shape[:2], c.heads, -1)
        q, k, v = project("q_proj") * c.head_width**-0.5, project("k_proj"), project("v_proj")
        if cache is not None:
            cache = KVCache(
                write_cache(cache.k, k, positions[:, 0], layer), write_cache(cache.v, v, positions[:, 0], layer)
            )
            k = jax.lax.dynamic_index_in_dim(cache.k, layer, keepdims=False)
            v = jax.lax.dynamic_index_in_dim(cache.v, layer, keepdims=False)
        y = attention(q, k, v, mask).reshape(x.shape)
        return Linear(c.width, ("heads", "embed"), name="o_proj")(y), cache


class OptBlock(nn.Module):
    """Pre-norm block; the scan carries activations and cache, and feeds the layer's index."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self, carry: tuple[Array, KVCache | None], layer: Int[Array, ""], positions: Array, mask: Array
    ) -> tuple[tuple[Array, KVCache | None], None]:
        c = self.config
        x, cache = carry
        y, cache = OptAttention(c, name="attn")(LayerNorm(c.eps, name="norm1")(x), positions, mask, cache, layer)
        x = x + y
        y = jax.nn.relu(Linear(c.mlp_width, ("embed", "mlp"), name="fc1")(LayerNorm(c.eps, name="norm2")(x)))
        return (x + Linear(c.width, ("mlp", "embed"), name="fc2")(y), cache), None


class OptDecoder(nn.Module):
    """The same face as `qwen2.Decoder`: embeddings in, final hidden states out."""

    config: DecoderConfig
    remat: bool = False
    unroll: int = 1

    def setup(self) -> None:
        c = self.config
        self.embedding = self.param("embedding", logical(normal, "vocab", "embed"), (c.vocab_size, c.width))
        self.table = self.param("positions", logical(normal, None, "embed"), (c.context_tokens + OFFSET, c.width))
        block = nn.remat(OptBlock, prevent_cse=False) if self.remat else OptBlock
        self.layers = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast),  # type: ignore[arg-type]
            length=c.depth,
            unroll=self.unroll,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )(c)
        self.norm = LayerNorm(c.eps)

    def embed(self, tokens: Int[Array, "B L"], dtype: jnp.dtype) -> Float[Array, "B L D"]:
        return self.embedding[tokens].astype(dtype)

    def __call__(
        self,
        x: Float[Array, "B L D"],
        positions: Int[Array, "B L"],
        mask: Bool[Array, "B L S"],
        cache: KVCache | None = None,
    ) -> tuple[Float[Array, "B L D"], KVCache | None]:
        """Args: mask: True where query l of a row may look at key s (a slot of the cache when there is one)."""
        x = x + self.table[positions + OFFSET].astype(x.dtype)
        (x, cache), _ = self.layers((x, cache), jnp.arange(self.config.depth), positions, mask)
        return self.norm(x), cache

    def logits(self, x: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
        """Scores of every vocabulary entry, float32."""
        return jnp.matmul(x, self.embedding.T.astype(x.dtype), preferred_element_type=jnp.float32)
