"""The letters lesson: the encoder learns from where each character stands, before and while the decoder learns to read.

A model from random weights gets almost nothing from the answer alone: the decoder does not know where to look, and so
the encoder is never told what was wrong. Synthetic pages know where their letters are. Two linear classifiers, dropped
with the training state, name the letter on each patch (from the neck's features) and the letters in each cell of 4 x 4
patches in reading order (from the token that the decoder sees). GOT itself started from pretrained encoders instead.

The decoder is told where to look, too. It finds its place by what it has just read, and where two lines begin alike it
may go on in the wrong one. So of the heads of each block of its second half one at least is asked to look at the letter
that comes next, as in guided attention (arXiv:1710.08969).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.nn import log_softmax, logsumexp
from jaxtyping import Array, Float

from got_jax.config import GotConfig
from got_jax.data.batches import Batch
from got_jax.data.letters import CELL_LETTERS, NOTHING, NOWHERE, LetterLabels
from got_jax.errors import GotError, require
from got_jax.models.layers import Linear

MOST_CLASSES = 16_384  # a head for each of a cell's twelve letters grows with the vocabulary


class LetterHeads(nn.Module):
    """The two classifiers: (patch features, image tokens) -> scores of every class."""

    classes: int

    @nn.compact
    def __call__(
        self, grid: Float[Array, "N grid grid C"], tokens: Float[Array, "N T D"]
    ) -> tuple[Float[Array, "N grid grid V"], Float[Array, "N T 12 V"]]:
        patches = Linear(self.classes, ("neck", "vocab"), name="patches")(grid)
        cells = Linear(CELL_LETTERS * self.classes, ("embed", "vocab"), name="cells")(tokens)
        return patches, cells.reshape(*tokens.shape[:2], CELL_LETTERS, self.classes)


def init_heads(config: GotConfig, key: Array, boxed: bool = False) -> dict:
    """Fresh parameters of the heads of a model."""
    e = config.encoder
    require(
        config.decoder.vocab_size <= MOST_CLASSES,
        f"the letters lesson is for vocabularies of characters, up to {MOST_CLASSES:,} entries, and this one has "
        f"{config.decoder.vocab_size:,}; set losses.patches and losses.cells to 0.",
    )
    heads = LetterHeads(config.decoder.vocab_size)
    grid = jnp.zeros((1, e.grid, e.grid, e.neck_width))
    params: Any = heads.init(key, grid, jnp.zeros((1, e.image_tokens, config.decoder.width)))["params"]
    return params if boxed else nn.unbox(params)


def letter_losses(
    params: dict, grid: Float[Array, "N grid grid C"], tokens: Float[Array, "N T D"], labels: LetterLabels | None
) -> dict[str, Float[Array, ""]]:
    """Mean cross-entropy of patches and of cells, and the share of letters that are named rightly.

    In a cell the places up to the first empty one count: its letters and where they end.

    Raises:
        GotError: when the batch has no labels.
    """
    if labels is None:
        raise GotError("the engine does not know where its letters stand; set losses.patches and losses.cells to 0.")
    classes = params["patches"]["bias"].shape[0]
    scores: Any = LetterHeads(classes).apply({"params": params}, grid, tokens)
    patches, cells = scores
    of_patches = optax.softmax_cross_entropy_with_integer_labels(patches.astype(jnp.float32), labels.patches)
    of_cells = optax.softmax_cross_entropy_with_integer_labels(cells.astype(jnp.float32), labels.cells)
    filled = labels.cells != NOTHING
    asked = jnp.concatenate([jnp.ones_like(filled[..., :1]), filled[..., :-1]], axis=-1)
    return {
        "patches": of_patches.mean(),
        "cells": (of_cells * asked).sum() / asked.sum(),
        "patch_accuracy": _share(patches.argmax(-1) == labels.patches, labels.patches != NOTHING),
        "cell_accuracy": _share(cells.argmax(-1) == labels.cells, filled),
    }


def place_losses(
    queries: Float[Array, "layers B L K C"], keys: Float[Array, "layers B L G C"], batch: Batch, cells: int
) -> dict[str, Float[Array, ""]]:
    """How far the decoder's second half looks at the letter that comes next, and how often mostly there.

    The loss is minus the log of the share of attention that the letter's cell has among the cells of its picture, in
    the mean of a block's heads: one that looks there is enough, and what else they look at is left to them.

    Args:
        cells: tokens of a picture.

    Raises:
        GotError: when the batch has no labels.
    """
    if batch.places is None:
        raise GotError("the engine does not know where its letters stand; set losses.places to 0.")
    half, rows = queries.shape[0] // 2, queries.shape[1]
    segments, places, is_image = jnp.asarray(batch.segments), jnp.asarray(batch.places), jnp.asarray(batch.is_image)
    count = min(batch.images.shape[0] // rows * cells, is_image.shape[1])  # picture tokens that a row may hold
    at = jax.vmap(lambda row: jnp.nonzero(row, size=count, fill_value=row.size)[0])(is_image)
    own = segments[:, :, None] == jnp.take_along_axis(segments, at, axis=1, mode="fill", fill_value=NOWHERE)[:, None]
    q, k = queries[half:], keys[half:, jnp.arange(rows)[:, None], at]
    q = q.reshape(*q.shape[:3], k.shape[3], -1, q.shape[-1])
    scores = jnp.einsum("nblgrc,nbmgc->nbgrlm", q, k, preferred_element_type=jnp.float32)
    looks = log_softmax(jnp.where(own[:, None, None], scores, -1e9))
    there = jnp.maximum(places, 0)[:, None, None, :, None]
    nll = np.log(q.shape[3] * q.shape[4]) - logsumexp(
        jnp.take_along_axis(looks, there[None], axis=-1)[..., 0], axis=(2, 3)
    )
    known = jnp.broadcast_to(places != NOWHERE, nll.shape)
    return {
        "places": jnp.where(known, nll, 0.0).sum() / jnp.maximum(known.sum(), 1),
        "place_accuracy": _share(jnp.exp(looks).sum((2, 3)).argmax(-1) == places, known),
    }


def _share(right: Array, counted: Array) -> Array:
    return (right & counted).sum() / jnp.maximum(counted.sum(), 1)
