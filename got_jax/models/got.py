"""GOT as a whole: encoder, connector, decoder (GOT paper figure 2)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from got_jax.config import GotConfig
from got_jax.models.layers import Linear, by_batch, logical
from got_jax.models.opt import OptDecoder
from got_jax.models.qwen2 import Decoder, KVCache
from got_jax.models.vitdet import Encoder
from got_jax.ops.attention import Spans
from got_jax.ops.conv import conv3x3

# CLIP's statistics (GOT_FACTS.md section 2).
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


def normalise_pixels(images: UInt8[Array, "N H W 3"], dtype: jnp.dtype) -> Float[Array, "N H W 3"]:
    """To [0, 1], then CLIP's mean and standard deviation, on the device."""
    mean, std = np.asarray(PIXEL_MEAN, np.float32), np.asarray(PIXEL_STD, np.float32)
    return ((images.astype(jnp.float32) / 255.0 - mean) / std).astype(dtype)


class Connector(nn.Module):
    """Two stride-2 convolutions with nothing between them, then one linear layer: grid features -> image tokens."""

    config: GotConfig

    @nn.compact
    def __call__(self, x: Float[Array, "N grid grid C"]) -> Float[Array, "N T D"]:
        width = self.config.encoder.neck_width
        init = nn.initializers.lecun_normal()
        k1 = self.param("conv1", logical(init, None, None, "neck_in", "neck"), (3, 3, width, 2 * width))
        k2 = self.param("conv2", logical(init, None, None, "neck_in", "neck"), (3, 3, 2 * width, 4 * width))
        x = conv3x3(conv3x3(x, k1, stride=2), k2, stride=2)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        return by_batch(Linear(self.config.decoder.width, ("neck", "embed"), init=init, name="linear")(x))


def place_images(
    embeds: Float[Array, "B L D"],
    is_image: Bool[Array, "B L"],
    features: Float[Array, "N T D"],
    image_rows: Int[Array, "N"] | None,
) -> Float[Array, "B L D"]:
    """Overwrites the `<imgpad>` positions of each row, in order, by the tokens of that row's pictures.

    Args:
        image_rows: the row each picture belongs to, ascending; a number >= B marks a padding picture. None: every row
            has N / B places for pictures, as in training batches, and nothing crosses from one row to another.
    """
    rows = embeds.shape[0]
    if image_rows is None:
        index = jnp.clip(jnp.cumsum(is_image, axis=1) - 1, 0)
        own = features.reshape(rows, -1, features.shape[-1]).astype(embeds.dtype)
        return jnp.where(is_image[..., None], jnp.take_along_axis(own, index[..., None], axis=1), embeds)
    first = jnp.searchsorted(image_rows, jnp.arange(rows)) * features.shape[1]
    index = first[:, None] + jnp.cumsum(is_image, axis=1) - 1
    flat = features.reshape(-1, features.shape[-1]).astype(embeds.dtype)
    return jnp.where(is_image[..., None], flat[jnp.clip(index, 0, flat.shape[0] - 1)], embeds)


class Got(nn.Module):
    """The model. `apply(params, ..., method=...)` with one of its methods."""

    config: GotConfig

    def setup(self) -> None:
        c = self.config
        self.encoder = Encoder(c.encoder, c.remat, c.scan_unroll)
        self.connector = Connector(c)
        decoder = OptDecoder if c.decoder.kind == "opt" else Decoder
        self.decoder = decoder(c.decoder, c.remat, c.scan_unroll)

    @property
    def compute_dtype(self) -> jnp.dtype:
        return jnp.dtype(self.config.dtype)

    def grid(self, images: UInt8[Array, "N H W 3"]) -> Float[Array, "N grid grid C"]:
        """Pictures -> the neck's features of each patch."""
        return self.encoder(normalise_pixels(images, self.compute_dtype))

    def connect(self, grid: Float[Array, "N grid grid C"]) -> Float[Array, "N T D"]:
        """Features of patches -> tokens for the decoder."""
        return self.connector(grid)

    def encode(self, images: UInt8[Array, "N H W 3"]) -> Float[Array, "N T D"]:
        """Pictures -> tokens for the decoder."""
        return self.connector(self.grid(images))

    def embed(
        self,
        tokens: Int[Array, "B L"],
        is_image: Bool[Array, "B L"],
        features: Float[Array, "N T D"],
        image_rows: Int[Array, "N"] | None,
    ) -> Float[Array, "B L D"]:
        """Token embeddings with the pictures' tokens in their places."""
        return by_batch(place_images(self.decoder.embed(tokens, self.compute_dtype), is_image, features, image_rows))

    def __call__(
        self,
        tokens: Int[Array, "B L"],
        is_image: Bool[Array, "B L"],
        images: UInt8[Array, "N H W 3"],
        image_rows: Int[Array, "N"] | None,
        positions: Int[Array, "B L"],
        segments: Int[Array, "B L"],
    ) -> Float[Array, "B L D"]:
        """Final hidden states of whole rows (training, parity); `logits` turns them into scores."""
        return self.read(tokens, is_image, self.encode(images), image_rows, positions, segments)

    def read(
        self,
        tokens: Int[Array, "B L"],
        is_image: Bool[Array, "B L"],
        features: Float[Array, "N T D"],
        image_rows: Int[Array, "N"] | None,
        positions: Int[Array, "B L"],
        segments: Int[Array, "B L"],
    ) -> Float[Array, "B L D"]:
        """The same from the pictures' tokens."""
        x = self.embed(tokens, is_image, features, image_rows)
        return self.decoder(x, positions, Spans.of_segments(segments))[0]

    def step(
        self, x: Float[Array, "B L D"], positions: Int[Array, "B L"], cache: KVCache
    ) -> tuple[Float[Array, "B L D"], KVCache]:
        """Runs embedded tokens at `positions` (consecutive in a row) against the cache: prefill and decoding."""
        hidden, cache_out = self.decoder(x, positions, Spans.up_to(positions), cache)
        assert cache_out is not None
        return hidden, cache_out

    def embed_tokens(self, tokens: Int[Array, "B L"]) -> Float[Array, "B L D"]:
        return self.decoder.embed(tokens, self.compute_dtype)

    def logits(self, hidden: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
        return self.decoder.logits(hidden)


def init_params(config: GotConfig, key: Array, boxed: bool = False, model: nn.Module | None = None) -> dict:
    """Fresh float32 parameters, of `Got(config)` or of another `model`; `boxed` keeps the logical axis names."""
    tokens = jnp.zeros((1, config.encoder.image_tokens), jnp.int32)
    side = config.encoder.image_px
    args = (
        tokens,
        jnp.ones_like(tokens, dtype=bool),
        jnp.zeros((1, side, side, 3), jnp.uint8),
        jnp.zeros((1,), jnp.int32),
        jnp.arange(tokens.shape[1])[None],
        jnp.ones_like(tokens),
    )
    params: Any = (model or Got(config)).init(key, *args)["params"]
    return params if boxed else nn.unbox(params)


def apply(config: GotConfig, params: dict, *args: Any, method: str = "__call__", mutable: Any = False) -> Any:
    """Runs a method of the model `Got(config)` with `params`; with `mutable` collections, these come back too."""
    return Got(config).apply({"params": params}, *args, method=method, mutable=mutable)


def abstract_params(config: GotConfig, boxed: bool = False) -> dict:
    """Shapes and dtypes of the parameters, without computing anything."""
    return jax.eval_shape(lambda: init_params(config, jax.random.key(0), boxed))
