"""The model as it is read with: the same functions as `models`, on weights laid out once for few rows at a time.

Layers are unrolled (a scan copies every layer's weights at every token), q, k, v and gate, up are one product each,
matrices lie outputs first and may be rounded (`ops.linear`), the KV cache is one array a layer. `models` is the plain
twin: it trains, it runs on meshes, and the tests hold this file to it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from got_jax.config import DecoderConfig, GotConfig
from got_jax.errors import require
from got_jax.models.got import normalise_pixels, place_images
from got_jax.models.vitdet import cut_patches, merge_windows, partition_windows
from got_jax.ops import kernels
from got_jax.ops.attention import Cache, Heads, causal_attention, decode_step, square_attention
from got_jax.ops.conv import views3x3
from got_jax.ops.linear import Matrix, apart, linear, matrix, rms_norm, rows_of
from got_jax.weights.lazy import lazy

ROW_BLOCK = 512  # rows of the encoder's MLP at once on CPU: what is between its products stays in the cache


class Prepared(NamedTuple):
    """Weights laid out by `prepare`."""

    encoder: dict
    connector: dict
    decoder: dict


def prepare(config: GotConfig, params: dict, weights: str = "") -> Prepared:
    """Lays out parameters (arrays, or `Lazy` ones that are read one at a time).

    Args:
        weights: how the decoder's matrices are kept: "float32", "bfloat16", "float16" or "int8"; default: as the
            config computes. The encoder's are kept as it computes here.

    Raises:
        GotError: for another kind of weights, or OPT's decoder, which no released model reads with.
    """
    require(config.decoder.kind == "qwen2", "only models with a Qwen2 decoder can be prepared; train this one further.")
    weights, wide = weights or config.dtype, _encoder_kind(config)
    e, d = params["encoder"], params["decoder"]
    plain = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(_values(leaf), jnp.float32), tree)

    def dense(tree: dict, kind: str) -> dict:
        """{kernel, bias?} -> {w, bias?}"""
        bias = {"bias": plain(tree["bias"])} if "bias" in tree else {}
        return {"w": _laid([_values(tree["kernel"])], kind)} | bias

    def convolution(kernel: Any) -> dict:
        return {"w": _laid([_values(kernel).reshape(-1, kernel.shape[-1])], wide)}

    groups = jax.tree.map(_values, e["groups"])
    blocks = []
    for group in range(config.encoder.depth // config.encoder.global_every):
        for number in range(config.encoder.global_every - 1):
            blocks.append(jax.tree.map(lambda leaf, at=(group, number): leaf[at], groups["windowed"]))
        blocks.append(jax.tree.map(lambda leaf, g=group: leaf[g], groups["global"]))
    del groups
    encoder = {
        "patch_embed": dense(e["patch_embed"], wide),
        "pos_embed": plain(e["pos_embed"]),
        "blocks": [
            {
                "norm1": plain(b["norm1"]),
                "norm2": plain(b["norm2"]),
                "rel_h": plain(b["attn"]["rel_pos_h"]),
                "rel_w": plain(b["attn"]["rel_pos_w"]),
                **{name: dense(b["attn"][name], wide) for name in ("qkv", "proj")},
                **{name: dense(b[name], wide) for name in ("lin1", "lin2")},
            }
            for b in blocks
        ],
        "neck": {
            "conv1": dense(e["neck"]["conv1"], wide),
            "conv2": convolution(e["neck"]["conv2"]),
            "norm1": plain(e["neck"]["norm1"]),
            "norm2": plain(e["neck"]["norm2"]),
        },
    }
    del blocks
    c = params["connector"]
    connector = {
        "conv1": convolution(c["conv1"]),
        "conv2": convolution(c["conv2"]),
        "linear": dense(c["linear"], wide),
    }
    decoder = {
        "embedding": _kept_as(_values(d["embedding"]), weights),
        "norm": plain(d["norm"]["scale"]),
        "layers": _decoder_layers(config.decoder, d["layers"], weights),
    }
    return Prepared(encoder, connector, decoder)


def _values(leaf: Any) -> np.ndarray:
    return np.asarray(lazy(leaf).read())


def _laid(kernels: list[np.ndarray], kind: str) -> Matrix:
    """[K, N] kernels side by side as one matrix. What a PyTorch folder gave lies that way already."""
    if all(k.T.flags.c_contiguous for k in kernels):
        return _kept_as(np.concatenate([k.T for k in kernels]) if len(kernels) > 1 else kernels[0].T, kind)
    return _turned(kernels, kind)


def _kept_as(weights: np.ndarray, kind: str) -> Matrix:
    return Matrix(jnp.asarray(weights)) if weights.dtype == kind else _rounded(weights, kind)


_rounded = jax.jit(matrix, static_argnums=1)


@functools.partial(jax.jit, static_argnums=1)
def _turned(kernels: list[Array], kind: str) -> Matrix:
    return matrix(jnp.concatenate(kernels, axis=-1).T, kind)


def _decoder_layers(config: DecoderConfig, stacked: dict, kind: str) -> list[dict]:
    """A dict a layer; each stacked parameter is read once and dropped before the next."""
    layers: list[dict] = [{} for _ in range(config.depth)]
    attn = stacked["attn"]
    fused = {
        "qkv": [attn[name]["kernel"] for name in ("q_proj", "k_proj", "v_proj")],
        "o": [attn["o_proj"]["kernel"]],
        "gate_up": [stacked[name]["kernel"] for name in ("gate_proj", "up_proj")],
        "down": [stacked["down_proj"]["kernel"]],
    }
    for name, leaves in fused.items():
        read = [_values(leaf) for leaf in leaves]
        for number, layer in enumerate(layers):
            layer[name] = _laid([k[number] for k in read], kind)
        del read
    bias = np.concatenate([_values(attn[name]["bias"]) for name in ("q_proj", "k_proj", "v_proj")], axis=-1)
    small = {"qkv_bias": bias} | {name: _values(stacked[name]["scale"]) for name in ("norm1", "norm2")}
    for number, layer in enumerate(layers):
        layer |= {name: jnp.asarray(values[number], jnp.float32) for name, values in small.items()}
    return layers


def activations(config: GotConfig) -> jnp.dtype:
    """What lies between products here: the config's dtype, but float32 on a CPU, unless XLA multiplies bfloat16 well.

    The CPU kernels take float32 and round it themselves where the processor multiplies bfloat16 faster.
    """
    slow = jax.default_backend() == "cpu" and (kernels.native() or not _has_amx())
    return jnp.dtype(jnp.float32 if slow else config.dtype)


def _encoder_kind(config: GotConfig) -> str:
    """How the encoder's matrices are kept."""
    return "bfloat16" if config.dtype == "bfloat16" and kernels.rounds() else str(activations(config))


