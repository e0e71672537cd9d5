"""The documents engine: real prose typeset as pages, paragraphs and lines, with its exact text in reading order.

Source: GOT paper 3.2.2 ("document" data: full pages, and line and paragraph slices). The answer keeps the picture's
line breaks; a blank line never stands in it.
"""

from __future__ import annotations

import string
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import require
from pipelines import corpora, fonts
from pipelines.paper import photograph, to_png
from pipelines.typeset import Line, break_lines, coverage, place, place_letters, shifted


@dataclass(frozen=True)
class Documents:
    """Settings of the engine; `example` is a pure function of them and (seed, index).

    Attributes:
        split: "train" or "held_out": which corpora and font families are used.
        corpus: a folder of .txt or .pdf files instead of the embedded corpora.
        pages, paragraphs, lines: weights of the three kinds of picture.
        max_lines: lines of a slice ("paragraphs" and "lines" kinds).
        line_chars: smallest and largest width of a slice's column, in average characters.
        size_px: smallest and largest font size.
        least_ems, most_aspect: a slice is at least so many ems wide, and at most so many times wider than high;
            blank paper fills the rest.
        tight: share of slices that are cut close to their text whatever their shape.
        scrambled: share of slices whose text is no prose (shuffled words, codes, numbers, capitals), so that a model
            learns to look rather than to guess.
        effects: share of pictures on which paper, scanner and screen leave their traces.
    """

    split: str = "train"
    corpus: str = ""
    pages: float = 0.2
    paragraphs: float = 0.4
    lines: float = 0.4
    max_lines: int = 8
    line_chars: tuple[int, int] = (8, 48)
    size_px: tuple[float, float] = (11.0, 34.0)
    least_ems: float = 12.0
    most_aspect: float = 4.0
    tight: float = 0.15
    scrambled: float = 0.2
    effects: float = 1.0

    def __post_init__(self) -> None:
        weights = (self.pages, self.paragraphs, self.lines)
        require(
            min(weights) >= 0 and sum(weights) > 0,
            f"documents: the weights pages, paragraphs, lines are {weights}; give at least one above 0, none below.",
        )
        require(self.max_lines >= 1, f"documents: max_lines is {self.max_lines}; it must be at least 1.")
        low, high = self.line_chars
        require(1 <= low <= high, f"documents: line_chars {self.line_chars} must be two ascending numbers from 1 on.")
        require(
            0 < self.size_px[0] <= self.size_px[1], f"documents: size_px {self.size_px} must be ascending, above 0."
        )

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        rng = np.random.default_rng([zlib.crc32(b"documents"), seed, index])
        kinds = ("page", "paragraph", "lines")
        weights = np.array([self.pages, self.paragraphs, self.lines])
        kind = str(rng.choice(kinds, p=weights / weights.sum()))
        font = self._font(rng)
        if kind == "page":
            lines, width, height = self._page(rng, font)
        else:
            lines, width, height = self._slice(rng, font, kind)
        ink = coverage(lines, width, height)
        screen = font.face.kind == "mono" and rng.random() < 0.5
        meta: dict = {"engine": "documents", "kind": kind, "font": font.face.name, "lines": len(lines)}
        if rng.random() < self.effects:
            picture, meta["effects"] = photograph(ink, rng, screen)
        else:
            picture, _ = photograph(ink, np.random.default_rng(0), screen=True)
        letters = place_letters(lines, width, height, meta.get("effects", {}).get("skew_degrees", 0.0))
        return Example((to_png(picture),), prompts.PLAIN, "\n".join(line.text for line in lines), meta, letters)

    def _texts(self) -> tuple[tuple[str, ...], ...]:
        return corpora.folder(self.corpus) if self.corpus else corpora.split(self.split)

    def _font(self, rng: np.random.Generator) -> fonts.Typeface:
        kind = str(rng.choice(["serif", "sans", "mono"], p=[0.5, 0.32, 0.18]))
        style = str(rng.choice(["normal", "italic", "bold"], p=[0.76, 0.12, 0.12]))
        found = fonts.choose(self.split, kind, style)
        return fonts.typeface(found[rng.integers(len(found))])

    def _paragraphs(self, rng: np.random.Generator, font: fonts.Typeface):
        """Endless word lists: consecutive paragraphs of one text from a random place on."""
        texts = self._texts()
        text = texts[rng.integers(len(texts))]
        at = int(rng.integers(len(text)))
        while True:
            words = font.shown(text[at % len(text)]).split()
            if words:
                yield words
            at += 1

    def _slice(self, rng: np.random.Generator, font: fonts.Typeface, kind: str) -> tuple[list[Line], int, int]:
        """A few lines on a tight ground. "paragraph" starts where a paragraph starts, "lines" anywhere."""
        low, high = self.line_chars
        chars = rng.uniform(low, high)
        count = int(rng.integers(1, self.max_lines + 1))
        column_ems = chars * font.width(string.ascii_lowercase) / 26
        indent_ems = float(rng.choice([0.0, rng.uniform(0.5, 2.5)])) if kind == "paragraph" else 0.0
        indent_ems = min(indent_ems, column_ems / 4)
        broken: list[tuple[list[str], bool, bool]] = []  # words, first of its paragraph, last of its paragraph
        scrambled = rng.random() < self.scrambled
        for words in self._paragraphs(rng, font):
            if kind == "lines" and not broken:
                words = words[int(rng.integers(max(1, len(words) - 4))) :]
            if scrambled:
                words = font.shown(" ".join(scramble(words, rng))).split()  # capitals may be missing: µ, ÿ
                if not words:
                    continue
            new = break_lines(words, font, column_ems, indent_ems)
            broken += [(line, i == 0, i == len(new) - 1) for i, line in enumerate(new)]
            if len(broken) >= count or (kind == "paragraph" and rng.random() < 0.5):
                break
        broken = broken[:count]
        size = float(np.exp(rng.uniform(*np.log(self.size_px))))
        leading = size * rng.uniform(1.05, 1.7)
        align = str(rng.choice(["left", "justify", "center", "right"], p=[0.5, 0.4, 0.06, 0.04]))
        if font.face.kind == "mono" and rng.random() < 0.8:
            align = "left"
        left, right, top, bottom = size * rng.uniform(0.15, 1.4, 4)
        lines = [
            place(
                words,
                font,
                size,
                left,
                column_ems * size,
                top + size * 0.9 + i * leading,
                "left" if align == "justify" and last else align,
                indent_ems * size if first else 0.0,
            )
            for i, (words, first, last) in enumerate(broken)
        ]
        width = max(line.x_px[-1] + font.width(line.words[-1]) * size for line in lines) + right
        height = top + size * 1.2 + (len(lines) - 1) * leading + bottom
        if rng.random() >= self.tight:
            # The encoder sees a square: without more paper a single word would be stretched to fill it.
            wider = max(0.0, size * self.least_ems - width)
            taller = max(0.0, (width + wider) / self.most_aspect - height)
            dx, dy = rng.uniform(0, wider), rng.uniform(0, taller)
            lines = [shifted(line, dx, dy) for line in lines]
            width, height = width + wider, height + taller
        return lines, round(width), round(height)

    def _page(self, rng: np.random.Generator, font: fonts.Typeface) -> tuple[list[Line], int, int]:
        """A whole page: maybe a title, one or two columns of paragraphs, maybe a page number at the foot."""
        width = int(rng.integers(800, 1300))
        height = int(width * rng.uniform(1.2, 1.5))
        size = float(rng.uniform(width / 70, width / 45))
        margin = width * rng.uniform(0.05, 0.14)
        columns = int(rng.choice([1, 2], p=[0.65, 0.35]))
        gutter = size * rng.uniform(1.5, 3)
        column_px = (width - 2 * margin - gutter * (columns - 1)) / columns
        leading = size * rng.uniform(1.15, 1.6)
        align = str(rng.choice(["left", "justify"], p=[0.35, 0.65]))
        indent_ems = float(rng.choice([0.0, rng.uniform(1, 2.5)]))
        gap = leading * float(rng.choice([0.0, rng.uniform(0.3, 0.8)]))
        paragraphs = self._paragraphs(rng, font)
        lines: list[Line] = []
        top, bottom = margin, height - margin
        if rng.random() < 0.4:
            title_size = size * rng.uniform(1.3, 2.0)
            words = next(paragraphs)[: int(rng.integers(2, 9))]
            for line in break_lines(words, font, (width - 2 * margin) / title_size):
                top += title_size * 1.2
                lines.append(place(line, font, title_size, margin, width - 2 * margin, top, "center"))
            top += title_size
        number = rng.random() < 0.4
        for column in range(columns):
            left = margin + column * (column_px + gutter)
            y = top + size
            while y < bottom:
                new = break_lines(next(paragraphs), font, column_px / size, indent_ems)
                for i, words in enumerate(new):
                    if y >= bottom:
                        break
                    last = i == len(new) - 1
                    indent_px = indent_ems * size if i == 0 else 0.0
                    how = "left" if align == "justify" and last else align
                    lines.append(place(words, font, size, left, column_px, y, how, indent_px))
                    y += leading
                y += gap
        if number:
            text = [str(int(rng.integers(1, 999)))]
            lines.append(place(text, font, size, margin, width - 2 * margin, height - margin * 0.4, "center"))
        return lines, width, height


