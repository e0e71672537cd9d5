r"""The formulas engine: formulas by themselves and in lines of prose, drawn by mathpix-markdown-it's MathJax.

Source: GOT paper 3.3.1 (fragments of arXiv's LaTeX in Mathpix's form -> mathpix-markdown-it -> SVG -> PNG). Formulas
come from a grammar, or from any LaTeX; prose from the corpora. The answer is Mathpix markdown: \( ... \) in a line,
\[ ... \] by itself.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import require
from pipelines import fonts
from pipelines.backends import svg
from pipelines.backends.node import node
from pipelines.documents import draw_font
from pipelines.formula_grammar import Grammar
from pipelines.paper import photograph, plain, to_png
from pipelines.prose import HALF, UNSPACED, Languages, Prose, check_languages, weighted
from pipelines.tex import read_formulas
from pipelines.tries import Unusable, first_usable
from pipelines.typeset import Line, coverage, place

MATH = re.compile(r"\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
TAG = re.compile(r"\s*\\tag\{([^{}]*)\}")
CHINESE = ("sans", "serif", "hand")  # the first kind that a split has stands in formulas
EX = 0.43  # x-height of text fonts, in their size


@dataclass(frozen=True)
class Formulas:
    """Settings of the engine; `example` is a pure function of them and (seed, index).

    Attributes:
        split: "train" or "held_out", of prose and fonts.
        corpus: a file with a formula a line, a .tex file, or a folder of them; nothing: the grammar's.
        prose: share of pictures whose formulas stand in prose.
        languages: (language, weight) pairs of the prose.
        size_px: smallest and largest size of the text.
        most_px: a formula wider than this is left out.
        effects: share of pictures that look printed and scanned.
    """

    split: str = "train"
    corpus: str = ""
    prose: float = 0.5
    languages: Languages = HALF
    size_px: tuple[float, float] = (14.0, 32.0)
    most_px: int = 1400
    effects: float = 0.6

    tools: ClassVar[tuple[str, ...]] = ("node",)

    def __post_init__(self) -> None:
        check_languages("formulas", self.languages)
        low, high = self.size_px
        require(0 < low <= high, f"formulas: size_px {self.size_px} must be ascending, above 0.")
        require(0 <= self.prose <= 1, f"formulas: prose is {self.prose}; it must be a share from 0 to 1.")

    @property
    def rejected(self) -> tuple[str, ...]:
        """Why formulas of the corpus are left out."""
        return read_formulas(self.corpus)[1] if self.corpus else ()

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        return first_usable("formulas", seed, index, self._example)

    def _example(self, rng: np.random.Generator) -> Example:
        language = weighted(rng, self.languages)
        font = draw_font(rng, self.split, language, ("serif", "sans"), "normal")
        kind = "prose" if rng.random() < self.prose else "display"
        grammar = Grammar(rng, language)
        text = self._prose(rng, grammar, font, language) if kind == "prose" else self._displays(rng, grammar)
        size = float(np.exp(rng.uniform(*np.log(self.size_px))))
        style = {
            "font": font.face.name,
            "size_px": size,
            "width_px": round(size * rng.uniform(18, 42)) if kind == "prose" else 0,
            "leading": float(rng.uniform(1.25, 1.7)),
            "indent": float(rng.choice([0.0, 2.0])) if kind == "prose" else 0.0,
            "justify": bool(rng.random() < 0.6),
            "margins": [float(v) for v in rng.uniform(0.4, 2.0, 4)],
            "spaced": language not in UNSPACED,
        }
        ink = draw(text, style, self.most_px)
        meta: dict[str, Any] = {"engine": "formulas", "kind": kind, "language": language, "style": style}
        meta["ink"] = zlib.crc32(ink.tobytes())
        if rng.random() < self.effects:
            pixels, meta["effects"] = photograph(ink, rng)
        else:
            pixels = plain(ink)
        return Example((to_png(pixels),), prompts.FORMAT, text, meta)

    def _formula(self, rng: np.random.Generator, grammar: Grammar, display: bool) -> str:
        if self.corpus:
            found = read_formulas(self.corpus)[0]
            same = [formula for formula, by_itself in found if by_itself == display]
            pool = same or [formula for formula, _ in found]
            return pool[int(rng.integers(len(pool)))]
        return grammar.display() if display else grammar.inline()

    def _displays(self, rng: np.random.Generator, grammar: Grammar) -> str:
        count = int(rng.choice([1, 2, 3, 4], p=[0.7, 0.17, 0.08, 0.05]))
        lines = []
        for _ in range(count):
            formula = self._formula(rng, grammar, True)
            if rng.random() < 0.12:
                formula += rf" \tag{{{self._tag(rng)}}}"
            lines.append(rf"\[ {formula} \]")
        return "\n".join(lines)

    def _tag(self, rng: np.random.Generator) -> str:
        number = int(rng.integers(1, 60))
        return str(rng.choice([str(number), f"{rng.integers(1, 9)}.{number}", f"A{number % 9 + 1}", f"{number}a"]))

    def _prose(self, rng: np.random.Generator, grammar: Grammar, font: fonts.Typeface, language: str) -> str:
        """A paragraph or two: words, formulas between them, maybe a display after a sentence."""
        spaced = language not in UNSPACED
        paragraphs = Prose(self.split).paragraphs(rng, font, language)
        blocks: list[str] = []
        for _ in range(int(rng.integers(1, 3))):
            words = [word for word in next(paragraphs) if not set(word) & set("\\$*_#`<>|[]")]
            words = words[: int(rng.integers(8, 60)) * (1 if spaced else 2)]
            if not words:
                continue
            every = rng.uniform(0.06, 0.3)
            parts: list[str] = []
            for word in words:
                parts.append(word)
                if rng.random() < every:
                    mark = ""
                    if word[-1] in ".,;:，。；：":  # the formula ends the clause in the word's place
                        parts[-1], mark = word[:-1], word[-1]
                    parts.append(rf"\( {self._formula(rng, grammar, False)} \){mark}")
            joined = (" " if spaced else "").join(part for part in parts if part).strip()
            if joined:
                blocks.append(joined)
            if rng.random() < 0.45:
                blocks.append(self._displays(rng, grammar).split("\n")[0])
        return "\n".join(blocks) if MATH.search("\n".join(blocks)) else self._displays(rng, grammar)


def render(formulas: Sequence[tuple[str, bool]], ex_px: float) -> list[svg.Drawing]:
    """Formulas as MathJax draws them. Raises Unusable for what it refuses."""
    drawings = []
    answers = node().call("formulas", formulas=list(formulas), ex=ex_px)
    for (formula, _), made in zip(formulas, answers, strict=True):
        if "error" in made:
            raise Unusable(f"the formula {formula[:80]!r} is refused: {made['error']}")
        drawings.append(svg.parse(made["svg"], ex_px) if "svg" in made else svg.glyphs(made))
    return drawings


def draw(text: str, style: dict[str, Any], most_px: int = 1400) -> UInt8[np.ndarray, "H W"]:
    """The clean picture of an answer: the answer and its style alone make it.

    Raises:
        Unusable: for a formula that MathJax refuses, or that is too wide.
    """
    font = fonts.typeface(next(face for face in fonts.faces() if face.name == style["font"]))
    size = style["size_px"]
    top, right, bottom, left = (margin * size for margin in style["margins"])
    found = [(m[1] or m[2], m[2] is not None) for m in MATH.finditer(text)]
    tags = [TAG.search(formula) for formula, _ in found]
    bare = [(TAG.sub("", formula).strip(), display) for formula, display in found]
    drawings = render(bare, EX * size)
    aside = max((font.width(font.shown(f"({tag[1]})")) + 1 for tag in tags if tag), default=0.0) * size
    widest = max((d.width for d in drawings), default=0.0) + 2 * aside
    width = max(style["width_px"], widest)
    if width > most_px:
        raise Unusable(f"a formula of {text[:60]!r} is {width:.0f} px wide, over {most_px}.")
    pictures: list[tuple[svg.Drawing, float, float, float]] = []
    lines: list[Line] = []
    y, number, after_text = top, 0, False
    for block in _blocks(text):
        if block.startswith("\\["):
            drawing = drawings[number]
            y += 0.35 * size if after_text else 0.0
            pictures.append((drawing, left + (width - drawing.width) / 2, y, 1.0))
            if tag := tags[number]:
                words = [font.shown(f"({tag[1]})")]
                lines.append(place(words, font, size, left, width, y + drawing.base, "right"))
            y += drawing.height + 0.55 * size
            number, after_text = number + 1, False
            continue
        count = len(MATH.findall(block))
        rows = _rows(_items(block, drawings[number : number + count], style["spaced"]), font, size, width, style)
        number += count
        for i, row in enumerate(rows):
            y = _set(row, i == 0, i == len(rows) - 1, font, size, (left, y, width), style, lines, pictures)
        after_text = True
    if not after_text:
        y -= 0.55 * size
    shape = round(left + width + right), round(y + bottom)
    ink = svg.cover(pictures, *shape, _fallback(font))
    return np.maximum(coverage(lines, *shape), ink) if lines else ink


def _blocks(text: str) -> list[str]:
    return [block for block in text.split("\n") if block]


def _fallback(font: fonts.Typeface) -> list[fonts.Typeface]:
    r"""Fonts for \text{...}: the prose's, and one that has Chinese."""
    kind = min((kind for kind, style in fonts.cuts(font.face.split, "zh") if style == "normal"), key=CHINESE.index)
    chinese = fonts.choose(font.face.split, kind, "normal", "zh")
    return [font, fonts.typeface(chinese[0])]


