"""Labels of the letters lesson (`got_jax.train.letters`): which character stands on which patch and in which cell."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from got_jax.data.example import Letters
from got_jax.tokenizers import Tokenizer

CELL_LETTERS = 12  # letters of a cell that are asked for; more are ignored
NOTHING = 0  # the class of a patch or place without a letter; SentencePiece's <unk>, which byte fallback never needs


class LetterLabels(NamedTuple):
    """Token ids of the letters of a batch's pictures, NOTHING elsewhere."""

    patches: Int[np.ndarray, "N grid grid"]
    cells: Int[np.ndarray, "N T 12"]


def letter_labels(letters: Letters, tokenizer: Tokenizer, grid: int) -> LetterLabels:
    """Labels of one picture (no N). A patch is named by the letter whose box holds its middle."""
    side = grid // 4
    patches, cells = labels = no_letters(grid)
    used = np.zeros(side * side, np.int32)
    spans = np.ceil(letters.boxes * grid - 0.5).astype(int).clip(0, grid)
    middles = ((letters.boxes[:, :2] + letters.boxes[:, 2:]) / 2 * side).astype(int).clip(0, side - 1)
    for character, (left, top, right, bottom), (column, row) in zip(letters.text, spans, middles, strict=True):
        label = _letter_id(tokenizer, character)
        patches[top:bottom, left:right] = label
        cell = row * side + column
        if used[cell] < CELL_LETTERS:
            cells[cell, used[cell]] = label
            used[cell] += 1
    return labels


def no_letters(grid: int) -> LetterLabels:
    """The labels of blank paper."""
    return LetterLabels(np.zeros((grid, grid), np.int32), np.zeros(((grid // 4) ** 2, CELL_LETTERS), np.int32))


@functools.lru_cache(maxsize=65536)
def _letter_id(tokenizer: Tokenizer, character: str) -> int:
    return tokenizer.encode(character)[-1]  # rare characters are spelt by bytes; the last one stands for them