@functools.cache
def _has_amx() -> bool:
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def encode(config: GotConfig, params: Prepared, images: UInt8[Array, "N H W 3"]) -> Float[Array, "N T D"]:
    """Pictures -> tokens for the decoder; on CPU one picture after another, which needs the memory of one."""
    one = functools.partial(_encode, config, params)
    if jax.default_backend() == "cpu" and len(images) > 1:
        return jax.lax.map(lambda image: one(image[None])[0], images)
    return one(images)


def _encode(config: GotConfig, params: Prepared, images: Array) -> Array:
    c, p = config.encoder, params.encoder
    x = cut_patches(normalise_pixels(images, activations(config)), c.patch_px)
    x = linear(x, **p["patch_embed"])
    x = x + p["pos_embed"].astype(x.dtype)
    for number, block in enumerate(p["blocks"]):
        x = _encoder_block(config, block, x, 0 if (number + 1) % c.global_every == 0 else c.window)
    neck = p["neck"]
    x = _layer_norm(linear(x, **neck["conv1"]), neck["norm1"], c.eps)
    x = _layer_norm(linear(views3x3(x), **neck["conv2"]), neck["norm2"], c.eps)
    for name in ("conv1", "conv2"):
        x = linear(views3x3(x, stride=2), **params.connector[name])
    return linear(x.reshape(x.shape[0], -1, x.shape[-1]), **params.connector["linear"])


def _encoder_block(config: GotConfig, p: dict, x: Float[Array, "N H W D"], window: int) -> Float[Array, "N H W D"]:
    c, rounded = config.encoder, config.dtype == "bfloat16"
    y = _layer_norm(x, p["norm1"], c.eps)
    y = partition_windows(y, window) if window else y.reshape(len(y), -1, c.width)
    if jax.default_backend() == "tpu":
        qkv = apart(y, **p["qkv"], heads=c.heads)
    else:
        qkv = linear(y, **p["qkv"]).reshape(*y.shape[:2], 3, c.heads, c.head_width)
    attended = square_attention(qkv, p["rel_h"], p["rel_w"], c.query_block, rounded)
    y = linear(attended.reshape(y.shape), **p["proj"])
    x = x + (merge_windows(y, window, c.grid) if window else y.reshape(x.shape))

    def mlp(x: Array) -> Array:
        y = linear(_layer_norm(x, p["norm2"], c.eps), **p["lin1"])
        return x + linear(jax.nn.gelu(y, approximate=False), **p["lin2"])

    rows = x.reshape(-1, c.width)
    if jax.default_backend() != "cpu":
        return mlp(rows).reshape(x.shape)
    if len(rows) % ROW_BLOCK == 0:
        return jax.lax.map(mlp, rows.reshape(-1, ROW_BLOCK, c.width)).reshape(x.shape)
    # What the windows of several blocks add up to would be one loop, whose places XLA of jax 0.11 cannot make out.
    return jax.lax.optimization_barrier(mlp(rows)).reshape(x.shape)


