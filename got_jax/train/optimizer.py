"""AdamW with clipping, warm-up and cosine decay (GOT paper section 3; LAVIS' warm-up for stage 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from got_jax.errors import require

CONVOLUTIONS = ("conv1", "conv2")
KERNELS = ("kernel", *CONVOLUTIONS)


@dataclass(frozen=True)
class OptimizerConfig:
    """`lr` is the peak; it falls to `lr * final` at the last step. Norms, biases and position tables do not decay.

    Attributes:
        full_lr_inputs: a matrix with more inputs than this learns slower in proportion (0: all learn alike, as the
            released models did). Adam moves every weight by the learning rate, so the same blank paper in every
            picture adds up over a 3x3 convolution's inputs; at 1e-3 that drowns the text within ten steps.
        encoder_delay_steps: encoder and connector rest for so many steps, then warm up. A decoder that starts from
            nothing learns the frequencies of words first, and would bend the pictures' tokens to that end.
    """

    lr: float = 1e-4
    final: float = 0.0
    warmup_steps: int = 500
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    clip_norm: float = 1.0
    full_lr_inputs: int = 0
    encoder_delay_steps: int = 0

    def __post_init__(self) -> None:
        require(self.lr > 0, f"optimizer.lr is {self.lr}, but it must be above 0.")
        require(self.warmup_steps >= 0, f"optimizer.warmup_steps is {self.warmup_steps}; it must be 0 or more.")
        require(self.clip_norm > 0, f"optimizer.clip_norm is {self.clip_norm}, but it must be above 0.")


def schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Linear from 0 to `lr`, then a half cosine to `lr * final` at step `steps`."""
    warmup = min(config.warmup_steps, max(0, steps - 1))
    return optax.warmup_cosine_decay_schedule(
        0.0 if warmup else config.lr, config.lr, warmup, steps, config.lr * config.final
    )


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The update rule for a run of `steps` steps."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            schedule(config, steps), config.b1, config.b2, config.eps, weight_decay=config.weight_decay, mask=decays
        ),
        slow_down_wide(config.full_lr_inputs),
        delay_encoder(config.encoder_delay_steps, config.warmup_steps),
    )


def delay_encoder(steps: int, warmup: int) -> optax.GradientTransformation:
    """Scales the updates of encoder and connector by 0 for `steps` steps, then linearly up to 1."""

    def update(updates: dict, count: Int[Array, ""], _: Any = None) -> tuple[dict, Int[Array, ""]]:
        share = jnp.clip((count - steps) / max(warmup, 1), 0.0, 1.0)
        rest = lambda tree: jax.tree.map(lambda leaf: leaf * share, tree)
        if steps:
            updates = {name: part if name == "decoder" else rest(part) for name, part in updates.items()}
        return updates, count + 1

    return optax.GradientTransformation(lambda _: jnp.zeros((), jnp.int32), update)  # type: ignore[arg-type]


def slow_down_wide(inputs: int) -> optax.GradientTransformation:
    """Scales the update of every matrix with more than `inputs` inputs by inputs / its own (0: leaves all alone)."""

    def scale(path: tuple, update: jax.Array) -> jax.Array:
        kernel = _name(path) in KERNELS
        wide = math.prod(update.shape[-4:-1] if _name(path) in CONVOLUTIONS else update.shape[-2:-1])
        return update * (inputs / wide) if inputs and kernel and wide > inputs else update

    return optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(scale, updates))


def decays(params: dict) -> dict:
    """True for matrices and convolutions; False for norms, biases, positions (they hold no 'direction' to shrink)."""
    return jax.tree_util.tree_map_with_path(lambda path, _: _name(path) in (*KERNELS, "embedding"), params)


def _name(path: tuple) -> str:
    return [part.key for part in path if isinstance(part, jax.tree_util.DictKey)][-1]
