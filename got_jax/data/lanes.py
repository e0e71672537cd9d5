"""Packed batches of a run, row by row, by any number of processes on any mesh.

Row r of every batch is filled by lane r, which reads the examples r, r + R, r + 2R, ... of the run (R rows a batch).
So a batch depends neither on the number of processes nor on the mesh; each example is read by exactly one lane; and
what a lane has read is a few numbers, saved with the weights.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from got_jax.config import GotConfig
from got_jax.data.batches import Batch, Sample, encode_example, pack
from got_jax.data.example import Engine
from got_jax.data.letters import no_letters
from got_jax.data.mixture import engine_name, place_at
from got_jax.data.slips import with_slips
from got_jax.data.workers import Workers
from got_jax.errors import GotError, require
from got_jax.prompts import IMG_PAD
from got_jax.tokenizers import Tokenizer

MOST_BAD = 50  # bad draws in a row after which a lane gives up its row; the run then looks at their share
CARRY = 4  # samples that a lane sets aside for its next row because they did not fit
NEXT, BAD, SET_ASIDE = 0, 1, slice(2, 2 + CARRY)  # columns of a lane's state
NOTHING = -1


class Bad(NamedTuple):
    """An example that cannot be trained on, and why."""

    reason: str


@dataclass(frozen=True)
class Draws:
    """`draws(i)`: the i-th example of a run as a `Sample`, or `Bad`. Picklable: workers call it.

    Attributes:
        row_tokens, row_pictures: a larger sample is `Bad`. letters: whether samples have labels of their letters.
        slips: share of the answers' tokens at which slips begin (`got_jax.data.slips`).
    """

    engine: Engine
    tokenizer: Tokenizer
    config: GotConfig
    seed: int
    row_tokens: int
    row_pictures: int
    letters: bool = False
    slips: float = 0.0

    def __call__(self, index: int) -> Sample | Bad:
        place = place_at(self.engine, self.seed, index)
        where = f"{engine_name(place.engine)} (seed {place.seed}, index {place.index})"
        try:
            example = place.engine.example(place.seed, place.index)
            sample = encode_example(example, self.tokenizer, self.config, self.letters, place.source)
            if self.slips:
                rng = np.random.default_rng([zlib.crc32(b"slips"), self.seed, index])
                sample = with_slips(sample, self.slips, rng)
        except Exception as err:  # a fault of one example must not end a run of millions; too many of them do
            reason = str(err) if isinstance(err, GotError) else f"{type(err).__name__}: {err}"
            return Bad(f"{where}: {reason}")
        most = min(self.row_tokens, self.config.decoder.context_tokens)
        if sample.length <= most and len(sample.pictures) <= self.row_pictures:
            return sample
        return Bad(
            f"{where}: its {sample.length} tokens and {len(sample.pictures)} pictures do not fit a row of {most} and "
            f"{self.row_pictures}"
        )


def new_state(rows: int) -> Int[np.ndarray, "R 6"]:
    """Lanes that have read nothing: per lane its next draw, its bad ones so far, and the draws that it set aside."""
    state = np.full((rows, SET_ASIDE.stop), NOTHING, np.int32)
    state[:, [NEXT, BAD]] = 0
    return state


def fill(
    state: Int[np.ndarray, "6"], draw: Callable[[int], Sample | Bad], row_tokens: int, row_pictures: int
) -> tuple[list[Sample], Int[np.ndarray, "6"], list[str]]:
    """One row of a lane, its state afterwards, and why bad draws were left out.

    What was set aside comes first, then new draws until the pictures' places are full or `CARRY` draws did not fit.
    """
    state = state.copy()
    row: list[Sample] = []
    reasons: list[str] = []
    waiting: list[int] = []
    tokens = pictures = 0
    old = [int(i) for i in state[SET_ASIDE] if i != NOTHING]
    while len(waiting) < CARRY:
        if old:
            number = old.pop(0)
        elif pictures == row_pictures:
            break
        else:
            number = int(state[NEXT])
            state[NEXT] += 1
        sample = draw(number)
        if isinstance(sample, Bad):
            state[BAD] += 1
            reasons.append(sample.reason)
            if len(reasons) >= MOST_BAD and not row:
                break  # nothing but bad ones: the caller decides
        elif tokens + sample.length <= row_tokens and pictures + len(sample.pictures) <= row_pictures:
            row.append(sample)
            tokens += sample.length
            pictures += len(sample.pictures)
        else:
            waiting.append(number)
    state[SET_ASIDE] = (waiting + old + [NOTHING] * CARRY)[:CARRY]
    return row, state, reasons


class Lanes:
    """Batches of the rows `mine` of R, from `state` on.

    Attributes:
        state: of all R lanes as of the batch that was made last; those of other processes are not kept up.
    """

    def __init__(self, draws: Draws, rows: int, mine: Sequence[int], state: Int[np.ndarray, "R 6"], workers: int):
        self.rows, self.mine, self.draws = rows, list(mine), draws
        self.state = state.copy()
        self._workers = Workers(draws, workers)
        self._kept: dict[int, Sample | Bad] = {}  # what lanes have set aside, so that it is not made again

    def batches(self) -> Iterator[tuple[Batch, Int[np.ndarray, "R 6"], list[str]]]:
        """(batch of my rows, state after it, reasons of bad examples) without end."""
        d = self.draws
        side, pad = d.config.encoder.image_px, d.tokenizer.special[IMG_PAD]
        labels = no_letters(d.config.encoder.grid) if d.letters else None
        while True:
            rows, reasons = [], []
            for lane in self.mine:
                row, self.state[lane], bad = fill(
                    self.state[lane], lambda k, lane=lane: self._draw(lane, k), d.row_tokens, d.row_pictures
                )
                kept = {k * self.rows + lane for k in self.state[lane][SET_ASIDE] if k != NOTHING}
                self._kept = {i: v for i, v in self._kept.items() if i % self.rows != lane or i in kept}
                rows.append(row)
                reasons += bad
            yield pack(rows, d.row_tokens, d.row_pictures, side, pad, labels), self.state.copy(), reasons

    def close(self) -> None:
        self._workers.close()

    def _draw(self, lane: int, number: int) -> Sample | Bad:
        index = number * self.rows + lane
        if index not in self._kept:
            for more in range(number, number + 2 * self.draws.row_pictures):
                if (place := more * self.rows + lane) not in self._kept:
                    self._workers.ask(place)
            self._kept[index] = self._workers.get(index)
        return self._kept[index]


def check_share(bad: int, drawn: int, most: float, where: str) -> None:
    """Raises GotError when more than `most` of the drawn examples were bad, once enough were drawn to tell."""
    require(
        drawn < 100 or bad <= most * drawn,
        f"{bad} of {drawn} training examples are bad, more than data.max_bad {most:.1%}; {where} names them.",
    )
