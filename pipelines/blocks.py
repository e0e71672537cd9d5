"""Examples that LaTeX draws, a block of neighbours in one run; each is as it would be alone."""

from __future__ import annotations

import functools
from typing import Any, Protocol

import numpy as np

from got_jax.errors import GotError, require
from pipelines.backends import latex
from pipelines.backends.latex import Kind, Page
from pipelines.tries import MOST, Unusable, generator


class Source(Protocol):
    """What an engine composed before it is drawn."""

    def body(self) -> str | None:
        """LaTeX of the page; nothing when LaTeX does not draw it."""
        ...


class Composer(Protocol):
    """An engine whose examples are composed first and drawn in blocks of `block`; hashable."""

    @property
    def block(self) -> int: ...

    def compose(self, rng: np.random.Generator) -> Any: ...


def drawn(engine: Composer, name: str, kind: Kind, seed: int, index: int) -> tuple[Any, Page | None, int]:
    """An example's source, its page if LaTeX draws it, and how often it was drawn again.

    What LaTeX refuses, or `compose` does by `Unusable`, is composed again from the next sub-seed.

    Raises:
        GotError: when an example of the block is refused `tries.MOST` times.
    """
    return _block(engine, name, kind, seed, index // engine.block)[index % engine.block]


@functools.lru_cache(maxsize=4)
def _block(engine: Composer, name: str, kind: Kind, seed: int, number: int) -> list[tuple[Any, Page | None, int]]:
    first = number * engine.block
    done: dict[int, tuple[Any, Page | None, int]] = {}
    turns = [0] * engine.block
    cut: dict[int, Any] = {}  # pages that ran over, without their ends
    while len(done) < engine.block:
        waiting = {i: (source, source.body()) for i, source in cut.items()}
        cut = {}
        for i in range(engine.block):
            while i not in done and i not in waiting:
                source, body, turns[i] = _composed(engine, name, seed, first + i, turns[i])
                if body is None:
                    done[i] = source, None, turns[i]
                else:
                    waiting[i] = source, body
        pages = latex.typeset([body for _, body in waiting.values()], kind)
        for (i, (source, _)), page in zip(waiting.items(), pages, strict=True):
            if isinstance(page, Page) and (page.pages == 1 or kind.tight):
                done[i] = source, page, turns[i]
                continue
            if isinstance(page, Page) and hasattr(source, "shorter"):
                try:
                    cut[i] = source.shorter(page)
                    continue
                except Unusable:
                    pass
            turns[i] += 1
            why = page if isinstance(page, str) else f"it takes {page.pages} pages"
            require(turns[i] < MOST, f"{name}: {MOST} draws in a row cannot be used, the last: {why}.")
    return [done[i] for i in range(engine.block)]


def _composed(engine: Composer, name: str, seed: int, index: int, turn: int) -> tuple[Any, str | None, int]:
    """The first source from `turn` on that the engine does not refuse, its LaTeX, and its turn."""
    why = ""
    for at in range(turn, MOST):
        try:
            source = engine.compose(generator(name, seed, index, at))
            return source, source.body(), at
        except Unusable as err:
            why = str(err)
    raise GotError(f"{name}: {MOST} draws in a row cannot be used, the last: {why}")
