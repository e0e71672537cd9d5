"""The train state and the jitted step: `step(state, batch) -> state, metrics`, both sharded over the mesh."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
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
from got_jax.sharding import batch_sharding, laid_out, replicated, shardings
from got_jax.train.letters import init_heads, letter_losses, place_losses
from got_jax.train.lora import LoraConfig, adapted, beside, init_lora
from got_jax.train.losses import token_loss

PARTS = ("encoder", "connector", "decoder")


@dataclass(frozen=True)
class LossConfig:
    """What is minimised, and by which parts.

    Attributes:
        text: weight of the answer's cross-entropy; 0 leaves the decoder out of the step altogether.
        patches, cells, places: weights of the letters lesson (`got_jax.train.letters`); the last one is the decoder's.
        cells_from: step from which `cells` counts.
        freeze: parts that rest, comma-separated: they get no gradient, no optimizer state, and nothing of them is
            kept for the backward pass.
        chunk_tokens: positions of a row whose scores are held at once.
        accumulate: parts that a batch is worked through in, one after the other; the update is the whole batch's.
    """

    text: float = 1.0
    patches: float = 0.0
    cells: float = 0.0
    places: float = 0.0
    cells_from: int = 0
    freeze: str = ""
    chunk_tokens: int = 512
    accumulate: int = 1

    @property
    def letters(self) -> bool:
        """Whether there are heads that name letters."""
        return self.patches > 0 or self.cells > 0

    @property
    def labels(self) -> bool:
        """Whether batches need to know where their letters stand."""
        return self.letters or self.places > 0

    def __post_init__(self) -> None:
        require(
            min(self.text, self.patches, self.cells, self.places) >= 0 and max(self.text, self.patches, self.cells) > 0,
            f"losses text {self.text}, patches {self.patches}, cells {self.cells}, places {self.places}: give one "
            "above 0, none below.",
        )
        require(
            self.text > 0 or self.places == 0,
            f"losses.places {self.places} is for a decoder that reads, but losses.text is 0; set one of them.",
        )
        for name in filter(None, self.freeze.split(",")):
            require(name in PARTS, f"losses.freeze names '{name}', which is no part; choose from {', '.join(PARTS)}.")
        for name in ("chunk_tokens", "accumulate"):
            require(getattr(self, name) > 0, f"losses.{name} is {getattr(self, name)}, but it must be at least 1.")
        require(bool(self.trained), f"losses.freeze '{self.freeze}' leaves nothing to train; free a part.")

    @property
    def trained(self) -> tuple[str, ...]:
        """The parts of the parameters that get gradients and optimizer state."""
        parts = PARTS[: 3 if self.text else 2] + ("letters",) * self.letters
        return tuple(part for part in parts if part not in self.freeze.split(","))


class TrainState(NamedTuple):
    """Everything that a step changes. `step` counts the steps done; `params` may hold "letters" heads and "lora"."""

    step: Int[Array, ""]
    params: dict
    opt_state: Any


@dataclass(frozen=True)
class Training:
    """What the step is compiled for: the model, its losses, its adapters, and how many engines feed it.

    `precision` is what operands of float32 products are rounded to (`got_jax.ops.product`); "" = not at all.
    """

    config: GotConfig
    losses: LossConfig = field(default_factory=LossConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    engines: int = 1
    precision: str = ""

    @property
    def trained(self) -> tuple[str, ...]:
        return ("lora", *(("letters",) * self.losses.letters)) if self.lora.rank else self.losses.trained


def loss_fn(
    training: Training,
    params: dict,
    batch: Batch,
    step: Int[Array, ""] | int = 0,
    counted: Float[Array, ""] | None = None,
    parts: int = 1,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The loss of a batch after `step` steps, and metrics.

    Args:
        counted: tokens that the text loss is a mean over; default: the batch's.
        parts: how many such batches add up to the loss; the letters lesson is a mean over them.
    """
    config, losses = training.config, training.losses
    run = functools.partial(apply, config, params)
    if training.lora.rank:
        run = functools.partial(adapted(training.lora, config).apply, {"params": beside(params)})
    grid: Any = run(batch.images, method="grid")
    features: Any = run(grid, method="connect")
    total, metrics = jnp.zeros(()), {}
    within: Any = {}
    if losses.text:
        rows = (batch.tokens, batch.is_image, features, None, batch.positions, batch.segments)
        read: Any = run(*rows, method="read", mutable=["intermediates"] if losses.places else [])
        hidden, within = read
        weights = jnp.asarray(batch.weights)
        table = params["decoder"]["embedding"]
        text = token_loss(hidden, table, jnp.asarray(batch.targets), weights, losses.chunk_tokens)
        counted = jnp.maximum(weights.sum() if counted is None else counted, 1.0)
        total += losses.text * text.total / counted
        of_engine = jax.nn.one_hot(batch.sources, training.engines) * weights[..., None]
        metrics |= {
            "text": text.total / counted,
            "accuracy": (text.right * weights).sum() / counted,
            "engine_loss": jnp.einsum("bl,ble->e", text.nll, of_engine),
            "engine_tokens": of_engine.sum((0, 1)),
        }
    if losses.letters:
        letters = letter_losses(params["letters"], grid, features, batch.letters)
        total += losses.patches / parts * letters["patches"]
        total += jnp.where(step >= losses.cells_from, losses.cells / parts, 0.0) * letters["cells"]
        metrics |= letters
    if losses.places:
        attention = within["intermediates"]["decoder"]["layers"]["attn"]
        (queries,), (keys,) = attention["queries"], attention["keys"]
        places = place_losses(queries, keys, batch, config.encoder.image_tokens)
        total += losses.places / parts * places["places"]
        metrics |= places
    return total, metrics


