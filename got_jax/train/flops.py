"""Work of the model in floating-point operations (a multiplication and an addition count as two), and chips' peaks."""

from __future__ import annotations

from dataclasses import dataclass

from got_jax.config import GotConfig


@dataclass(frozen=True)
class Chip:
    """One device: peak bfloat16 products and memory, each way's link to its neighbours (makers' data sheets)."""

    flops_per_s: float
    memory_bytes: float
    memory_bytes_per_s: float
    link_bytes_per_s: float  # per device, all links together


GIB = 2**30
CHIPS = {
    "v4": Chip(275e12, 32 * GIB, 1.228e12, 300e9),
    "v5e": Chip(197e12, 16 * GIB, 0.819e12, 200e9),
    "v5p": Chip(459e12, 95 * GIB, 2.765e12, 600e9),
    "v6e": Chip(918e12, 32 * GIB, 1.64e12, 448e9),
    "a100": Chip(312e12, 80 * GIB, 2.0e12, 300e9),
    "h100": Chip(989e12, 80 * GIB, 3.35e12, 450e9),
    "h200": Chip(989e12, 141 * GIB, 4.8e12, 450e9),
}


def chip_of(device_kind: str) -> Chip | None:
    """The chip that JAX's `device_kind` names, or None: unknown, or a CPU."""
    kind = device_kind.lower().replace("tpu ", "").replace(" lite", "e")
    return next((chip for name, chip in CHIPS.items() if name in kind), None)


def encoder_flops(config: GotConfig) -> float:
    """Encoder and connector, forward, one picture."""
    e = config.encoder
    patches, d = e.grid**2, e.width
    padded = (-(-e.grid // e.window) * e.window) ** 2
    attention = lambda cells, keys, side: 2 * cells * keys * 2 * d + 2 * cells * 2 * side * d  # and relative positions
    linear = lambda cells: 2 * cells * 4 * d * d
    mlp = 2 * patches * 2 * d * e.mlp_width
    windowed = linear(padded) + attention(padded, e.window**2, e.window) + mlp
    whole = linear(patches) + attention(patches, patches, e.grid) + mlp
    whole_blocks = e.depth // e.global_every
    blocks = (e.depth - whole_blocks) * windowed + whole_blocks * whole
    n = e.neck_width
    neck = 2 * patches * (d * n + 9 * n * n)
    connector = 2 * (patches / 4) * 9 * n * 2 * n + 2 * (patches / 16) * (
        9 * 2 * n * 4 * n + 4 * n * config.decoder.width
    )
    return 2 * patches * e.patch_px**2 * 3 * d + blocks + neck + connector


def decoder_flops(config: GotConfig, row_tokens: int) -> float:
    """Decoder with its scores, forward, one row; attention as computed, over the whole square of the row."""
    c = config.decoder
    kv = c.kv_heads * c.head_width
    matrices = 2 if c.kind == "opt" else 3
    layer = 2 * row_tokens * (2 * c.width**2 + 2 * c.width * kv + matrices * c.width * c.mlp_width)
    layer += 2 * row_tokens * row_tokens * 2 * c.width
    return c.depth * layer + 2 * row_tokens * c.width * c.vocab_size


def step_flops(
    config: GotConfig, trained: tuple[str, ...], text: bool, rows: int, row_tokens: int, pictures: int
) -> float:
    """One training step without what is recomputed: forward, and twice that where gradients pass.

    Gradients pass the encoder only where it is trained, the decoder always (to connector or adapters at least).
    """
    encoder = pictures * encoder_flops(config) * (3 if "encoder" in trained else 1)
    return encoder + (3 * rows * decoder_flops(config, row_tokens) if text else 0)
