"""Continuous batching: rows of a batch that are done make room for the next requests while the others go on.

A fixed batch waits for its longest answer; here the device works on full batches until the requests run out. Several
devices work on batches of their own, each with a replica of the weights, and never wait for each other.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from queue import SimpleQueue
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from got_jax.config import GotConfig
from got_jax.errors import GotError
from got_jax.generate import DecodeConfig, Decoded, Rules, State, advance, begin, bucket, decoded, fits
from got_jax.inference import Prepared, activations, encode

CHUNK = 8  # tokens between two looks at which rows are done
PICTURES = 16  # of several requests that are encoded together, but on a CPU, which gains nothing by it


class Request(NamedTuple):
    """A prompt, with one `<imgpad>` for each token of its pictures."""

    prompt: Sequence[int]
    pictures: UInt8[np.ndarray, "N H W 3"]
    max_new_tokens: int | None = None  # where it is shorter than the config's


Answered = tuple[int, Decoded | GotError]


def answers(
    config: GotConfig,
    replicas: Sequence[Prepared],
    requests: Iterable[Request],
    image_pad: int,
    stop_ids: Sequence[int],
    decode: DecodeConfig,
    rows: int = 8,
) -> Iterator[Answered]:
    """(number of the request, its answer) as they are done; a prompt that does not fit gives its error.

    Each answer is what the request gets alone. Requests are taken from the iterator when rows are free for them.

    Args:
        replicas: the same weights on each device that is to work. A device joins when those before it are full; with
            several of them requests are drawn in threads, one at a time.
        rows: requests that are answered at once, by each device.
    """
    rules = Rules.of(decode, stop_ids)
    if len(replicas) == 1:
        yield from filter(None, _rounds(config, rules, replicas[0], requests, image_pad, decode, rows))
        return
    numbered, drawing, over = enumerate(requests), threading.Lock(), threading.Event()
    found: SimpleQueue[Answered | BaseException | None] = SimpleQueue()  # None: a device has nothing left to do
    workers: list[threading.Thread] = []
    drawn = 0

    def draw(numbers: list[int]) -> Iterator[Request]:
        nonlocal drawn
        while True:
            with drawing:
                if over.is_set():
                    return
                number, request = next(numbered, (-1, None))
                if request is None:
                    return
                numbers.append(number)
                drawn += 1
                if drawn >= rows * len(workers) and len(workers) < len(replicas):
                    join()
            yield request

    def work(params: Prepared) -> None:
        numbers: list[int] = []  # of the requests that this device has drawn
        try:
            [device] = jax.tree.leaves(params)[0].devices()
            with jax.default_device(device):
                for round_ in _rounds(config, rules, params, draw(numbers), image_pad, decode, rows):
                    if over.is_set():
                        break
                    if round_:
                        found.put((numbers[round_[0]], round_[1]))
            found.put(None)
        except BaseException as err:  # raised where the answers are awaited
            found.put(err)

    def join() -> None:
        worker = threading.Thread(target=work, args=[replicas[len(workers)]], daemon=True)
        worker.start()
        workers.append(worker)

    with drawing:
        join()
    ended = 0
    try:
        while ended < len(workers):
            result = found.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                ended += 1
            else:
                yield result
    finally:
        over.set()
        for worker in workers:
            worker.join()


def _rounds(
    config: GotConfig,
    rules: Rules,
    params: Prepared,
    requests: Iterable[Request],
    image_pad: int,
    decode: DecodeConfig,
    rows: int,
) -> Iterator[Answered | None]:
    """`answers` by one device; None whenever it has been sent on for a few tokens."""
    stream, waiting = enumerate(requests), deque[tuple[int, Request]]()
    state: State | None = None
    owner: list[int | None] = [None] * rows  # the request of each row
    more = True
    # A prefill has a cost of its own, but on a CPU: elsewhere wait until a quarter of the batch is free.
    least = 1 if jax.default_backend() == "cpu" else max(1, rows // 4)
    while True:
        free = owner.count(None)
        while more and len(waiting) < free:
            number, request = next(stream, (-1, None))
            more = request is not None
            if request is not None:
                try:
                    fits(config, len(request.prompt))
                except GotError as err:
                    yield number, err
                    continue
                waiting.append((number, request))
        enough = free == rows or free >= least or (not more and len(waiting) <= free)
        if waiting and enough:
            group = [waiting.popleft() for _ in range(min(free, len(waiting)))]
            begun = _begin(config, rules, params, [r for _, r in group], image_pad, decode)
            places = [row for row, number in enumerate(owner) if number is None][: len(group)]
            for row, (number, _) in zip(places, group, strict=True):
                owner[row] = number
            state = _admit(state, begun, places, rows)
        if state is None:
            return
        done = np.asarray(state.done)
        ended = [row for row, number in enumerate(owner) if number is not None and done[row]]
        for row, answer in zip(ended, decoded(state, ended) if ended else [], strict=True):
            number = owner[row]
            assert number is not None
            owner[row] = None
            yield number, answer
        if all(number is None for number in owner):
            if not waiting and not more:
                return
            continue
        if not ended:
            state = advance(config, rules, params, state, CHUNK)
            yield None


def _begin(
    config: GotConfig,
    rules: Rules,
    params: Prepared,
    requests: Sequence[Request],
    image_pad: int,
    decode: DecodeConfig,
) -> State:
    """Prefill of a group. Its rows and pictures are filled up to a power of two, so that few programs are compiled."""
    context = config.decoder.context_tokens
    rows = _power(len(requests))
    lengths = np.ones(rows, np.int32)
    lengths[: len(requests)] = [len(r.prompt) for r in requests]
    padded = min(bucket(int(lengths.max())), context)
    new = min(bucket(min(decode.max_new_tokens, context)), context - int(lengths[: len(requests)].min()))
    tokens = np.zeros((rows, padded), np.int32)
    for row, request in enumerate(requests):
        tokens[row, : len(request.prompt)] = request.prompt
    limit = np.minimum(decode.max_new_tokens, context - lengths).astype(np.int32)
    for row, request in enumerate(requests):
        limit[row] = min(limit[row], request.max_new_tokens or limit[row])
    limit[len(requests) :] = 0
    counts = [len(r.pictures) for r in requests]
    side = config.encoder.image_px
    images = np.concatenate([np.zeros((0, side, side, 3), np.uint8), *(r.pictures for r in requests)])
    features = _encoded(config, params, images)
    image_rows = np.full(len(features), rows, np.int32)
    image_rows[: sum(counts)] = np.repeat(np.arange(len(requests)), counts)
    return begin(config, rules, new, params, tokens, tokens == image_pad, lengths, limit, features, image_rows)


def _encoded(config: GotConfig, params: Prepared, images: UInt8[np.ndarray, "N H W 3"]) -> Float[Array, "M T D"]:
    """Tokens of the pictures, with zeros up to a power of two; encoded so many at a time as the device likes."""
    most = 1 if jax.default_backend() == "cpu" else PICTURES
    shape = config.encoder.image_tokens, config.decoder.width
    parts = []
    for start in range(0, len(images), most):
        some = images[start : start + most]
        fill = np.zeros((_power(len(some)) - len(some), *some.shape[1:]), np.uint8)
        parts.append(_encode(config, params, np.concatenate([some, fill]))[: len(some)])
    missing = _power(len(images)) - len(images)
    return jnp.concatenate([*parts, jnp.zeros((missing, *shape), activations(config))])


_encode = jax.jit(encode, static_argnums=0)


def _power(count: int) -> int:
    return 0 if count == 0 else 1 << (count - 1).bit_length()


def _admit(state: State | None, begun: State, places: Sequence[int], rows: int) -> State:
    """The state with the begun rows in the given places; it grows when they need more slots than it has."""
    slots = begun.history.shape[1]
    state = state or _empty(begun, rows)
    if state.history.shape[1] < slots:
        state = _widened(state, slots)
    elif state.history.shape[1] > slots:
        begun = _widened(begun, state.history.shape[1])
    index = np.full(len(begun.done), rows, np.int32)
    index[: len(places)] = places
    return _insert(state, begun, index)


@functools.partial(jax.jit, static_argnums=1)
def _empty(like: State, rows: int) -> State:
    """A state of rows that are all done."""
    made = jax.tree.map(lambda a: jnp.zeros((rows, *a.shape[1:]), a.dtype), like)
    return made._replace(lengths=made.lengths + 1, done=~made.done)


@functools.partial(jax.jit, static_argnums=1)
def _widened(state: State, slots: int) -> State:
    """The same rows with more slots."""
    more = slots - state.history.shape[1]
    pad = lambda a: jnp.pad(a, ((0, 0), (0, more)))
    return state._replace(
        cache=[layer.widened(more) for layer in state.cache],
        history=pad(state.history),
        logprobs=pad(state.logprobs),
    )


@functools.partial(jax.jit, donate_argnums=0)
def _insert(state: State, begun: State, index: Int[Array, "R"]) -> State:
    """Row r of `begun` takes the place of row index[r]; an index past the end: nowhere."""
    return jax.tree.map(lambda old, new: old.at[index].set(new, mode="drop"), state, begun)
