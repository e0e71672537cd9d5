"""Greedy decoding in three parts: prefill of the prompts, the decode loop on the device, and the choice of a token.

Shapes are static: prompts are padded to a bucket, the KV cache holds prompt and answer. Rows are padded on the right;
slot s of a row's cache holds its position s, so a padded slot is overwritten before anything may look at it, and a
row's result does not depend on its neighbours.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, UInt8

from got_jax import inference
from got_jax.config import GotConfig
from got_jax.errors import require
from got_jax.inference import Prepared
from got_jax.models.got import apply
from got_jax.models.qwen2 import KVCache, empty_cache
from got_jax.ops.trial import usable
from got_jax.sharding import batch_sharding, laid_out


@dataclass(frozen=True)
class DecodeConfig:
    """How an answer is decoded (GOT_FACTS.md section 3.3).

    Attributes:
        max_new_tokens: longest answer, the stop mark included.
        no_repeat_ngram_size: no n tokens in a row, prompt included, occur twice; 0 = off. The original uses 20 for
            single pictures and 0 for tiles and pages.
        cache: how keys and values are kept: "float32", "bfloat16" or "int8", a scale a head and token; default: as
            the model computes. Only a model laid out for one device (`inference.prepare`) takes another than that.
    """

    max_new_tokens: int = 4096
    no_repeat_ngram_size: int = 20
    cache: str = ""

    def __post_init__(self) -> None:
        require(self.max_new_tokens >= 1, f"max_new_tokens is {self.max_new_tokens}, but it must be at least 1.")
        require(
            self.no_repeat_ngram_size >= 0,
            f"no_repeat_ngram_size is {self.no_repeat_ngram_size}, but it must be 0 (off) or more.",
        )
        require(
            self.cache in ("", "float32", "bfloat16", "int8"),
            f"cache '{self.cache}' is unknown; choose float32, bfloat16 or int8.",
        )


class Decoded(NamedTuple):
    """One row's answer: ids without the stop mark, log-probability of each decoded id (stop mark included)."""

    tokens: list[int]
    logprobs: list[float]
    stopped: bool  # False: the answer was cut at max_new_tokens


def generate(
    config: GotConfig,
    params: dict | Prepared,
    prompts: Sequence[Sequence[int]],
    images: UInt8[np.ndarray, "N H W 3"],
    image_rows: Int[np.ndarray, "N"],
    image_pad: int,
    stop_ids: Sequence[int],
    decode: DecodeConfig = DecodeConfig(),
    mesh: Mesh | None = None,
) -> list[Decoded]:
    """Decodes an answer to every prompt.

    Args:
        params: as trained, or laid out for reading (`inference.prepare`), which is faster.
        prompts: token ids, with one `<imgpad>` for each token of a row's pictures.
        images: the pictures of all rows, flat; `image_rows` tells the row of each, ascending.
        image_pad: the id of `<imgpad>`. stop_ids: ids that end an answer.
        mesh: rows, pictures and caches are split over it; `params`, as trained, must lie there (`sharding.place`).
            Rows and pictures that are missing to divide evenly are filled up, and not answered.

    Raises:
        GotError: when a prompt leaves no room in the model's context.
    """
    rules, new, batch = _batch(config, prompts, images, image_rows, image_pad, stop_ids, decode)
    if mesh is not None:
        batch = jax.device_put(_filled(batch, mesh.shape["data"] * mesh.shape["fsdp"]), batch_sharding(mesh))
    with laid_out(mesh) if mesh is not None else contextlib.nullcontext():
        state = begin(config, rules, new, params, *batch)
        state = advance(config, rules, params, state, new)
    return decoded(state, range(len(prompts)))


