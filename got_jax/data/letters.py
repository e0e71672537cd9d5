"""Labels of the letters lesson (`got_jax.train.letters`): which character stands on which patch and in which cell, and
the cell of the letter that an answer comes to next."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from got_jax.data.example import Letters
from got_jax.tokenizers import Tokenizer

CELL_LETTERS = 12  # letters of a cell that are asked for; more are ignored
NOWHERE = -1  # the place of a token before a letter of which no one knows where it stands
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
    for character, (left, top, right, bottom), cell in zip(letters.text, spans, _cells(letters, side), strict=True):
        label = _letter_id(tokenizer, character)
        patches[top:bottom, left:right] = label
        if used[cell] < CELL_LETTERS:
            cells[cell, used[cell]] = label
            used[cell] += 1
    return labels


def place_labels(text: str, length: int, letters: Letters, tokenizer: Tokenizer, grid: int) -> list[int]:
    """For each of the `length` tokens of the answer `text`: the cell of the next letter, its own included.

    NOWHERE where none comes any more; for all tokens when the letters are not those of the text in order, or when the
    tokenizer does not cut it into characters.
    """
    cells = [*_cells(letters, grid // 4), NOWHERE]
    sizes = [len(_ids(tokenizer, character)) for character in text]
    if "".join(text.split()) != letters.text or sum(sizes) + 1 != length:
        return [NOWHERE] * length
    places, behind = [], 0
    for character, size in zip(text, sizes, strict=True):
        places += [cells[behind]] * size
        behind += not character.isspace()
    return [*places, cells[behind]]


def _cells(letters: Letters, side: int) -> list[int]:
    """The cell that holds the middle of each letter."""
    middles = ((letters.boxes[:, :2] + letters.boxes[:, 2:]) / 2 * side).astype(int).clip(0, side - 1)
    return (middles[:, 1] * side + middles[:, 0]).tolist()


def no_letters(grid: int) -> LetterLabels:
    """The labels of blank paper."""
    return LetterLabels(np.zeros((grid, grid), np.int32), np.zeros(((grid // 4) ** 2, CELL_LETTERS), np.int32))


def _letter_id(tokenizer: Tokenizer, character: str) -> int:
    return _ids(tokenizer, character)[-1]  # rare characters are spelt by bytes; the last one stands for them


@functools.lru_cache(maxsize=65536)
def _ids(tokenizer: Tokenizer, character: str) -> list[int]:
    return tokenizer.encode(character)
