"""The mean of several models' weights: runs that set out from the same weights read better together than each alone.

Source: model soups (arXiv:2203.05482).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from got_jax.errors import require
from got_jax.weights.lazy import Lazy, lazy
from got_jax.weights.store import Model


def averaged(models: Sequence[Model]) -> Model:
    """The first model with every parameter the mean of all of them, summed in float32 and read when it is needed.

    Raises:
        GotError: when their configs or vocabularies differ.
    """
    first, *others = models
    if not others:
        return first
    for model in others:
        require(
            model.config == first.config and model.tokenizer.special == first.tokenizer.special,
            "models of different shapes or vocabularies have no mean; give runs of one config.",
        )

    def mean(*leaves: Lazy) -> Lazy:
        def read() -> np.ndarray:
            total = np.zeros(leaves[0].shape, np.float32)
            for leaf in leaves:
                total += leaf.read().astype(np.float32)
            return (total / len(leaves)).astype(leaves[0].dtype)

        return Lazy(leaves[0].shape, leaves[0].dtype, read)

    trees = [jax.tree.map(lazy, model.params) for model in models]
    return first._replace(params=jax.tree.map(mean, *trees))
