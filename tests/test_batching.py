"""Continuous batching: every request gets what it gets alone, whatever shares its batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from got_jax import batching, inference
from got_jax import generate as generate_module
from got_jax.batching import Request, answers
from got_jax.errors import GotError
from got_jax.generate import DecodeConfig, generate

PAD, STOPS = 511, (1, 2)


def requests(counts: list[int], side: int = 96) -> list[Request]:
    """Prompts of unequal lengths with so many pictures each."""
    rng = np.random.default_rng(0)
    return [
        Request(
            [5 + n, *[PAD] * (9 * count), *rng.integers(10, 200, 2 + 7 * n).tolist()],
            rng.integers(0, 255, (count, side, side, 3), np.uint8),
        )
        for n, count in enumerate(counts)
    ]


@pytest.fixture(scope="module")
def laid(tiny, tiny_params):
    return inference.prepare(tiny, tiny_params)


@pytest.fixture
def device(request, monkeypatch) -> Iterator[str]:
    """What programs are traced for: a TPU keeps its cache in another way."""
    jax.clear_caches()
    monkeypatch.setattr(jax, "default_backend", lambda: request.param)
    yield request.param
    jax.clear_caches()


@pytest.mark.parametrize(
    ("rows", "cache", "device"),
    [(1, "", "cpu"), (3, "", "cpu"), (8, "", "cpu"), (3, "int8", "cpu"), (3, "", "tpu"), (3, "int8", "tpu")],
    indirect=["device"],
)
def test_answers_are_those_that_requests_get_alone(tiny, laid, monkeypatch, rows, cache, device):
    monkeypatch.setattr(batching, "CHUNK", 3)
    asked = requests([1, 2, 1, 0, 3, 1, 1])
    decode = DecodeConfig(14, 3, cache)
    got = dict(answers(tiny, [laid], iter(asked), PAD, STOPS, decode, rows))
    assert sorted(got) == list(range(len(asked)))
    for number, request in enumerate(asked):
        places = np.zeros(len(request.pictures), np.int32)
        [alone] = generate(tiny, laid, [request.prompt], request.pictures, places, PAD, STOPS, decode)
        answer = got[number]
        assert not isinstance(answer, GotError)
        assert answer.tokens == alone.tokens
        assert answer.stopped == alone.stopped
        np.testing.assert_allclose(answer.logprobs, alone.logprobs, atol=1e-4)


def test_rows_that_end_early_make_room(tiny, laid, monkeypatch):
    """With a stop mark that some rows meet at once, later requests begin while the first still runs."""
    monkeypatch.setattr(batching, "CHUNK", 2)
    asked = requests([1] * 6)
    decode = DecodeConfig(40, 0)
    free = {n: a for n, a in answers(tiny, [laid], iter(asked), PAD, (-1,), decode, 6) if not isinstance(a, GotError)}
    long, early = next((a, b) for a in free for b in free if free[b].tokens[5] not in free[a].tokens)
    stops = (free[early].tokens[5],)
    order = [n for n, _ in answers(tiny, [laid], [asked[long], *[asked[early]] * 4], PAD, stops, decode, 2)]
    assert order == [1, 2, 3, 4, 0]


def test_a_prompt_that_does_not_fit_fails_alone(tiny, laid):
    good, *_ = requests([1])
    bad = Request([7] * tiny.decoder.context_tokens, np.zeros((0, 96, 96, 3), np.uint8))
    got = dict(answers(tiny, [laid], iter([good, bad, good]), PAD, STOPS, DecodeConfig(5, 0), 2))
    assert isinstance(got[1], GotError)
    assert got[0] == got[2]


@pytest.mark.parametrize(("count", "joined"), [(2, 1), (3, 2), (8, 3)])
def test_replicas_share_the_requests(tiny, laid, monkeypatch, count, joined):
    """A replica joins when those before it are full, and answers are one replica's."""
    worked, real = set(), batching._begin
    replicas = [jax.tree.map(lambda a: a, laid) for _ in range(3)]
    monkeypatch.setattr(batching, "_begin", lambda c, r, params, *a: worked.add(id(params)) or real(c, r, params, *a))
    asked = requests([1, 0, 2, 1, 0, 3, 1, 1])[:count]
    decode = DecodeConfig(14, 3)
    alone = dict(answers(tiny, [laid], iter(asked), PAD, STOPS, decode, 2))
    worked.clear()
    many = dict(answers(tiny, replicas, iter(asked), PAD, STOPS, decode, 2))
    assert [many[n].tokens for n in range(count)] == [alone[n].tokens for n in range(count)]  # type: ignore[union-attr]
    assert 1 <= len(worked) <= joined


