"""The documents engine: real prose typeset as pages, paragraphs and lines, with its exact text in reading order.

Source: GOT paper 3.2.2 ("document" data: full pages, and line and paragraph slices). The answer keeps the picture's
line breaks; a blank line never stands in it.
"""

from __future__ import annotations

import string
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import require
from pipelines import fonts, layouts
from pipelines.paper import moved, photograph, plain, to_png
from pipelines.prose import UNSPACED, Languages, Prose, check_languages, left_out, weighted
from pipelines.sheet import Rule, Sheet
from pipelines.typeset import Line, atoms, break_lines, coverage, place, place_down, place_letters, shifted

STYLES = {"normal": 0.76, "italic": 0.12, "bold": 0.12}
KINDS = {"serif": 0.5, "sans": 0.32, "mono": 0.18}


@dataclass(frozen=True)
class Documents:
    """Settings of the engine; `example` is a pure function of them and (seed, index).

    Attributes:
        split: "train" or "held_out": which corpora and font families are used.
        corpus: a folder of .txt, .jsonl or .pdf files instead of the embedded corpora, in the language given.
        languages: (language, weight) pairs; see `corpora.SCRIPTS`.
        pages, paragraphs, lines: weights of the three kinds of picture.
        layouts: those that pages are drawn from; see `layouts.LAYOUTS`.
        page_px: the longer side of a page.
        mixed: share of pictures in another script than the Latin whose paragraphs are partly English.
        max_lines: lines of a slice ("paragraphs" and "lines" kinds).
        line_chars: smallest and largest width of a slice's column, in average characters.
        size_px: smallest and largest font size of a slice.
        least_ems, most_aspect: a slice is at least so many ems wide, and at most so many times wider than high;
            blank paper fills the rest.
        tight: share of slices that are cut close to their text whatever their shape.
        scrambled: share of slices whose text is no prose (shuffled words, codes, numbers, capitals, marks), so that a
            model learns to look rather than to guess.
        effects: share of pictures on which paper, scanner and screen leave their traces.
    """

    split: str = "train"
    corpus: str = ""
    languages: Languages = (("en", 1.0),)
    pages: float = 0.2
    paragraphs: float = 0.4
    lines: float = 0.4
    layouts: tuple[str, ...] = tuple(layouts.LAYOUTS)
    page_px: int = 1024
    mixed: float = 0.15
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
        check_languages("documents", self.languages)
        require(self.max_lines >= 1, f"documents: max_lines is {self.max_lines}; it must be at least 1.")
        require(self.page_px >= 400, f"documents: page_px is {self.page_px}; it must be at least 400.")
        low, high = self.line_chars
        require(1 <= low <= high, f"documents: line_chars {self.line_chars} must be two ascending numbers from 1 on.")
        require(
            0 < self.size_px[0] <= self.size_px[1], f"documents: size_px {self.size_px} must be ascending, above 0."
        )

    @property
    def rejected(self) -> tuple[str, ...]:
        """Why files of the corpus folder are left out."""
        return left_out(self.corpus, self.languages)

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        rng = np.random.default_rng([zlib.crc32(b"documents"), seed, index])
        kinds = ("page", "paragraph", "lines")
        weights = np.array([self.pages, self.paragraphs, self.lines])
        kind = str(rng.choice(kinds, p=weights / weights.sum()))
        language = weighted(rng, self.languages)
        meta: dict[str, Any] = {"engine": "documents", "kind": kind, "language": language}
        rules: list[Rule] = []
        if kind == "page":
            meta["layout"] = layout = layouts.choose(rng, language, self.layouts)
            sheet = self._page(rng, language, layout)
            lines = [line for block in sheet.blocks for line in block.lines]
            font, width, height, rules = sheet.body, sheet.width_px, sheet.height_px, sheet.rules
            meta |= {"blocks": sheet.boxes(), "size_px": round(sheet.size_px, 1)}
        else:
            font = draw_font(rng, self.split, language)
            down = language in UNSPACED and rng.random() < 0.12
            lines, width, height = (self._columns if down else self._slice)(rng, font, kind, language)
        meta |= {"font": font.face.name, "lines": len(lines)}
        ink = coverage(lines, width, height)
        for rule in rules:
            rule.draw(ink)
        screen = font.face.kind == "mono" and rng.random() < 0.5
        if rng.random() < self.effects:
            pixels, meta["effects"] = photograph(ink, rng, screen)
        else:
            pixels = plain(ink)
        if "blocks" in meta:
            for block in meta["blocks"]:
                block["boxes"] = moved(block["boxes"], ink.shape, pixels.shape, meta.get("effects", {}))
        letters = place_letters(lines, width, height, meta.get("effects", {}).get("skew_degrees", 0.0))
        return Example((to_png(pixels),), prompts.PLAIN, "\n".join(line.text for line in lines), meta, letters)

    def _paragraphs(self, rng: np.random.Generator, font: fonts.Typeface, language: str) -> Iterator[list[str]]:
        return Prose(self.split, self.corpus, self.mixed).paragraphs(rng, font, language)

    def _page(self, rng: np.random.Generator, language: str, layout: str) -> Sheet:
        """A whole page in the layout."""
        long = self.page_px
        width, height = round(long * rng.uniform(0.66, 0.8)), long
        chars = float(rng.uniform(48, 78))  # of an average width, in a page's width
        kinds: tuple[str, ...] = ("serif", "sans")
        if layout == "slide":
            width, height, chars = long, round(long * rng.uniform(0.56, 0.75)), float(rng.uniform(40, 64))
        elif layout == "receipt":
            width, chars, kinds = round(long * rng.uniform(0.36, 0.48)), float(rng.uniform(24, 36)), ("mono", "sans")
        elif layout == "listing":
            chars, kinds = float(rng.uniform(70, 100)), ("mono",)
        elif layout == "newspaper":
            chars = float(rng.uniform(85, 105))
        body = draw_font(rng, self.split, language, kinds, "normal")
        head = body if rng.random() < 0.4 else draw_font(rng, self.split, language, kinds, "bold")
        average = 0.62 if language in UNSPACED else body.width(string.ascii_lowercase) / 26
        size = max(width / chars / average, 9.0 if language not in (*UNSPACED, "ko") else 12.0)
        if layout == "listing":
            prose = lambda font: Prose(self.split).paragraphs(rng, font, "code")
        else:
            prose = lambda font: self._paragraphs(rng, font, language)
        spaced = language not in UNSPACED
        leading = size * float(rng.uniform(1.18, 1.6 if spaced else 1.8))
        sheet = Sheet(rng, width, height, body, head, prose, spaced, language, size, leading)
        layouts.LAYOUTS[layout](sheet)
        return sheet

    def _columns(
        self, rng: np.random.Generator, font: fonts.Typeface, kind: str, language: str
    ) -> tuple[list[Line], int, int]:
        """A few vertical lines, from right to left."""
        size = float(np.exp(rng.uniform(*np.log(self.size_px))))
        step, deep = size * rng.uniform(1.25, 1.9), size * rng.uniform(6, 20)
        count = int(rng.integers(1, self.max_lines + 1))
        words = next(self._paragraphs(rng, font, language))
        if kind == "lines":
            words = words[int(rng.integers(max(1, len(words) - 4))) :]
        broken = break_lines(words, font, deep / size, spaced=False)[:count]
        left, right, top, bottom = size * rng.uniform(0.15, 1.4, 4)
        across = (len(broken) - 1) * step
        lines = [place_down(line, font, size, left + across - i * step, top) for i, line in enumerate(broken)]
        height = max(line.box_px[3] for line in lines) + bottom
        return lines, round(left + across + size + right), round(height)

    def _slice(
        self, rng: np.random.Generator, font: fonts.Typeface, kind: str, language: str
    ) -> tuple[list[Line], int, int]:
        """A few lines on a tight ground. "paragraph" starts where a paragraph starts, "lines" anywhere."""
        low, high = self.line_chars
        chars = rng.uniform(low, high)
        count = int(rng.integers(1, self.max_lines + 1))
        spaced = language not in UNSPACED
        column_ems = chars * font.width(string.ascii_lowercase) / 26 if spaced else max(2.0, chars / 2)
        indent_ems = float(rng.choice([0.0, rng.uniform(0.5, 2.5)])) if kind == "paragraph" else 0.0
        indent_ems = min(indent_ems, column_ems / 4)
        broken: list[tuple[list[str], bool, bool]] = []  # words, first of its paragraph, last of its paragraph
        scrambled = rng.random() < self.scrambled
        for words in self._paragraphs(rng, font, language):
            if kind == "lines" and not broken:
                words = words[int(rng.integers(max(1, len(words) - 4))) :]
            if scrambled:
                joined = (" " if spaced else "").join(scramble(words, rng))
                words = (str.split if spaced else atoms)(font.shown(joined))  # capitals may be missing: µ, ÿ
                if not words:
                    continue
            new = break_lines(words, font, column_ems, indent_ems, spaced)
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
                spaced,
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


