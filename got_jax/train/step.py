"""The train state and the jitted step: `step(state, batch) -> state, metrics`, both sharded over the mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from got_jax.config import GotConfig
from got_jax.data.batches import Batch
from got_jax.models.got import abstract_params, apply, init_params
from got_jax.sharding import batch_sharding, replicated, shardings
from got_jax.train.losses import cross_entropy


class TrainState(NamedTuple):
    """Everything that a step changes. `step` counts the updates done."""

    step: Int[Array, ""]
    params: dict
    opt_state: Any


def loss_fn(config: GotConfig, params: dict, batch: Batch) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean loss and token accuracy of a batch."""
    hidden = apply(
        config,
        params,
        batch.tokens,
        batch.is_image,
        batch.images,
        batch.image_rows,
        batch.positions,
        batch.segments,
    )
    logits = apply(config, params, hidden, method="logits")
    return cross_entropy(logits, jnp.asarray(batch.targets), jnp.asarray(batch.weights))


def state_shardings(config: GotConfig, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Where each array of the state lives; the optimizer's moments lie as their parameters do."""
    boxed = abstract_params(config, boxed=True)
    return TrainState(
        replicated(mesh),  # type: ignore[arg-type]
        shardings(boxed, mesh),
        shardings(jax.eval_shape(optimizer.init, boxed), mesh),
    )


def init_state(
    config: GotConfig, optimizer: optax.GradientTransformation, seed: int, mesh: Mesh, params: dict | None = None
) -> TrainState:
    """A fresh state on the mesh; with `params`, training starts from them."""
    placed = state_shardings(config, optimizer, mesh)

    def fresh(params: dict | None) -> TrainState:
        params = init_params(config, jax.random.key(seed)) if params is None else params
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    return jax.jit(fresh, out_shardings=placed)(params)


def make_step(
    config: GotConfig, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    """Compiles one update per batch shape; the old state's memory is given to the new one."""
    placed = state_shardings(config, optimizer, mesh)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        loss = lambda params: loss_fn(config, params, batch)
        (value, accuracy), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value, "accuracy": accuracy, "grad_norm": optax.global_norm(grads)}
        return TrainState(state.step + 1, params, opt_state), metrics  # type: ignore[arg-type]

    return jax.jit(
        step, in_shardings=(placed, batch_sharding(mesh)), out_shardings=(placed, replicated(mesh)), donate_argnums=0
    )
