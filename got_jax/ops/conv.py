"""3x3 convolution as one matrix product over nine shifted views: fast forward and backward on every back end."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from got_jax.ops.product import product


def conv3x3(
    x: Float[Array, "N H W C"], kernel: Float[Array, "3 3 C E"], stride: int = 1
) -> Float[Array, "N H/stride W/stride E"]:
    """Convolution with padding 1 and no bias; equals torch's Conv2d(kernel_size=3, padding=1, stride=stride)."""
    return product(views3x3(x, stride), kernel.reshape(-1, kernel.shape[-1]))


def views3x3(x: Float[Array, "N H W C"], stride: int = 1) -> Float[Array, "N H/stride W/stride 9*C"]:
    """The nine cells that each output of a 3x3 convolution with padding 1 looks at, row by row."""
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    views = [
        padded[:, row : row + height : stride, column : column + width : stride]
        for row in range(3)
        for column in range(3)
    ]
    return jnp.concatenate(views, axis=-1)
