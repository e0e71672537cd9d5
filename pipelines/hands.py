"""The handwriting engine: lines of a hand, 6 to 8 on a blank or ruled page.

Source: GOT paper 3.2.2 (CASIA-HWDB2, IAM and NorHand-v3 lines, grouped and pasted on blank pages). With a `folder` of
one of these, its lines are pasted; without, lines are written in fonts that look like hands, each glyph with its own
jitter.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import require
from pipelines import fonts, handsets
from pipelines.paper import TINTS, to_png, wobbled
from pipelines.prose import HALF, UNSPACED, Languages, Prose, check_languages, left_out, weighted
from pipelines.typeset import break_lines, draw_runs

WRITTEN = ("en", "de", "fr", "es", "ru", "zh")  # languages with hands in both sets
RULES = ((150, 190, 230), (190, 190, 190), (230, 170, 170))
INKS = ((25, 25, 30), (20, 35, 110), (30, 50, 150), (70, 20, 25), (60, 60, 65), (15, 70, 50))


@dataclass(frozen=True)
class Hands:
    """Settings of the engine; `example` is a pure function of them and (seed, index).

    Attributes:
        split: "train" or "held_out": which corpora and hands are used.
        corpus: a folder of .txt, .jsonl or .pdf files instead of the embedded corpora, in the language given.
        languages: (language, weight) pairs, for written text.
        folder, format: a data set of real lines ("casia", "iam" or "page", see `handsets`) instead of written ones.
        lines: the least and most lines of a page.
        single: share of examples that are one line cut out.
        page_px: width of a page.
    """

    split: str = "train"
    corpus: str = ""
    languages: Languages = HALF
    folder: str = ""
    format: str = ""
    lines: tuple[int, int] = (6, 8)
    single: float = 0.15
    page_px: int = 800

    def __post_init__(self) -> None:
        low, high = self.lines
        require(1 <= low <= high, f"hands: lines {self.lines} must be two ascending numbers from 1 on.")
        require(self.page_px >= 200, f"hands: page_px is {self.page_px}; it must be at least 200.")
        require(bool(self.folder) == bool(self.format), "hands: give folder and format together, or neither.")
        check_languages("hands", self.languages, WRITTEN)
        if self.format:
            known = handsets.READERS
            require(self.format in known, f"hands: format '{self.format}' is unknown; choose {', '.join(known)}.")

    @property
    def rejected(self) -> tuple[str, ...]:
        """Why files of the corpus folder are left out."""
        return left_out(self.corpus, self.languages)

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        rng = np.random.default_rng([zlib.crc32(b"hands"), seed, index])
        count = 1 if rng.random() < self.single else int(rng.integers(self.lines[0], self.lines[1] + 1))
        meta: dict[str, Any] = {"engine": "hands", "kind": "line" if count == 1 else "page"}
        if self.folder:
            inks, texts = self._pasted(rng, count)
            meta["set"] = self.format
        else:
            inks, texts, about = self._written(rng, count)
            meta |= about
        meta["lines"] = len(texts)
        pixels = _page(inks, rng, self.page_px, bare=count == 1)
        return Example((to_png(pixels),), prompts.PLAIN, "\n".join(texts), meta)

    def _pasted(self, rng: np.random.Generator, count: int) -> tuple[list[UInt8[np.ndarray, "h w"]], list[str]]:
        """Consecutive lines of one writer, as far as the data set goes."""
        found = handsets.lines(self.folder, self.format)
        first = int(rng.integers(len(found)))
        chosen = [found[(first + i) % len(found)] for i in range(count)]
        height = self.page_px * 0.075
        inks = [_scaled(handsets.ink(line), height * rng.uniform(0.9, 1.1)) for line in chosen]
        return inks, [line.text for line in chosen]

    def _written(
        self, rng: np.random.Generator, count: int
    ) -> tuple[list[UInt8[np.ndarray, "h w"]], list[str], dict[str, Any]]:
        """Lines in a hand, from running text."""
        language = weighted(rng, self.languages)
        found = fonts.choose(self.split, "hand", "normal", language)
        font = fonts.typeface(found[rng.integers(len(found))])
        size = self.page_px * float(rng.uniform(0.038, 0.055))
        ems = self.page_px * 0.84 / size
        prose = Prose(self.split, self.corpus).paragraphs(rng, font, language)
        broken: list[list[str]] = []
        spaced = language not in UNSPACED
        while len(broken) < count:
            broken += break_lines(next(prose), font, ems, spaced=spaced)
        texts = [(" " if spaced else "").join(words).strip() for words in broken[:count]]
        manner = _Manner.draw(rng)
        inks = [manner.write(text, font, size, rng) for text in texts]
        return inks, texts, {"language": language, "font": font.face.name}


@dataclass(frozen=True)
class _Manner:
    """How one hand differs from its font: what all of a page's glyphs share, and how far each strays."""

    slant: float
    jitter: float  # of a glyph, in ems
    turn: float  # of a glyph, in radians
    grow: float  # of a glyph's size
    drift: float  # of a line's baseline, in ems
    wobble_px: float  # of the strokes
    stroke: int  # -1 thinner, 1 thicker

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Manner:
        return cls(
            slant=float(rng.normal(0, 0.12)),
            jitter=float(rng.uniform(0.005, 0.04)),
            turn=float(rng.uniform(0.0, 0.06)),
            grow=float(rng.uniform(0.0, 0.07)),
            drift=float(rng.uniform(0.0, 0.35)),
            wobble_px=float(rng.uniform(0.0, 1.3)),
            stroke=int(rng.choice([0, 0, 1])),
        )

    def write(self, text: str, font: fonts.Typeface, size: float, rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
        """One line as a coverage map."""
        advances = np.array([font.advances[ch] for ch in text]) * size
        x = size * 0.6 + np.concatenate([[0.0], np.cumsum(advances)[:-1]])
        width, height = int(x[-1] + advances[-1] + 1.4 * size), int(2.4 * size)
        phase, waves = rng.uniform(0, 6.3), rng.uniform(0.2, 1.3)
        y = 1.5 * size + self.drift * size * 0.5 * np.sin(phase + waves * 6.3 * x / width)
        x = x + rng.normal(0, self.jitter * size, len(text))
        y = y + rng.normal(0, self.jitter * size, len(text))
        turn = rng.normal(0, 1, len(text)) * self.turn
        grown = size * (1 + rng.normal(0, 1, len(text)).clip(-2, 2) * self.grow)
        cos, sin = np.cos(turn) * grown, np.sin(turn) * grown
        runs = [
            (ch, (c, -s, s + self.slant * c, c), float(a), float(b))
            for ch, c, s, a, b in zip(text, cos.tolist(), sin.tolist(), x, y, strict=True)
            if ch != " "
        ]
        ink = draw_runs(font, runs, width, height)
        if self.stroke:
            ink = cv2.dilate(ink, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
        return wobbled(ink, self.wobble_px, 12, rng) if self.wobble_px > 0.3 else ink


def _scaled(ink: UInt8[np.ndarray, "h w"], height: float) -> UInt8[np.ndarray, "h w"]:
    scale = height / ink.shape[0]
    return cv2.resize(ink, (max(1, round(ink.shape[1] * scale)), max(1, round(height))), interpolation=cv2.INTER_AREA)


def _page(
    inks: list[UInt8[np.ndarray, "h w"]], rng: np.random.Generator, width: int, bare: bool
) -> UInt8[np.ndarray, "H W *C"]:
    """The lines, one under another, on paper that may be tinted, ruled or squared."""
    tallest = max(ink.shape[0] for ink in inks)
    step = tallest * rng.uniform(0.62, 0.85) if len(inks) > 1 else tallest
    margin = 6 if bare else width * rng.uniform(0.03, 0.08)
    widest = max(ink.shape[1] for ink in inks)
    width = int(max(widest + 2 * margin, 0 if bare else width))
    foot = 0.0 if bare else float(rng.choice([0.1, rng.uniform(0.2, 2)])) * width * 0.5
    height = int(2 * margin + step * (len(inks) - 1) + tallest + foot)
    tint = np.array([255.0, 255, 255]) * rng.uniform(0.88, 1)
    if rng.random() < 0.25:
        tint = np.array(TINTS[rng.integers(len(TINTS))]) * rng.uniform(0.92, 1)
    strokes = np.zeros((height, width), np.uint8)
    for number, ink in enumerate(inks):
        top = int(margin + number * step)
        left = int(margin + (0 if bare else abs(rng.normal(0, 0.01)) * width))
        part = strokes[top : top + ink.shape[0], left : left + ink.shape[1]]
        cut = ink[: part.shape[0], : part.shape[1]]
        pressure = cv2.resize(rng.uniform(0.75, 1.0, (1, 9)).astype(np.float32), (cut.shape[1], 1))
        np.maximum(part, (cut * pressure).astype(np.uint8), out=part)
    grey = rng.random() < 0.4  # as a scanner set to grey
    shown = lambda colour: np.array([colour @ (0.299, 0.587, 0.114)] if grey else colour)
    pen, share = shown(np.array(INKS[rng.integers(len(INKS))])), np.arange(256)[:, None] / 255
    table = (shown(tint.clip(0, 255)) * (1 - share) + pen * share).astype(np.uint8)
    page = cv2.LUT(strokes if grey else cv2.merge([strokes] * 3), table[None])
    if rng.random() < 0.5:
        colour = shown(np.array(RULES[rng.integers(len(RULES))]))
        _rule(page, strokes, (colour * (1 - share) + pen * share).astype(np.uint8), rng, margin + tallest * 0.68, step)
    if rng.random() < 0.3:
        noise = rng.standard_normal(min(height * width, 200_000), dtype=np.float32) * np.float32(rng.uniform(1, 7))
        noise = np.resize(noise.astype(np.int16), (height, width))
        page = cv2.add(page, noise if grey else cv2.merge([noise] * 3), dtype=cv2.CV_8U)
    if rng.random() < 0.25:
        page = cv2.GaussianBlur(page, (0, 0), rng.uniform(0.3, 0.9))
    return page


def _rule(
    page: UInt8[np.ndarray, "H W *C"],
    strokes: UInt8[np.ndarray, "H W"],
    table: UInt8[np.ndarray, "256 C"],
    rng: np.random.Generator,
    first_px: float,
    step_px: float,
) -> None:
    """Draws lines, or squares, under the strokes, in place; the writing need not keep to them."""
    table = table[:, 0] if page.ndim == 2 else table
    squared = rng.random() < 0.3
    step = step_px if not squared else step_px / float(rng.choice([1, 2]))
    for y in np.arange(first_px % step, page.shape[0], step).astype(int):
        page[y] = table[strokes[y]]
    across = np.arange(first_px % step, page.shape[1], step).astype(int) if squared else []
    margin = [int(page.shape[1] * 0.05)] if not squared and rng.random() < 0.3 else []
    for x in (*across, *margin):
        page[:, x] = table[strokes[:, x]]
