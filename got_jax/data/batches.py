"""Example -> token ids and pixels -> packed batches of fixed shapes.

Several samples share a row: each is a segment with positions of its own, so a row gives what its samples give alone.
The pictures of a batch lie flat, in the order of the rows, with the row of each beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from got_jax import images, prompts
from got_jax.config import GotConfig
from got_jax.data.example import Example
from got_jax.data.letters import LetterLabels, letter_labels
from got_jax.errors import require
from got_jax.tokenizers import Tokenizer


class Batch(NamedTuple):
    """Packed rows. Padding has segment 0; a padding picture has image_rows == B."""

    tokens: Int[np.ndarray, "B L"]
    targets: Int[np.ndarray, "B L"]  # the next token
    weights: Float[np.ndarray, "B L"]  # 1 where the target counts
    positions: Int[np.ndarray, "B L"]
    segments: Int[np.ndarray, "B L"]
    is_image: Bool[np.ndarray, "B L"]
    images: UInt8[np.ndarray, "N H W 3"]
    image_rows: Int[np.ndarray, "N"]
    letters: LetterLabels | None = None  # for the letters lesson


@dataclass(frozen=True)
class Sample:
    """One example as ids: prompt and answer, and its pictures at the model's size."""

    prompt: list[int]
    answer: list[int]
    pictures: tuple[UInt8[np.ndarray, "H W 3"], ...]
    letters: LetterLabels | None = None

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.answer) - 1  # the last token is only a target


def encode_example(example: Example, tokenizer: Tokenizer, config: GotConfig, letters: bool = False) -> Sample:
    """Tokens and pixels of an example by the rules of `prompts` and `images`; `letters`: with labels of its letters."""
    side = config.encoder.image_px
    pictures = tuple(images.to_square(images.decode(data, "example"), side) for data in example.images)
    prompt = prompts.prompt_ids(tokenizer, example.prompt, config.encoder.image_tokens, len(pictures))
    labels = letter_labels(example.letters, tokenizer, config.encoder.grid) if letters and example.letters else None
    return Sample(prompt, prompts.answer_ids(tokenizer, example.text), pictures, labels)


def pack(
    samples: Sequence[Sample], row_tokens: int, pictures: int, image_px: int, image_pad: int, rows_multiple: int = 1
) -> Batch:
    """Packs samples into rows, longest first into the fullest row that has room.

    Args:
        row_tokens: L. pictures: N; fewer are filled up with black ones that no row uses.
        image_pad: id of `<imgpad>`. rows_multiple: B is rounded up to a multiple, to bound the number of shapes.

    Raises:
        GotError: when a sample is longer than a row or the samples hold more pictures than `pictures`.
    """
    rows: list[list[Sample]] = []
    used: list[int] = []
    for sample in sorted(samples, key=lambda s: -s.length):
        require(
            sample.length <= row_tokens,
            f"a sample of {sample.length} tokens does not fit a row of {row_tokens}; enlarge data.row_tokens.",
        )
        fits = [i for i, n in enumerate(used) if n + sample.length <= row_tokens]
        if fits:
            row = max(fits, key=lambda i: used[i])
        else:
            row = len(rows)
            rows.append([])
            used.append(0)
        rows[row].append(sample)
        used[row] += sample.length
    flat = [picture for row in rows for sample in row for picture in sample.pictures]
    require(len(flat) <= pictures, f"a batch of {len(flat)} pictures exceeds data.pictures {pictures}; enlarge it.")

    b = max(1, -(-len(rows) // rows_multiple)) * rows_multiple
    shape = (b, row_tokens)
    zeros = lambda dtype: np.zeros(shape, dtype)
    batch = Batch(
        tokens=zeros(np.int32),
        targets=zeros(np.int32),
        weights=zeros(np.float32),
        positions=zeros(np.int32),
        segments=zeros(np.int32),
        is_image=zeros(bool),
        images=np.zeros((pictures, image_px, image_px, 3), np.uint8),
        image_rows=np.full(pictures, b, np.int32),
    )
    labelled = [sample.letters for row in rows for sample in row if sample.letters]
    if labelled:  # pictures without labels, and the padding, count as blank paper
        empty = lambda like: np.zeros((pictures, *like.shape), like.dtype)
        batch = batch._replace(letters=LetterLabels(*map(empty, labelled[0])))
    image = 0
    for r, row in enumerate(rows):
        start = 0
        for segment, sample in enumerate(row, 1):
            ids = sample.prompt + sample.answer
            here = slice(start, start + sample.length)
            batch.tokens[r, here] = ids[:-1]
            batch.targets[r, here] = ids[1:]
            batch.weights[r, start + len(sample.prompt) - 1 : here.stop] = 1
            batch.positions[r, here] = np.arange(sample.length)
            batch.segments[r, here] = segment
            start = here.stop
            for picture in sample.pictures:
                batch.images[image] = picture
                batch.image_rows[image] = r
                if batch.letters and sample.letters:
                    batch.letters.patches[image], batch.letters.cells[image] = sample.letters
                image += 1
    np.equal(batch.tokens, image_pad, out=batch.is_image)
    batch.is_image[batch.segments == 0] = False
    return batch