def scramble(words: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Words that no language model could foresee: shuffled, capitalised, or letters, digits and marks at random."""
    how = rng.choice(["shuffled", "capitals", "titles", "codes"], p=[0.45, 0.2, 0.1, 0.25])
    if how == "shuffled":
        return [str(word) for word in rng.permutation(np.array(words, dtype=object))]
    if how == "capitals":
        return [word.upper() for word in words]
    if how == "titles":
        return [word[:1].upper() + word[1:] for word in words]
    return [_code(rng) if rng.random() < 0.7 else word for word in words]


def _code(rng: np.random.Generator) -> str:
    """A number, an amount, a date, an identifier or a run of any printable ASCII."""
    digits = lambda n: "".join(str(d) for d in rng.integers(0, 10, n))
    length = int(rng.integers(1, 7))
    letters = "".join(rng.choice(list(string.ascii_letters + "-_./"), length))
    marks = "".join(rng.choice(list(string.printable[:94]), length))
    amount = f"{digits(length)}.{digits(2)}"
    date = f"{digits(4)}-{digits(2)}-{digits(2)}"
    return str(rng.choice([digits(length), amount, date, letters, letters + digits(2), marks, f"({letters})"]))


def example(seed: int, index: int) -> Example:
    """The engine with its default settings."""
    return Documents().example(seed, index)
