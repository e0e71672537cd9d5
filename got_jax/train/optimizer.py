"""AdamW with clipping, warm-up and cosine decay (GOT paper section 3; LAVIS' warm-up for stage 1)."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import optax

from got_jax.errors import require


@dataclass(frozen=True)
class OptimizerConfig:
    """`lr` is the peak; it falls to `lr * final` at the last step. Norms, biases and position tables do not decay."""

    lr: float = 1e-4
    final: float = 0.0
    warmup_steps: int = 500
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    clip_norm: float = 1.0

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
    )


def decays(params: dict) -> dict:
    """True for matrices and convolutions; False for norms, biases, positions (they hold no 'direction' to shrink)."""
    kept = ("kernel", "conv1", "conv2", "embedding")
    name = lambda path: [part.key for part in path if isinstance(part, jax.tree_util.DictKey)][-1]
    return jax.tree_util.tree_map_with_path(lambda path, _: name(path) in kept, params)
