"""Example -> token ids and pixels -> packed batches of fixed shapes.

Several samples share a row: each is a segment with positions of its own, so a row gives what its samples give alone.
The pictures of a batch lie flat, the same number of places for every row, so that rows and pictures split alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from got_jax import images, prompts
from got_jax.config import GotConfig
from got_jax.data.example import Example
from got_jax.data.letters import NOWHERE, LetterLabels, letter_labels, place_labels
from got_jax.errors import require
from got_jax.tokenizers import Tokenizer

UNCOUNTED = -1  # a target that does not count


class Batch(NamedTuple):
    """Packed rows, B of them, with S places for pictures each (N = B * S). Padding has segment 0."""

    tokens: Int[np.ndarray, "B L"]
    targets: Int[np.ndarray, "B L"]  # the next token
    weights: Float[np.ndarray, "B L"]  # 1 where the target counts
    positions: Int[np.ndarray, "B L"]
    segments: Int[np.ndarray, "B L"]
    is_image: Bool[np.ndarray, "B L"]
    sources: Int[np.ndarray, "B L"]  # number of the engine that a token comes from
    pictures: Int[np.ndarray, "B"]  # places in use; the others are black
    images: UInt8[np.ndarray, "N H W 3"]
    letters: LetterLabels | None = None  # for the letters lesson
    places: Int[np.ndarray, "B L"] | None = None  # for the same: which of the row's picture tokens to look at


@dataclass(frozen=True)
class Sample:
    """One example as ids: prompt and answer, its pictures at the model's size, and the number of its engine.

    Attributes:
        answer: with its closing mark, as the decoder is given it.
        targets: what should stand in the place of each id of `answer`; `UNCOUNTED` where anything may.
            None: the answer itself.
        places: the cell of the letter that comes next, for each target (`letters.place_labels`).
    """

    prompt: list[int]
    answer: list[int]
    pictures: tuple[UInt8[np.ndarray, "H W 3"], ...]
    letters: LetterLabels | None = None
    source: int = 0
    targets: list[int] | None = None
    places: list[int] | None = None

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.answer) - 1  # the last token is only a target


def encode_example(
    example: Example, tokenizer: Tokenizer, config: GotConfig, letters: bool = False, source: int = 0
) -> Sample:
    """Tokens and pixels of an example by the rules of `prompts` and `images`; `letters`: with labels of its letters."""
    side = config.encoder.image_px
    pictures = tuple(images.to_square(images.decode(data, "example"), side) for data in example.images)
    prompt = prompts.prompt_ids(tokenizer, example.prompt, config.encoder.image_tokens, len(pictures))
    sample = Sample(prompt, prompts.answer_ids(tokenizer, example.text, example.prompt), pictures, source=source)
    if not (letters and example.letters):
        return sample
    grid = config.encoder.grid
    places = place_labels(example.text, len(sample.answer), example.letters, tokenizer, grid)
    return replace(sample, letters=letter_labels(example.letters, tokenizer, grid), places=places)


def pack(
    rows: Sequence[Sequence[Sample]],
    row_tokens: int,
    row_pictures: int,
    image_px: int,
    image_pad: int,
    letters: LetterLabels | None = None,
) -> Batch:
    """A batch of rows of samples.

    Args:
        row_tokens: L. row_pictures: S; empty places are black, and no token looks at them.
        image_pad: id of `<imgpad>`.
        letters: empty labels of one picture, when the batch is to have labels; pictures without count as blank paper.

    Raises:
        GotError: when a row's samples do not fit.
    """
    b, n = len(rows), len(rows) * row_pictures
    zeros = lambda dtype: np.zeros((b, row_tokens), dtype)
    empty = lambda like: np.zeros((n, *like.shape), like.dtype)
    batch = Batch(
        tokens=zeros(np.int32),
        targets=zeros(np.int32),
        weights=zeros(np.float32),
        positions=zeros(np.int32),
        segments=zeros(np.int32),
        is_image=zeros(bool),
        sources=zeros(np.int32),
        pictures=np.array([sum(len(sample.pictures) for sample in row) for row in rows], np.int32),
        images=np.zeros((n, image_px, image_px, 3), np.uint8),
        letters=LetterLabels(*map(empty, letters)) if letters else None,
        places=np.full((b, row_tokens), NOWHERE, np.int32) if letters else None,
    )
    for r, row in enumerate(rows):
        length, pictures = sum(sample.length for sample in row), int(batch.pictures[r])
        require(
            length <= row_tokens and pictures <= row_pictures,
            f"a row of {length} tokens and {pictures} pictures exceeds data.row_tokens {row_tokens} or "
            f"data.row_pictures {row_pictures}; enlarge it.",
        )
        start, image = 0, r * row_pictures
        for segment, sample in enumerate(row, 1):
            ids = sample.prompt + sample.answer
            here = slice(start, start + sample.length)
            batch.tokens[r, here] = ids[:-1]
            targets = np.array([*sample.prompt[1:], *(sample.targets or sample.answer)])
            batch.targets[r, here] = np.maximum(targets, 0)
            answered = slice(start + len(sample.prompt) - 1, here.stop)
            batch.weights[r, answered] = targets[len(sample.prompt) - 1 :] != UNCOUNTED
            if batch.places is not None and sample.places:
                places = np.array(sample.places)
                before = (image - r * row_pictures) * sample.prompt.count(image_pad)
                batch.places[r, answered] = np.where(places == NOWHERE, NOWHERE, before + places)
            batch.positions[r, here] = np.arange(sample.length)
            batch.segments[r, here] = segment
            batch.sources[r, here] = sample.source
            start = here.stop
            for picture in sample.pictures:
                batch.images[image] = picture
                if batch.letters and sample.letters:
                    batch.letters.patches[image], batch.letters.cells[image] = sample.letters
                image += 1
    np.equal(batch.tokens, image_pad, out=batch.is_image)
    batch.is_image[batch.segments == 0] = False
    return batch
