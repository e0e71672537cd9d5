"""What training minimises."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def cross_entropy(
    logits: Float[Array, "*B V"], targets: Int[Array, "*B"], weights: Float[Array, "*B"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean cross-entropy and share of right guesses over the counted tokens, in float32.

    Only positions with weight 1 count: the answer and its closing mark (GOT_FACTS.md section 5.5).
    """
    logits = logits.astype(jnp.float32)
    picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    nll = jax.nn.logsumexp(logits, axis=-1) - picked
    count = jnp.maximum(weights.sum(), 1.0)
    right = (logits.argmax(-1) == targets) * weights
    return (nll * weights).sum() / count, right.sum() / count
