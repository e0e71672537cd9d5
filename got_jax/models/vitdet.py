"""The encoder: ViTDet (SAM ViT-B's shape at full size) and its neck.

A picture becomes a grid of patches; blocks attend inside windows, and every `global_every`-th block over the whole
grid; both with decomposed relative positions. Source: GOT paper 3.2, SAM's image encoder (GOT_FACTS.md 1.1).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from got_jax.config import EncoderConfig
from got_jax.models.layers import LayerNorm, Linear, by_batch, logical, normal, remat
from got_jax.ops.attention import relative_attention
from got_jax.ops.conv import conv3x3


def partition_windows(x: Float[Array, "N H W D"], window: int) -> Float[Array, "N*windows window*window D"]:
    """Pads bottom and right with zeros to whole windows and cuts the grid into them, row-major."""
    n, height, width, d = x.shape
    x = jnp.pad(x, ((0, 0), (0, -height % window), (0, -width % window), (0, 0)))
    rows, columns = x.shape[1] // window, x.shape[2] // window
    x = x.reshape(n, rows, window, columns, window, d).swapaxes(2, 3)
    return x.reshape(n * rows * columns, window * window, d)


def merge_windows(
    x: Float[Array, "N*windows window*window D"], window: int, grid: int
) -> Float[Array, "N grid grid D"]:
    """Undoes `partition_windows`, dropping the padding."""
    side = -(-grid // window)
    x = x.reshape(-1, side, side, window, window, x.shape[-1]).swapaxes(2, 3)
    return x.reshape(-1, side * window, side * window, x.shape[-1])[:, :grid, :grid]


def cut_patches(pixels: Float[Array, "N H W 3"], patch_px: int) -> Float[Array, "N grid grid patch*patch*3"]:
    """Squares of the picture, each as one row of its pixels."""
    n, side, p = pixels.shape[0], pixels.shape[1] // patch_px, patch_px
    return pixels.reshape(n, side, p, side, p, 3).swapaxes(2, 3).reshape(n, side, side, p * p * 3)


class EncoderAttention(nn.Module):
    """Self-attention over squares of `side` x `side` cells with decomposed relative positions."""

    config: EncoderConfig
    side: int
    query_block: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "B P D"]) -> Float[Array, "B P D"]:
        c = self.config
        qkv = Linear(3 * c.width, ("embed", "heads"), name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(*x.shape[:2], 3, c.heads, c.head_width), 2, 0)
        table = (2 * self.side - 1, c.head_width)
        rel_h = self.param("rel_pos_h", logical(nn.initializers.zeros, None, None), table)
        rel_w = self.param("rel_pos_w", logical(nn.initializers.zeros, None, None), table)
        y = relative_attention(q, k, v, rel_h, rel_w, self.query_block)
        return Linear(c.width, ("heads", "embed"), name="proj")(y.reshape(x.shape))


class EncoderBlock(nn.Module):
    """Pre-norm transformer block on the grid; `window` 0 attends globally.

    Padding is added after the first norm, so padded cells take part in window attention as zeros with k = v = bias:
    the released weights were trained that way.
    """

    config: EncoderConfig
    window: int

    @nn.compact
    def __call__(self, x: Float[Array, "N H W D"]) -> Float[Array, "N H W D"]:
        c = self.config
        y = LayerNorm(c.eps, name="norm1")(x)
        if self.window:
            y = partition_windows(y, self.window)
            y = EncoderAttention(c, self.window, name="attn")(y)
            x = x + merge_windows(y, self.window, c.grid)
        else:
            y = EncoderAttention(c, c.grid, c.query_block, name="attn")(y.reshape(y.shape[0], -1, c.width))
            x = x + y.reshape(x.shape)
        y = LayerNorm(c.eps, name="norm2")(x)
        y = jax.nn.gelu(Linear(c.mlp_width, ("embed", "mlp"), name="lin1")(y), approximate=False)
        return by_batch(x + Linear(c.width, ("mlp", "embed"), name="lin2")(y))


class EncoderGroup(nn.Module):
    """`global_every` - 1 windowed blocks, scanned, then one global block: the unit that the encoder repeats."""

    config: EncoderConfig
    remat: str
    unroll: int

    @nn.compact
    def __call__(self, x: Float[Array, "N H W D"], _: None = None) -> tuple[Float[Array, "N H W D"], None]:
        c = self.config
        block = remat(EncoderBlock, self.remat)
        if c.global_every > 1:
            windowed = block(c, c.window, name="windowed")
            x, _ = nn.scan(
                lambda module, x, _: (module(x), None),
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=c.global_every - 1,
                unroll=self.unroll,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )(windowed, x, None)
        return block(c, 0, name="global")(x), None


class Neck(nn.Module):
    """1x1 convolution, norm, 3x3 convolution, norm: `width` -> `neck_width` channels."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Float[Array, "N H W D"]) -> Float[Array, "N H W C"]:
        c = self.config
        x = Linear(c.neck_width, ("embed", "neck"), bias=False, name="conv1")(x)
        x = LayerNorm(c.eps, name="norm1")(x)
        kernel = self.param(
            "conv2",
            logical(nn.initializers.lecun_normal(), None, None, "neck_in", "neck"),
            (3, 3, c.neck_width, c.neck_width),
        )
        return by_batch(LayerNorm(c.eps, name="norm2")(conv3x3(x, kernel)))


class Encoder(nn.Module):
    """Normalised pixels -> neck features on the patch grid."""

    config: EncoderConfig
    remat: str = "none"
    unroll: int = 1

    @nn.compact
    def __call__(self, pixels: Float[Array, "N H W 3"]) -> Float[Array, "N grid grid C"]:
        c = self.config
        patches = by_batch(cut_patches(pixels, c.patch_px))
        x = Linear(c.width, ("patch", "embed"), init=nn.initializers.lecun_normal(), name="patch_embed")(patches)
        pos = self.param("pos_embed", logical(normal, None, None, "embed"), (c.grid, c.grid, c.width))
        x = by_batch(x + pos.astype(x.dtype))
        x, _ = nn.scan(
            EncoderGroup,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=c.depth // c.global_every,
            unroll=self.unroll,
            metadata_params={nn.PARTITION_NAME: "groups"},
        )(c, self.remat, self.unroll, name="groups")(x, None)
        return Neck(c, name="neck")(x)