def fresh_params(training: Training, key: Array, boxed: bool = False) -> dict:
    """Random parameters of the model, and of the heads and adapters where they are needed."""
    params = init_params(training.config, key, boxed)
    if training.losses.letters:
        params = {**params, "letters": init_heads(training.config, jax.random.fold_in(key, 1), boxed)}
    if training.lora.rank:
        params = {**params, "lora": init_lora(training.lora, training.config, jax.random.fold_in(key, 2), boxed)}
    return params


def state_shardings(training: Training, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Where each array of the state lives; the optimizer's moments lie as their parameters do."""
    boxed = jax.eval_shape(lambda: fresh_params(training, jax.random.key(0), boxed=True))
    return TrainState(
        replicated(mesh),  # type: ignore[arg-type]
        shardings(boxed, mesh),
        shardings(jax.eval_shape(optimizer.init, {part: boxed[part] for part in training.trained}), mesh),
    )


def _fresh_state(
    training: Training, optimizer: optax.GradientTransformation, key: Array, given: dict | None = None
) -> TrainState:
    params = _filled(fresh_params(training, key), given or {})
    opt_state = optimizer.init({part: params[part] for part in training.trained})
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state)


def abstract_state(training: Training, optimizer: optax.GradientTransformation, mesh: Any) -> TrainState:
    """Shapes, dtypes and shardings of the state, without computing anything."""
    shapes = jax.eval_shape(lambda: _fresh_state(training, optimizer, jax.random.key(0)))
    placed = state_shardings(training, optimizer, mesh)
    shaped = lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)
    return jax.tree.map(shaped, shapes, placed)


def init_state(
    training: Training,
    optimizer: optax.GradientTransformation,
    seed: int,
    mesh: Mesh,
    params: dict | None = None,
) -> TrainState:
    """A fresh state on the mesh; with `params`, training starts from them (missing parts are new)."""
    fresh = lambda given: _fresh_state(training, optimizer, jax.random.key(seed), given)
    return jax.jit(fresh, out_shardings=state_shardings(training, optimizer, mesh))(params)


def _filled(fresh: dict, given: dict) -> dict:
    """`fresh` with what `given` has of it, at any depth."""
    return {
        name: (_filled(value, given[name]) if isinstance(value, dict) else given[name]) if name in given else value
        for name, value in fresh.items()
    }


def make_step(
    training: Training, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    """Compiles one update; the old state's memory is given to the new one.

    A step whose loss or gradient is not finite changes nothing but the count of steps; its metric "skipped" is 1.
    """
    placed = state_shardings(training, optimizer, mesh)
    accumulate = training.losses.accumulate

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        trained = {part: state.params[part] for part in training.trained}
        counted = jnp.asarray(batch.weights).sum()

        def gradient(batch: Batch) -> tuple[dict, dict]:
            loss = lambda trained: loss_fn(training, state.params | trained, batch, state.step, counted, accumulate)
            with laid_out(mesh), jax.default_matmul_precision(training.precision or None):
                (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(trained)
            return {"loss": value, **metrics}, grads

        if accumulate == 1:
            metrics, grads = gradient(batch)
        else:
            metrics, grads = _accumulated(gradient, batch, accumulate)
        norm = optax.global_norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        params = state.params | optax.apply_updates(trained, updates)  # type: ignore[operator]
        good = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)
        keep = lambda new, old: jnp.where(good, new, old)
        params = jax.tree.map(keep, params, state.params)
        opt_state = jax.tree.map(keep, opt_state, state.opt_state)
        metrics |= {"grad_norm": norm, "skipped": 1 - good.astype(jnp.int32)}
        return TrainState(state.step + 1, params, opt_state), metrics  # type: ignore[arg-type]

    return jax.jit(
        step, in_shardings=(placed, batch_sharding(mesh)), out_shardings=(placed, replicated(mesh)), donate_argnums=0
    )


def _accumulated(gradient: Callable[[Batch], tuple[dict, dict]], batch: Batch, parts: int) -> tuple[dict, dict]:
    """Metrics and gradients of a batch, worked through in parts: every `parts`-th row makes one.

    What `loss_fn` gives for a part is its share of the whole, so losses and gradients add up.
    """
    rows = batch.tokens.shape[0]

    def split(x: Array) -> Array:
        per = x.shape[0] // rows  # places for pictures of a row, or 1
        x = x.reshape(rows // parts, parts, per, *x.shape[1:]).swapaxes(0, 1)
        return x.reshape(parts, rows // parts * per, *x.shape[3:])

    batches = jax.tree.map(split, batch)
    shapes = jax.eval_shape(gradient, jax.tree.map(lambda x: x[0], batches))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    add = lambda total, part: (jax.tree.map(jnp.add, total, gradient(part)), None)
    (metrics, grads), _ = jax.lax.scan(add, zeros, batches)
    summed = ("loss", "text", "accuracy", "engine_loss", "engine_tokens")
    return {n: v if n in summed else v / parts for n, v in metrics.items()}, grads
