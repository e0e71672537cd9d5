"""Weights for pictures of another size, at the same size of letters: position tables change, everything else stays."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from got_jax.config import GotConfig
from got_jax.errors import require


def resize_pictures(params: dict, old: GotConfig, new: GotConfig) -> dict:
    """Parameters of `old` made to fit `new`, which may differ in `encoder.image_px` and in fields that hold no weights.

    Absolute positions are interpolated over the grid (bicubic). Relative positions of global blocks keep their
    offsets, since a letter stays as large as it was: the table is cut, or its ends are repeated. (SAM interpolates
    them, because there the same picture is shown larger.)

    Raises:
        GotError: when another field that shapes weights differs.
    """
    shapes = lambda c: (
        dataclasses.replace(c.encoder, image_px=new.encoder.image_px, query_block=0),
        dataclasses.replace(c.decoder, context_tokens=new.decoder.context_tokens, query_block=0),
    )
    for a, b in zip(shapes(old), shapes(new), strict=True):
        for field in dataclasses.fields(a):
            was, now = getattr(a, field.name), getattr(b, field.name)
            require(
                was == now,
                f"the stored weights have {field.name} {was} where the config has {now}; only image_px may differ.",
            )
    side, cells = new.encoder.grid, 2 * new.encoder.grid - 1
    if side == old.encoder.grid:
        return params

    def resized(path: tuple, leaf: jax.Array) -> jax.Array:
        names = [part.key for part in path]
        if names[-1] == "pos_embed":
            return jax.image.resize(leaf, (side, side, leaf.shape[-1]), "bicubic", antialias=False)
        if "global" in names and names[-1] in ("rel_pos_h", "rel_pos_w"):
            more = (cells - leaf.shape[1]) // 2
            return jnp.pad(leaf, ((0, 0), (more, more), (0, 0)), "edge") if more > 0 else leaf[:, -more : more or None]
        return jnp.asarray(leaf)

    return jax.tree_util.tree_map_with_path(resized, params)