Item = tuple[list[str | svg.Drawing], bool]  # what stays together, and whether a space stands before it


def _items(block: str, drawings: Sequence[svg.Drawing], spaced: bool) -> Iterator[Item]:
    """The words and formulas of a block; punctuation stays with its formula."""
    from pipelines.typeset import atoms

    pieces: list[str | svg.Drawing] = []
    at = 0
    for found, drawing in zip(MATH.finditer(block), drawings, strict=True):
        pieces += [block[at : found.start()], drawing]
        at = found.end()
    pieces.append(block[at:])
    glued: list[str | svg.Drawing] = []
    before = False
    for piece in pieces:
        if not isinstance(piece, str):
            glued.append(piece)
            continue
        words = re.findall(r"\S+", piece) if spaced else atoms(piece)
        if not words or (spaced and piece[0].isspace()):
            if glued:
                yield glued, before
                glued = []
            before = spaced
        for i, word in enumerate(words):
            if glued and (i > 0 or (not spaced and word[0] not in "，。；：、,.;:")):
                yield glued, before
                glued, before = [], spaced
            glued.append(word if spaced else word.lstrip() if not glued else word)
        if spaced and piece and piece[-1].isspace() and glued:
            yield glued, before
            glued, before = [], True
        elif not spaced and glued:
            yield glued, False
            glued = []
    if glued:
        yield glued, before