def _layer_norm(x: Array, p: dict, eps: float) -> Array:
    y = x.astype(jnp.float32)
    y = y - y.mean(-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + eps)
    return (y * p["scale"] + p["bias"]).astype(x.dtype)


Attend = Callable[[Heads, Any], tuple[Array, Cache]]


def _decoder(
    config: GotConfig,
    params: Prepared,
    x: Array,
    positions: Array,
    caches: list[Any],
    attend: Attend,
    only: Array | None = None,
) -> tuple[Array, list[Cache]]:
    """Blocks over [B, L, D]; `attend` is given the heads and what it needs of a layer's cache.

    `only` [B]: the place of each row whose state is asked for: [B, 1, D]. What follows the last attention, most of
    that layer, is then computed for it alone.
    """
    c = config.decoder
    half = c.head_width // 2
    angles = positions[..., None] * (c.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half))
    cosines, sines = jnp.cos(angles), jnp.sin(angles)
    out = []
    for number, (p, cache) in enumerate(zip(params.decoder["layers"], caches, strict=True)):
        heads = linear(x, p["qkv"], p["qkv_bias"], norm=p["norm1"], eps=c.eps)
        heads = heads.reshape(*x.shape[:2], c.heads + 2 * c.kv_heads, c.head_width)
        y, cache = attend(Heads(heads, cosines, sines), cache)
        out.append(cache)
        y = y.reshape(x.shape)
        if only is not None and number == c.depth - 1:
            x, y = (jnp.take_along_axis(a, only[:, None, None], axis=1) for a in (x, y))
        x = linear(y, p["o"], plus=x)
        gate_up = linear(x, p["gate_up"], norm=p["norm2"], eps=c.eps)
        x = linear(gate_up, p["down"], gated=True, plus=x)
    return rms_norm(x, params.decoder["norm"], c.eps), out


def prefill(
    config: GotConfig,
    params: Prepared,
    tokens: Int[Array, "B L"],
    is_image: Bool[Array, "B L"],
    images: UInt8[Array, "N H W 3"] | Float[Array, "N T D"],
    image_rows: Int[Array, "N"],
    slots: int,
    cache: str = "",
    only: Int[Array, "B"] | None = None,
) -> tuple[list[Cache], Float[Array, "B L D"]]:
    """Runs whole prompts: a cache of `slots` slots that holds them, and their final hidden states.

    Args:
        images: pictures, or the tokens that `encode` made of them.
        cache: how keys and values are kept: "float32", "bfloat16" or "int8"; default: as the config computes.
        only: the one place of each row whose hidden state is wanted, [B, 1, D] then; default: all.
    """
    x = rows_of(params.decoder["embedding"], tokens, activations(config))
    if len(images):
        features = encode(config, params, images) if images.dtype == jnp.uint8 else images
        x = place_images(x, is_image, features, image_rows)
    return prefill_embedded(config, params, x, slots, cache, only)


def prefill_embedded(
    config: GotConfig,
    params: Prepared,
    x: Float[Array, "B L D"],
    slots: int,
    cache: str = "",
    only: Int[Array, "B"] | None = None,
) -> tuple[list[Cache], Float[Array, "B L D"]]:
    """The same from embeddings."""
    c, rounded = config.decoder, config.dtype == "bfloat16"
    rows, length = x.shape[:2]

    def attend(heads: Heads, _: None) -> tuple[Array, Cache]:
        return causal_attention(heads, c.kv_heads, slots, jnp.dtype(cache or config.dtype), c.query_block, rounded)

    positions = jnp.broadcast_to(jnp.arange(length), (rows, length))
    hidden, caches = _decoder(config, params, x, positions, [None] * c.depth, attend, only)
    return caches, hidden


def step(
    config: GotConfig,
    params: Prepared,
    tokens: Int[Array, "B"],
    positions: Int[Array, "B"],
    caches: list[Cache],
) -> tuple[Float[Array, "B D"], list[Cache]]:
    """Feeds one token a row at `positions`: final hidden states, and the caches with it."""
    x = rows_of(params.decoder["embedding"], tokens[:, None], activations(config))

    def attend(heads: Heads, cache: Cache) -> tuple[Array, Cache]:
        return decode_step(jax.tree.map(lambda a: a[:, 0], heads), positions, cache)

    hidden, caches = _decoder(config, params, x, positions[:, None], caches, attend)
    return hidden[:, 0], caches


def logits(params: Prepared, hidden: Float[Array, "B D"]) -> Float[Array, "B V"]:
    """Scores of every vocabulary entry, float32."""
    return linear(hidden, params.decoder["embedding"], dtype=jnp.float32)