def stream(
    config: GotConfig,
    params: dict | Prepared,
    prompt: Sequence[int],
    images: UInt8[np.ndarray, "N H W 3"],
    image_pad: int,
    stop_ids: Sequence[int],
    decode: DecodeConfig = DecodeConfig(),
    chunk: int = 8,
) -> Iterator[Decoded]:
    """The answer of one prompt so far, after every `chunk` tokens; the last is `generate`'s. Arguments as there.

    Raises:
        GotError: when the prompt leaves no room in the model's context.
    """
    rows = np.zeros(len(images), np.int32)
    rules, new, batch = _batch(config, [prompt], images, rows, image_pad, stop_ids, decode)
    state = begin(config, rules, new, params, *batch)
    while True:
        yield decoded(state, [0])[0]
        if bool(state.done.all()):
            return
        state = advance(config, rules, params, state, chunk)


def _batch(
    config: GotConfig,
    prompts: Sequence[Sequence[int]],
    images: np.ndarray,
    image_rows: np.ndarray,
    image_pad: int,
    stop_ids: Sequence[int],
    decode: DecodeConfig,
) -> tuple[Rules, int, tuple[np.ndarray, ...]]:
    """What `begin` asks for: the rules, room for the answers, and padded prompts with all that belongs to them."""
    context = config.decoder.context_tokens
    lengths = np.array([len(ids) for ids in prompts], np.int32)
    longest = int(lengths.max())
    fits(config, longest)
    padded = min(bucket(longest), context)
    new = min(bucket(min(decode.max_new_tokens, context)), context - int(lengths.min()))
    tokens = np.zeros((len(prompts), padded), np.int32)
    for row, ids in enumerate(prompts):
        tokens[row, : len(ids)] = ids
    limit = np.minimum(decode.max_new_tokens, context - lengths).astype(np.int32)
    return Rules.of(decode, stop_ids), new, (tokens, tokens == image_pad, lengths, limit, images, image_rows)


def fits(config: GotConfig, prompt_tokens: int) -> None:
    """Raises GotError when a prompt leaves no room in the model's context."""
    context = config.decoder.context_tokens
    require(
        prompt_tokens < context,
        f"a prompt of {prompt_tokens} tokens, which does not fit the model's context of {context} tokens; "
        "give fewer pictures or tiles.",
    )


def _filled(batch: tuple[np.ndarray, ...], ways: int) -> tuple[np.ndarray, ...]:
    """The batch with rows of one token and no room for an answer, and with pictures of no row, to be split `ways`."""
    tokens, is_image, lengths, limit, images, image_rows = batch
    rows, pictures = -len(tokens) % ways, -len(images) % ways
    more = lambda array, count, fill: np.pad(array, ((0, count), *((0, 0),) * (array.ndim - 1)), constant_values=fill)
    return (
        more(tokens, rows, 0),
        more(is_image, rows, False),
        more(lengths, rows, 1),
        more(limit, rows, 0),
        more(images, pictures, 0),
        more(image_rows, pictures, len(tokens) + rows),
    )