def test_replicas_work_at_the_same_time(tiny, laid, monkeypatch):
    """Each waits for the other once before it answers its first."""
    both, real = threading.Barrier(2), batching._begin

    def together(*arguments):
        if not arguments[3][0].prompt[0] % 2:  # one of each replica's two
            both.wait(60)
        return real(*arguments)

    monkeypatch.setattr(batching, "_begin", together)
    asked = [Request([n, 7], np.zeros((0, 96, 96, 3), np.uint8)) for n in (4, 5, 6, 7)]
    assert len(list(answers(tiny, [laid, laid], iter(asked), PAD, (-1,), DecodeConfig(3, 0), 2))) == 4


def test_what_fails_in_a_replica_is_raised(tiny, laid):
    def broken() -> Iterator[Request]:
        yield from requests([0, 0, 0])
        raise ValueError("the source")

    with pytest.raises(ValueError, match="the source"):
        list(answers(tiny, [laid, laid], broken(), PAD, STOPS, DecodeConfig(5, 0), 1))


def test_replicas_stop_when_nobody_listens(tiny, laid):
    drawn = []

    def endless() -> Iterator[Request]:
        while True:
            drawn.append(0)
            yield requests([0])[0]

    got = answers(tiny, [laid, laid], endless(), PAD, (-1,), DecodeConfig(200, 0), 2)
    threads = threading.active_count()
    next(got)
    got.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads
    assert len(drawn) <= 8


def test_nothing_asked_is_nothing_answered(tiny, laid):
    assert list(answers(tiny, [laid], iter(()), PAD, STOPS, DecodeConfig(5, 0), 2)) == []


def test_programs_are_compiled_once_over_a_mixed_workload(tiny, laid):
    """Sizes are bucketed, so work of sizes that were met before compiles nothing."""
    made = requests([1, 1, 2, 1, 1, 1])
    loop = generate_module.loop(True)
    programs = (generate_module.begin, loop, batching._encode, batching._insert, batching._widened)
    compiled = lambda: [program._cache_size() for program in programs]  # type: ignore[attr-defined]

    def work(seed: int) -> None:
        asked = [made[n] for n in np.random.default_rng(seed).permutation(6)]
        list(answers(tiny, [laid], iter(asked), PAD, STOPS, DecodeConfig(12, 0), 4))

    first = compiled()
    for seed in range(4):
        work(seed)
    before = compiled()
    for seed in range(4):
        work(seed)
    assert compiled() == before
    assert sum(before) - sum(first) <= 25


def test_a_request_may_ask_for_less(tiny, laid):
    short, long = (Request(r.prompt, r.pictures, limit) for r, limit in zip(requests([1, 1]), (3, None), strict=True))
    got = dict(answers(tiny, [laid], [short, long], PAD, (-1,), DecodeConfig(9, 0), 2))
    assert [len(a.tokens) for _, a in sorted(got.items()) if not isinstance(a, GotError)] == [3, 9]


def test_nothing_is_compiled_after_warm_up(tiny, laid):
    """Other prompts, lengths, pictures and orders of the same buckets run the programs that are there."""
    compiled: list[str] = []

    def note(event: str, duration_secs: float, **_: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    asked = requests([1, 2, 1, 0, 3, 1, 1, 2])
    run = lambda order: list(answers(tiny, [laid], [asked[n] for n in order], PAD, STOPS, DecodeConfig(20, 3), 4))
    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        run(range(8))
        run([7, 6, 5, 4, 3, 2, 1, 0])
        assert compiled
        compiled.clear()
        run([1, 0, 2, 3, 4, 5, 7, 6])
        run([7, 6, 5, 4, 3, 1, 2, 0])
        assert compiled == []
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
