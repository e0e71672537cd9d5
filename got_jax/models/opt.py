"""The small decoder of stage 1: OPT (GOT paper 3.2; the released stage 1 used OPT-125M).

Learned positions, pre-norm blocks with biases everywhere, ReLU, tied embeddings. Source: arXiv 2205.01068 and
transformers' `OPTForCausalLM` with `do_layer_norm_before`.
"""

from __future__ import annotations

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Int

from got_jax.config import DecoderConfig
from got_jax.models.layers import LayerNorm, Linear, by_batch, logical, normal
from got_jax.models.qwen2 import Decoder, KVCache, cached_attention
from got_jax.ops.attention import Spans

OFFSET = 2  # OPT's position table starts with two rows that nothing uses


class OptAttention(nn.Module):
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
        project = lambda name: Linear(c.width, ("embed", "heads"), name=name)(x).reshape(*x.shape[:2], c.heads, -1)
        q, k, v = project("q_proj") * c.head_width**-0.5, project("k_proj"), project("v_proj")
        self.sow("intermediates", "queries", q)
        self.sow("intermediates", "keys", k)
        y, cache = cached_attention(q, k, v, positions, spans, cache, layer, c.query_block)
        return Linear(c.width, ("heads", "embed"), name="o_proj")(y.reshape(x.shape)), cache


class OptBlock(nn.Module):
    """Pre-norm block; the scan carries activations and cache, and feeds the layer's index."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self, carry: tuple[Array, KVCache | None], layer: Int[Array, ""], positions: Array, spans: Spans
    ) -> tuple[tuple[Array, KVCache | None], None]:
        c = self.config
        x, cache = carry
        y, cache = OptAttention(c, name="attn")(LayerNorm(c.eps, name="norm1")(x), positions, spans, cache, layer)
        x = x + y
        y = jax.nn.relu(Linear(c.mlp_width, ("embed", "mlp"), name="fc1")(LayerNorm(c.eps, name="norm2")(x)))
        return (by_batch(x + Linear(c.width, ("mlp", "embed"), name="fc2")(y)), cache), None


class OptDecoder(Decoder):
    """`qwen2.Decoder` of OPT's blocks, with learned positions added to the embeddings."""

    Block = OptBlock
    Norm = LayerNorm

    def setup(self) -> None:
        super().setup()
        rows = self.config.context_tokens + OFFSET
        self.table = self.param("positions", logical(normal, None, "embed"), (rows, self.config.width))

    def __call__(
        self,
        x: Float[Array, "B L D"],
        positions: Int[Array, "B L"],
        spans: Spans,
        cache: KVCache | None = None,
    ) -> tuple[Float[Array, "B L D"], KVCache | None]:
        """See `qwen2.Decoder`."""
        return super().__call__(x + self.table[positions + OFFSET].astype(x.dtype), positions, spans, cache)
