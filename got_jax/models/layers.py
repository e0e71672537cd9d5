"""Parameters with logical axis names, and the few layers that every part uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from got_jax.ops.product import product

normal = nn.initializers.normal(0.02)
# 0.018 at width 1024, where the released models used 0.02; small widths need larger weights to pass the signal on.
scaled = nn.initializers.variance_scaling(1 / 3, "fan_in", "normal")


def logical(init: Callable[..., Any], *axes: str | None) -> Callable[..., Any]:
    """An initializer whose parameter carries logical axis names (see `got_jax.sharding`)."""
    return nn.with_logical_partitioning(init, axes)


def by_batch(x: Array) -> Array:
    """An activation whose first axis is split as batches are (`got_jax.sharding.laid_out` says where; else nothing).

    Without it the compiler may split activations by a weight's axes and gather them instead of the weight.
    """
    return nn.with_logical_constraint(x, ("batch", *(None,) * (x.ndim - 1)))


class Linear(nn.Module):
    """x @ kernel (+ bias) over the last axis.

    Attributes:
        features: output width.
        axes: logical names of the kernel's two axes.
    """

    features: int
    axes: tuple[str | None, str | None]
    bias: bool = True
    init: Callable[..., Any] = scaled

    @nn.compact
    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B F"]:
        kernel = self.param("kernel", logical(self.init, *self.axes), (x.shape[-1], self.features))
        y = product(x, kernel)
        if self.bias:
            y = y + self.param("bias", logical(nn.initializers.zeros, self.axes[1]), (self.features,)).astype(x.dtype)
        return y


class LayerNorm(nn.Module):
    """Layer norm over the last axis, computed in float32. Over channels it is also SAM's LayerNorm2d."""

    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        scale = self.param("scale", logical(nn.initializers.ones, "norm"), (x.shape[-1],))
        bias = self.param("bias", logical(nn.initializers.zeros, "norm"), (x.shape[-1],))
        y = x.astype(jnp.float32)
        y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps)
        return (y * scale + bias).astype(x.dtype)


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, computed in float32 (Qwen2)."""

    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        scale = self.param("scale", logical(nn.initializers.ones, "norm"), (x.shape[-1],))
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps)
        return y.astype(x.dtype) * scale.astype(x.dtype)


def remat(block: type[nn.Module], policy: str) -> type[nn.Module]:
    """A block whose backward pass recomputes what `policy` names: see `GotConfig.remat`."""
    if policy == "none":
        return block
    save = {
        "blocks": jax.checkpoint_policies.nothing_saveable,
        "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    }[policy]
    return nn.remat(block, prevent_cse=False, policy=save)
