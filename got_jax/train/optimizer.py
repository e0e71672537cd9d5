"""AdamW, or Muon for matrices; clipping, warm-up and cosine decay (GOT paper section 3; LAVIS' warm-up for stage 1)."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon

from got_jax.errors import require

CONVOLUTIONS = ("conv1", "conv2")
KERNELS = ("kernel", *CONVOLUTIONS)


@dataclass(frozen=True)
class OptimizerConfig:
    """`lr` is the peak; it falls to `lr * final` at the last step. Norms, biases and position tables do not decay.

    Attributes:
        muon_lr: peak rate of Muon for matrices and convolutions, with AdamW for everything else; 0 = AdamW for all,
            as the released models were trained. Muon moves every direction of a matrix alike. From random weights
            that is what lets the encoder learn letters at all: nearly all of every picture is the same blank paper,
            and under Adam that one direction takes most of each step (docs/nano.md has the measurements).
    """

    lr: float = 1e-4
    muon_lr: float = 0.0
    final: float = 0.0
    warmup_steps: int = 500
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        require(self.lr > 0, f"optimizer.lr is {self.lr}, but it must be above 0.")
        require(self.muon_lr >= 0, f"optimizer.muon_lr is {self.muon_lr}; it must be above 0, or 0 for AdamW alone.")
        require(self.warmup_steps >= 0, f"optimizer.warmup_steps is {self.warmup_steps}; it must be 0 or more.")
        require(self.clip_norm > 0, f"optimizer.clip_norm is {self.clip_norm}, but it must be above 0.")


def schedule(config: OptimizerConfig, steps: int, peak: float | None = None) -> optax.Schedule:
    """Linear from 0 to `peak` (default `lr`), then a half cosine to `peak * final` at step `steps`."""
    peak = config.lr if peak is None else peak
    warmup = min(config.warmup_steps, max(0, steps - 1))
    return optax.warmup_cosine_decay_schedule(0.0 if warmup else peak, peak, warmup, steps, peak * config.final)


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The update rule for a run of `steps` steps."""
    c = config
    if c.muon_lr:
        rule = muon(
            schedule(c, steps, c.muon_lr),
            eps=c.eps,
            weight_decay=c.weight_decay,
            weight_decay_mask=decays,
            adam_b1=c.b1,
            adam_b2=c.b2,
            adam_learning_rate=schedule(c, steps),
            muon_weight_dimension_numbers=matrices,  # type: ignore[arg-type]
        )
    else:
        rule = optax.adamw(schedule(c, steps), c.b1, c.b2, c.eps, weight_decay=c.weight_decay, mask=decays)
    return optax.chain(optax.clip_by_global_norm(c.clip_norm), rule)


def matrices(params: dict) -> dict:
    """Which axes of each parameter are a matrix's inputs and outputs, for Muon; None: left to Adam.

    Leading axes count layers. A convolution is the matrix that it is as a product. The heads of the letters lesson are
    classifiers, so they are Adam's.
    """

    def spec(path: tuple, leaf: jax.Array) -> MuonDimensionNumbers | None:
        last, name = leaf.ndim - 1, _name(path)
        if path[0].key == "letters" or name not in KERNELS:
            return None
        return MuonDimensionNumbers((last - 3, last - 2, last - 1) if name in CONVOLUTIONS else last - 1, last)

    return jax.tree_util.tree_map_with_path(spec, params)


def decays(params: dict) -> dict:
    """True for matrices and convolutions; False for norms, biases, positions (they hold no 'direction' to shrink)."""
    return jax.tree_util.tree_map_with_path(lambda path, _: _name(path) in (*KERNELS, "embedding"), params)


def _name(path: tuple) -> str:
    return [part.key for part in path if isinstance(part, jax.tree_util.DictKey)][-1]