def bucket(tokens: int) -> int:
    """The padded length: multiples of 32 up to 512, then of a sixteenth of the next power of two.

    A picture's usual prompts, 286 and 288 tokens, are padded to 288.
    """
    step = max(32, 2 ** max(0, (max(tokens, 1) - 1).bit_length() - 4))
    return -(-tokens // step) * step


class State(NamedTuple):
    """Rows that are being answered: what the decode loop carries. `history` holds prompt and answer from position 0."""

    cache: Any  # KVCache of the plain model, a `Cache` a layer of `inference`
    history: Int[Array, "B S"]
    logprobs: Float[Array, "B S"]  # of the decoded tokens of history
    lengths: Int[Array, "B"]  # tokens of history that are set
    starts: Int[Array, "B"]  # where the answer begins
    ends: Int[Array, "B"]  # where it is cut
    done: Bool[Array, "B"]
    stopped: Bool[Array, "B"]  # by a stop mark


class Rules(NamedTuple):
    """What chooses the next token and ends an answer, and how keys and values are kept."""

    ngram: int
    stop_ids: tuple[int, ...]
    cache: str = ""

    @classmethod
    def of(cls, decode: DecodeConfig, stop_ids: Sequence[int]) -> Rules:
        return cls(decode.no_repeat_ngram_size, tuple(int(i) for i in stop_ids), decode.cache)


def likeliest(logits: Float[Array, "B V"]) -> tuple[Int[Array, "B"], Float[Array, "B 1"]]:
    """The place of the largest score, the first of equals, and that score; XLA's argmax is slow on CPU."""
    top = logits.max(-1, keepdims=True)
    places = jnp.where(logits == top, jnp.arange(logits.shape[-1], dtype=jnp.int32), logits.shape[-1] - 1)
    return places.min(-1), top


def _choose(
    config: GotConfig, rules: Rules, params: dict | Prepared, state: State, hidden: Float[Array, "B D"]
) -> State:
    """Picks each row's next token and writes it down."""
    every = jnp.arange(len(hidden))
    logits = scores(config, params, hidden)
    if rules.ngram:
        logits = jnp.where(repeats(state.history, state.lengths, rules.ngram, logits.shape[-1]), -jnp.inf, logits)
    token, top = likeliest(logits)
    logprob = -jnp.log(jnp.exp(logits - top).sum(-1))
    live = ~state.done
    place = jnp.where(live, state.lengths, state.history.shape[1])
    stopped = live & jnp.isin(token, jnp.array(rules.stop_ids))
    lengths = state.lengths + live
    return state._replace(
        history=state.history.at[every, place].set(token, mode="drop"),
        logprobs=state.logprobs.at[every, place].set(logprob, mode="drop"),
        lengths=lengths,
        done=state.done | stopped | (lengths >= state.ends),
        stopped=state.stopped | stopped,
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def begin(
    config: GotConfig,
    rules: Rules,
    new: int,
    params: dict | Prepared,
    tokens: Int[Array, "B L"],
    is_image: Bool[Array, "B L"],
    prompt_lengths: Int[Array, "B"],
    limit: Int[Array, "B"],
    images: UInt8[Array, "N H W 3"] | Float[Array, "N T D"],
    image_rows: Int[Array, "N"],
) -> State:
    """Prefill, and the first token of every row. Answers have at most `limit` tokens, of `new` there is room for."""
    rows, padded = tokens.shape
    given, last = (tokens, is_image, images, image_rows, padded + new), prompt_lengths - 1
    if isinstance(params, Prepared):
        cache, hidden = inference.prefill(config, params, *given, rules.cache, last)
        hidden = hidden[:, 0]
    else:
        require(not rules.cache, "the cache of a model on a mesh is kept as it computes; leave `cache` empty.")
        cache, hidden = prefill(config, params, *given)  # type: ignore[arg-type]
        hidden = hidden[jnp.arange(rows), last]
    state = State(
        cache,
        jnp.pad(tokens, ((0, 0), (0, new))),
        jnp.zeros((rows, padded + new), jnp.float32),
        prompt_lengths,
        prompt_lengths,
        prompt_lengths + limit,
        jnp.zeros(rows, bool),
        jnp.zeros(rows, bool),
    )
    return _choose(config, rules, params, state, hidden)


def advance(
    config: GotConfig, rules: Rules, params: dict | Prepared, state: State, steps: Int[Array, ""] | int
) -> State:
    """At most `steps` more tokens for every row; ends early when all rows are done. `state` is used up."""
    return loop(isinstance(params, Prepared))(config, rules, params, state, steps)


# A GPU then runs the whole loop as one graph, where its driver can (CUDA 12.9); else the host decides after every
# token whether to go on, and starts the next.
ONE_GRAPH = {
    "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE",
    "xla_gpu_graph_min_graph_size": 1,
}


def loop(laid: bool) -> Any:
    """`advance` as it is jitted for this device, for weights that are laid out for reading or not."""
    return _loop(laid and jax.default_backend() == "gpu" and usable("graph", _graph_trial))


@functools.cache
def _loop(graph: bool) -> Any:
    return jax.jit(_advance, static_argnums=(0, 1), donate_argnums=3, compiler_options=ONE_GRAPH if graph else None)


def _graph_trial() -> tuple[Array, Array]:
    rounds = lambda x: jax.lax.while_loop(lambda x: x[0] < 5, lambda x: x + 1, x)
    return jax.jit(rounds, compiler_options=ONE_GRAPH)(jnp.arange(4)), jnp.arange(4) + 5


def _advance(config: GotConfig, rules: Rules, params: dict | Prepared, state: State, steps: Array | int) -> State:
    every = jnp.arange(len(state.done))

    def body(carry: tuple[Array, State]) -> tuple[Array, State]:
        """Feeds the last token of each row. Finished rows feed theirs again, which changes nothing that is read."""
        count, state = carry
        last = state.lengths - 1
        hidden, cache = step(config, params, state.history[every, last], last, state.cache)
        return count + 1, _choose(config, rules, params, state._replace(cache=cache), hidden)

    going = lambda carry: (carry[0] < steps) & ~carry[1].done.all()
    return jax.lax.while_loop(going, body, (jnp.zeros((), jnp.int32), state))[1]


def decoded(state: State, rows: Sequence[int]) -> list[Decoded]:
    """The answers of some rows so far."""
    history, logprobs, starts, lengths, stopped = jax.device_get(
        (state.history, state.logprobs, state.starts, state.lengths, state.stopped)
    )
    return [
        Decoded(
            history[r, starts[r] : lengths[r] - int(stopped[r])].tolist(),
            logprobs[r, starts[r] : lengths[r]].tolist(),
            bool(stopped[r]),
        )
        for r in rows
    ]


def prefill(
    config: GotConfig,
    params: dict,
    tokens: Int[Array, "B L"],
    is_image: Bool[Array, "B L"],
    images: UInt8[Array, "N H W 3"],
    image_rows: Int[Array, "N"],
    slots: int,
) -> tuple[KVCache, Float[Array, "B L D"]]:
    """Runs whole prompts: a cache of `slots` slots that holds them, and their final hidden states."""
    features = apply(config, params, images, method="encode")
    x = apply(config, params, tokens, is_image, features, image_rows, method="embed")
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    cache = empty_cache(config.decoder, tokens.shape[0], slots, jnp.dtype(config.dtype))
    hidden, cache = apply(config, params, x, positions, cache, method="step")
    return cache, hidden


def step(
    config: GotConfig, params: dict | Prepared, tokens: Int[Array, "B"], positions: Int[Array, "B"], cache: Any
) -> tuple[Float[Array, "B D"], Any]:
    """Feeds one token a row at `positions`: final hidden states, and the cache with it."""
    if isinstance(params, Prepared):
        return inference.step(config, params, tokens, positions, cache)
    x = apply(config, params, tokens[:, None], method="embed_tokens")
    hidden, cache = apply(config, params, x, positions[:, None], cache, method="step")
    return hidden[:, 0], cache


def scores(config: GotConfig, params: dict | Prepared, hidden: Float[Array, "B D"]) -> Float[Array, "B V"]:
    """Of every vocabulary entry, float32."""
    if isinstance(params, Prepared):
        return inference.logits(params, hidden)
    return apply(config, params, hidden, method="logits")


def repeats(history: Int[Array, "B S"], lengths: Int[Array, "B"], ngram: int, vocab_size: int) -> Bool[Array, "B V"]:
    """True for every token that would make the last `ngram` tokens of a row occur there a second time.

    Same rule as transformers' NoRepeatNGramLogitsProcessor: prompt and answer count alike.
    """
    rows, size = history.shape
    starts = size - ngram + 1
    if starts <= 0:
        return jnp.zeros((rows, vocab_size), bool)
    same = jnp.ones((rows, starts), bool)
    for i in range(ngram - 1):
        recent = jnp.take_along_axis(history, jnp.maximum(lengths - ngram + 1 + i, 0)[:, None], 1)
        same &= history[:, i : i + starts] == recent
    follower = jnp.arange(starts) + ngram - 1
    same &= (follower < lengths[:, None]) & (lengths[:, None] >= ngram)
    banned = jnp.where(same, history[:, ngram - 1 :], vocab_size)
    return jnp.zeros((rows, vocab_size), bool).at[jnp.arange(rows)[:, None], banned].set(True, mode="drop")
