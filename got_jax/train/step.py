"""The train state and the jitted step: `step(state, batch) -> state, metrics`, both sharded over the mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from got_jax.config import GotConfig
from got_jax.data.batches import Batch
from got_jax.errors import require
from got_jax.models.got import apply, init_params
from got_jax.sharding import batch_sharding, replicated, shardings
from got_jax.train.letters import init_heads, letter_losses
from got_jax.train.losses import cross_entropy

PARTS = ("encoder", "connector", "decoder")


@dataclass(frozen=True)
class LossConfig:
    """What is minimised: the weighted sum of the answer's loss and the letters lesson's two.

    Attributes:
        text: weight of the answer's cross-entropy; 0 leaves the decoder out of the step altogether.
        patches, cells: weights of the letters lesson (`got_jax.train.letters`).
        cells_from: step from which `cells` counts.
    """

    text: float = 1.0
    patches: float = 0.0
    cells: float = 0.0
    cells_from: int = 0

    @property
    def letters(self) -> bool:
        return self.patches > 0 or self.cells > 0

    def __post_init__(self) -> None:
        require(
            min(self.text, self.patches, self.cells) >= 0 and max(self.text, self.patches, self.cells) > 0,
            f"losses text {self.text}, patches {self.patches}, cells {self.cells}: give one above 0, none below.",
        )

    @property
    def trained(self) -> tuple[str, ...]:
        """The parts of the parameters that get gradients and optimizer state."""
        return PARTS[: 3 if self.text else 2] + ("letters",) * self.letters


class TrainState(NamedTuple):
    """Everything that a step changes. `step` counts the updates done; `params` may hold the heads as "letters"."""

    step: Int[Array, ""]
    params: dict
    opt_state: Any


def loss_fn(
    config: GotConfig, params: dict, batch: Batch, losses: LossConfig = LossConfig(), step: Int[Array, ""] | int = 0
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The loss of a batch after `step` updates, and metrics."""
    grid = apply(config, params, batch.images, method="grid")
    features = apply(config, params, grid, method="connect")
    total, metrics = jnp.zeros(()), {}
    if losses.text:
        rows = (batch.tokens, batch.is_image, features, batch.image_rows, batch.positions, batch.segments)
        hidden = apply(config, params, *rows, method="read")
        logits = apply(config, params, hidden, method="logits")
        loss, accuracy = cross_entropy(logits, jnp.asarray(batch.targets), jnp.asarray(batch.weights))
        total += losses.text * loss
        metrics |= {"text": loss, "accuracy": accuracy}
    if losses.letters:
        letters = letter_losses(params["letters"], grid, features, batch.letters)
        total += losses.patches * letters["patches"]
        total += jnp.where(step >= losses.cells_from, losses.cells, 0.0) * letters["cells"]
        metrics |= letters
    return total, metrics


def fresh_params(config: GotConfig, losses: LossConfig, key: Array, boxed: bool = False) -> dict:
    """Random parameters of the model, and of the heads where the losses need them."""
    params = init_params(config, key, boxed)
    if losses.letters:
        params = {**params, "letters": init_heads(config, jax.random.fold_in(key, 1), boxed)}
    return params


def state_shardings(
    config: GotConfig, optimizer: optax.GradientTransformation, mesh: Mesh, losses: LossConfig = LossConfig()
) -> TrainState:
    """Where each array of the state lives; the optimizer's moments lie as their parameters do."""
    boxed = jax.eval_shape(lambda: fresh_params(config, losses, jax.random.key(0), boxed=True))
    return TrainState(
        replicated(mesh),  # type: ignore[arg-type]
        shardings(boxed, mesh),
        shardings(jax.eval_shape(optimizer.init, {part: boxed[part] for part in losses.trained}), mesh),
    )


def init_state(
    config: GotConfig,
    optimizer: optax.GradientTransformation,
    seed: int,
    mesh: Mesh,
    params: dict | None = None,
    losses: LossConfig = LossConfig(),
) -> TrainState:
    """A fresh state on the mesh; with `params`, training starts from them (missing heads are new)."""
    placed = state_shardings(config, optimizer, mesh, losses)

    def fresh(params: dict | None) -> TrainState:
        made = fresh_params(config, losses, jax.random.key(seed)) | (params or {})
        made = {part: made[part] for part in placed.params}
        return TrainState(jnp.zeros((), jnp.int32), made, optimizer.init({part: made[part] for part in losses.trained}))

    return jax.jit(fresh, out_shardings=placed)(params)


def make_step(
    config: GotConfig, optimizer: optax.GradientTransformation, mesh: Mesh, losses: LossConfig = LossConfig()
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    """Compiles one update per batch shape; the old state's memory is given to the new one."""
    placed = state_shardings(config, optimizer, mesh, losses)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        trained = {part: state.params[part] for part in losses.trained}
        loss = lambda trained: loss_fn(config, state.params | trained, batch, losses, state.step)
        (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(trained)
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        params = state.params | optax.apply_updates(trained, updates)  # type: ignore[operator]
        metrics = {"loss": value, **metrics, "grad_norm": optax.global_norm(grads)}
        return TrainState(state.step + 1, params, opt_state), metrics  # type: ignore[arg-type]

    return jax.jit(
        step, in_shardings=(placed, batch_sharding(mesh)), out_shardings=(placed, replicated(mesh)), donate_argnums=0
    )
