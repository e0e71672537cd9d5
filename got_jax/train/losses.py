"""What training minimises: the answer's cross-entropy, without ever holding the scores of a whole row."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class TokenLoss(NamedTuple):
    """`total` is what gradients flow from; the rest is for metrics."""

    total: Float[Array, ""]  # weighted sum over tokens
    nll: Float[Array, "B L"]
    right: Float[Array, "B L"]  # 1 where the likeliest token is the target


def token_loss(
    hidden: Float[Array, "B L D"],
    table: Float[Array, "V D"],
    targets: Int[Array, "B L"],
    weights: Float[Array, "B L"],
    chunk: int = 512,
) -> TokenLoss:
    """Cross-entropy of `hidden @ table.T`, `chunk` positions of every row at a time, in float32.

    Only positions with weight 1 count: the answer and its closing mark (GOT_FACTS.md section 5.5). The backward pass
    would need each chunk's scores again, so the forward pass leaves the gradients of a total of 1 instead: what is
    kept is as large as `hidden` and `table`, and no score is computed twice.
    """
    length = hidden.shape[1]
    chunk = min(chunk, length)
    more = -length % chunk
    pad = lambda x: jnp.pad(x, ((0, 0), (0, more), *[(0, 0)] * (x.ndim - 2)))
    total, nll, right = _loss(chunk, pad(hidden), table, pad(targets), pad(weights))  # type: ignore[misc]
    return TokenLoss(total, nll[:, :length], right[:, :length])


def _chunks(x: Array, chunk: int) -> Array:
    """[B, L, ...] -> [L / chunk, B, chunk, ...]"""
    return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)


def _joined(x: Array) -> Array:
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])


def _scores(hidden: Array, table: Array, targets: Array) -> tuple[Array, Array, Array, Array]:
    logits = jnp.matmul(hidden, table.T, preferred_element_type=jnp.float32)
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return logits, normaliser, normaliser - picked, (logits.argmax(-1) == targets).astype(jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(chunk: int, hidden: Array, table: Array, targets: Array, weights: Array) -> tuple[Array, Array, Array]:
    narrow = table.astype(hidden.dtype)
    xs = [_chunks(x, chunk) for x in (hidden, targets, weights)]
    _, (nll, right) = jax.lax.scan(lambda _, x: (None, _scores(x[0], narrow, x[1])[2:]), None, xs)
    nll, right = _joined(nll), _joined(right)
    return (nll * weights).sum(), nll, right


def _forward(chunk: int, hidden: Array, table: Array, targets: Array, weights: Array):
    narrow = table.astype(hidden.dtype)

    def one(grad_table: Array, x: list[Array]):
        h, t, w = x
        logits, normaliser, nll, right = _scores(h, narrow, t)
        wrong = jnp.exp(logits - normaliser[..., None]) - jax.nn.one_hot(t, logits.shape[-1], dtype=jnp.float32)
        wrong = (wrong * w[..., None]).astype(h.dtype)
        grad_hidden = jnp.matmul(wrong, narrow, preferred_element_type=jnp.float32).astype(h.dtype)
        grad_table += jnp.einsum("blv,bld->vd", wrong, h, preferred_element_type=jnp.float32)
        return grad_table, (nll, right, grad_hidden)

    xs = [_chunks(x, chunk) for x in (hidden, targets, weights)]
    grad_table, (nll, right, grad_hidden) = jax.lax.scan(one, jnp.zeros(table.shape, jnp.float32), xs)
    nll, right = _joined(nll), _joined(right)
    return ((nll * weights).sum(), nll, right), (_joined(grad_hidden), grad_table.astype(table.dtype))


def _backward(chunk: int, kept: tuple[Array, Array], cotangents: tuple[Array, Array, Array]):
    grad_hidden, grad_table = kept
    scale = cotangents[0]
    return (grad_hidden * scale.astype(grad_hidden.dtype), grad_table * scale.astype(grad_table.dtype), None, None)


_loss.defvjp(_forward, _backward)