def _advance(piece: str | svg.Drawing, font: fonts.Typeface, size: float) -> float:
    return font.width(font.shown(piece)) * size if isinstance(piece, str) else piece.width


def _rows(
    items: Iterator[Item], font: fonts.Typeface, size: float, width: float, style: dict[str, Any]
) -> list[list[Item]]:
    """Lines of items, filled greedily."""
    space = font.width(" ") * size if style["spaced"] else 0.0
    rows: list[list[Item]] = [[]]
    used = style["indent"] * size
    for pieces, before in items:
        advance = sum(_advance(piece, font, size) for piece in pieces)
        gap = space if before and rows[-1] else 0.0
        if rows[-1] and used + gap + advance > width:
            rows.append([])
            used, gap = 0.0, 0.0
        if advance > width:
            raise Unusable("a word and its formula are wider than the column.")
        rows[-1].append((pieces, before))
        used += gap + advance
    return [row for row in rows if row]


def _set(
    row: list[Item],
    first: bool,
    last: bool,
    font: fonts.Typeface,
    size: float,
    place_px: tuple[float, float, float],
    style: dict[str, Any],
    lines: list[Line],
    pictures: list[tuple[svg.Drawing, float, float, float]],
) -> float:
    """Puts a row's words and formulas on a baseline and returns where the next row begins."""
    left, y, width = place_px
    leading = style["leading"] * size
    drawn = [piece for pieces, _ in row for piece in pieces if isinstance(piece, svg.Drawing)]
    above = max([0.9 * size, *(d.base + 0.1 * size for d in drawn)])
    below = max([leading - 0.9 * size, *(d.height - d.base + 0.3 * size for d in drawn)])
    baseline = y + above
    space = font.width(" ") * size if style["spaced"] else 0.0
    x = left + (style["indent"] * size if first else 0.0)
    gaps = sum(before for _, before in row[1:])
    natural = sum(_advance(p, font, size) for pieces, _ in row for p in pieces) + gaps * space
    slack = left + width - x - natural
    if style["justify"] and not last and gaps and 0 < slack / gaps < 2.5 * space:
        space += slack / gaps
    for i, (pieces, before) in enumerate(row):
        x += space if before and i else 0.0
        for piece in pieces:
            if isinstance(piece, svg.Drawing):
                pictures.append((piece, x, baseline - piece.base, 1.0))
            elif shown := font.shown(piece):
                lines.append(Line(shown, (shown,), (x,), (baseline,), size, font.face))
            x += _advance(piece, font, size)
    return baseline + below


def proof(example: Example) -> str:
    """What is wrong with an example: its answer alone must give its picture again. Nothing if all is well."""
    ink = draw(example.text, example.meta["style"], 10**6)
    return "" if zlib.crc32(ink.tobytes()) == example.meta["ink"] else "the answer's picture is another"