def draw_font(
    rng: np.random.Generator, split: str, language: str, kinds: Sequence[str] = tuple(KINDS), style: str = ""
) -> fonts.Typeface:
    """A font of a split for a language: kinds and styles by their shares among those that there are."""
    kind, style = _cut(rng, fonts.cuts(split, language), kinds, style)
    found = fonts.choose(split, kind, style, language)
    return fonts.typeface(found[rng.integers(len(found))])


def _cut(
    rng: np.random.Generator, found: Sequence[tuple[str, str]], kinds: Sequence[str], style: str
) -> tuple[str, str]:
    """A (kind, style) of those found: by their shares among the kinds asked for, any other kind failing these."""
    found = [cut for cut in found if cut[0] in KINDS]
    found = [cut for cut in found if cut[0] in kinds] or found
    found = [cut for cut in found if cut[1] == style] or found
    kind = _drawn(rng, KINDS, {kind for kind, _ in found})
    return kind, _drawn(rng, STYLES, {style for k, style in found if k == kind})


def _drawn(rng: np.random.Generator, shares: dict[str, float], among: set[str]) -> str:
    names = [name for name in shares if name in among]
    weights = np.array([shares[name] for name in names])
    return str(rng.choice(names, p=weights / weights.sum()))


def scramble(words: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Words that no language model could foresee: shuffled, capitalised, marked, echoed, or signs at random."""
    how = rng.choice(
        ["shuffled", "capitals", "titles", "codes", "marked", "echoes"], p=[0.15, 0.1, 0.1, 0.15, 0.25, 0.25]
    )
    if how == "echoes":
        return _echoes(words, rng)
    if how == "shuffled":
        return [str(word) for word in rng.permutation(np.array(words, dtype=object))]
    if how == "capitals":
        return [word.upper() for word in words]
    if how == "titles":
        return [word[:1].upper() + word[1:] for word in words]
    if how == "codes":
        return [_code(rng) if rng.random() < 0.7 else word for word in words]
    return [_marked(word, rng) if rng.random() < 0.5 else word for word in words]


def _echoes(words: Sequence[str], rng: np.random.Generator) -> list[str]:
    """A few words, and phrases of them, again and again: what was just read does not tell where it stands."""
    few = [str(words[int(i)]) for i in rng.integers(0, len(words), int(rng.integers(2, 8)))]
    echoed: list[str] = []
    while len(echoed) < len(words):
        first = int(rng.integers(len(few)))
        echoed += few[first : first + int(rng.integers(1, len(few) + 1))]
        if rng.random() < 0.3:
            echoed.append(str(words[int(rng.integers(len(words)))]))
    return echoed[: len(words)]


MARKS = (
    *('"{}"', "'{}'", "“{}”", "‘{}’", "({})", "[{}]", "{{{}}}", "<{}>", "`{}`", "*{}*", "* {}", "+ {}", "- {}", "• {}"),
    *("{}:", "{};", "{}!", "{}?", "{}...", "{}(1)", "{}[2]", "{},", "{}.", "{}=", "{}%", "{}|", "#{}", "@{}", "$ {}"),
    *("${}", "~{}", "^{}", "&{}", "/{}", "/usr/{}", "{}/", "\\{}", "--{}", "-{}", "{}_", "_{}", "{}.txt", "§ {}"),
)
JOINTS = (*"-_/.:=+*@|~&#,", "::", "->", "://", " + ", " = ", " / ", " & ", " > ", " < ", " - ", " – ", " — ")


def _marked(word: str, rng: np.random.Generator) -> str:
    """A word of technical prose: in quotes or brackets, an option, a path, an item of a list, joined to a number."""
    word = str(rng.choice([word, word.capitalize(), word.upper()], p=[0.7, 0.2, 0.1]))
    if rng.random() < 0.3:
        other = word[::-1] if rng.random() < 0.2 else str(rng.integers(0, 10 ** rng.integers(1, 5)))
        joint = str(rng.choice(JOINTS))
        word = word + joint + other if rng.random() < 0.5 else other + joint + word
    return str(rng.choice(MARKS)).format(word) if rng.random() < 0.75 else word


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
