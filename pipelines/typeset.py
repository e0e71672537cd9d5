"""Typesetting with MuPDF's glyphs: words -> lines -> positions -> a coverage map (how much ink each pixel holds).

Latin, Cyrillic and Korean words stand apart; Chinese and Japanese are set from atoms (`atoms`): characters with the
punctuation that may not leave them, and foreign words that carry the space before them.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import UInt8

from got_jax.data.example import Letters
from pipelines.corpora import HAN, HANGUL, KANA
from pipelines.fonts import Face, Typeface, typeface

OPENING, CLOSING = "“‘（《「『【〈〔(\\[", "”’）》」』】〉〕)\\]，。、；：？！…,.;:?!％%"
ATOM = re.compile(
    f" ?[{OPENING}]*(?:[{HAN}{KANA}{HANGUL}\u3005\u30fc]|[^ {HAN}{KANA}{HANGUL}{OPENING}{CLOSING}]+|(?<=.)[{CLOSING}])"
    f"[{CLOSING}]*| ?[{OPENING}{CLOSING}]+"
)
CORNERED = frozenset("，。、")  # set vertically, they move to the upper right corner of their cell
TURNED = frozenset("（）《》「」『』【】〈〉〔〕—…：；-ー()[]–~～")  # and these lie down


@dataclass(frozen=True)
class Line:
    """A set line: the runs of characters that are drawn, where each starts on its baseline, in pixels.

    A `vertical` line goes down; the place of a run is then the top left corner of its first cell.
    """

    text: str
    words: tuple[str, ...]
    x_px: tuple[float, ...]
    y_px: tuple[float, ...]
    size_px: float
    face: Face
    vertical: bool = False

    @property
    def baseline_px(self) -> float:
        return self.y_px[0]

    @property
    def box_px(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom: from the letters' tops to below the baseline."""
        font, size = typeface(self.face), self.size_px
        if self.vertical:
            return self.x_px[0], self.y_px[0], self.x_px[0] + size, self.y_px[-1] + _depth(self.words[-1], font) * size
        right = self.x_px[-1] + font.width(self.words[-1]) * size
        return self.x_px[0], self.y_px[0] - 0.88 * size, right, self.y_px[0] + 0.24 * size


def shifted(line: Line, x_px: float, y_px: float) -> Line:
    """The line moved right and down."""
    return replace(line, x_px=tuple(x + x_px for x in line.x_px), y_px=tuple(y + y_px for y in line.y_px))


def atoms(text: str) -> list[str]:
    """What may stand on a line by itself in Chinese or Japanese; joined, they are the text."""
    return ATOM.findall(text)


def break_lines(
    words: Iterable[str], font: Typeface, width_ems: float, indent_ems: float = 0.0, spaced: bool = True
) -> list[list[str]]:
    """Greedy line breaking; a word wider than the column is cut where the column ends.

    Args:
        spaced: words are parted by spaces; otherwise they are `atoms`.
    """
    space = font.width(" ") if spaced else 0.0
    lines: list[list[str]] = [[]]
    used = indent_ems
    for word in words:
        for piece in _pieces(word, font, width_ems):
            advance = font.width(piece)
            if lines[-1] and used + advance > width_ems:
                lines.append([])
                used = 0.0
            if not lines[-1] and not spaced:
                piece = piece.lstrip()
                advance = font.width(piece)
                if not piece:
                    continue
            lines[-1].append(piece)
            used += advance + space
    return [line for line in lines if line]


def _pieces(word: str, font: Typeface, width_ems: float) -> list[str]:
    if font.width(word) <= width_ems:
        return [word]
    pieces, start = [], 0
    for end in range(1, len(word) + 1):
        if end - start > 1 and font.width(word[start:end]) > width_ems:
            pieces.append(word[start : end - 1])
            start = end - 1
    return [*pieces, word[start:]]


def place(
    words: Sequence[str],
    font: Typeface,
    size_px: float,
    left_px: float,
    width_px: float,
    baseline_px: float,
    align: str,
    indent_px: float = 0.0,
    spaced: bool = True,
) -> Line:
    """Puts a line's words at their x; `align` is "left", "right", "center" or "justify" (left if gaps would gape)."""
    advances = [font.width(word) * size_px for word in words]
    gap = natural = font.width(" ") * size_px if spaced else 0.0
    slack = width_px - indent_px - sum(advances) - gap * (len(words) - 1)
    start = left_px + indent_px
    widest = 2.5 * gap if spaced else 0.35 * size_px
    if align == "justify" and len(words) > 1 and 0 < slack / (len(words) - 1) < widest:
        gap += slack / (len(words) - 1)
    elif align in ("right", "center"):
        start += slack if align == "right" else slack / 2
    text = (" " if spaced else "").join(words)
    if gap == natural:  # one run is drawn faster than many
        words, advances = (text,), advances[:1]
    xs = start + np.concatenate([[0.0], np.cumsum(np.add(advances, gap))[:-1]])
    ys = (baseline_px,) * len(words)
    return Line(text, tuple(words), tuple(float(x) for x in xs), ys, size_px, font.face)


def place_down(words: Sequence[str], font: Typeface, size_px: float, left_px: float, top_px: float) -> Line:
    """Sets `atoms` downwards: a cell for each Chinese or Japanese character, other words turned on their side."""
    text = "".join(words).strip()
    runs, ys, y = [], [], top_px
    for run in re.findall(
        f"[{HAN}{KANA}\u3000-\u303f\uff00-\uffef“”‘’—…]|[^{HAN}{KANA}\u3000-\u303f\uff00-\uffef“”‘’—…]+", text
    ):
        if run.strip():
            runs.append(run)
            ys.append(y)
        y += _depth(run, font) * size_px
    return Line(text, tuple(runs), (left_px,) * len(runs), tuple(ys), size_px, font.face, vertical=True)


def _depth(run: str, font: Typeface) -> float:
    """Ems that a run of a vertical line takes: a cell, or its width when it lies down."""
    return 1.0 if len(run) == 1 else font.width(run)


def place_letters(lines: Iterable[Line], width_px: int, height_px: int, skew_degrees: float = 0.0) -> Letters:
    """The characters of the lines with their boxes: each as wide as it advances, from cap height to below the baseline.

    Args:
        skew_degrees: how far the picture was turned after it was set, counter-clockwise about its middle. Boxes move
            and stay upright.
    """
    text: list[str] = []
    boxes: list[tuple[float, float, float, float]] = []
    for line in lines:
        font, size = typeface(line.face), line.size_px
        for x, y, word in zip(line.x_px, line.y_px, line.words, strict=True):
            for character in word:
                advance = (_depth(word, font) / len(word) if line.vertical else font.advances[character]) * size
                if character != " ":
                    text.append(character)
                    if line.vertical:
                        boxes.append((x, y, x + size, y + advance))
                    else:
                        boxes.append((x, y - 0.75 * size, x + advance, y + 0.15 * size))
                x, y = (x, y + advance) if line.vertical else (x + advance, y)
    placed = np.array(boxes, np.float32).reshape(-1, 2, 2)
    middle = placed.mean(1)
    from_centre = middle - np.array([width_px / 2, height_px / 2], np.float32)
    cos, sin = np.cos(np.radians(skew_degrees)), np.sin(np.radians(skew_degrees))
    turned = from_centre @ np.array([[cos, -sin], [sin, cos]], np.float32)
    placed = (placed + (turned - from_centre)[:, None]) / np.array([width_px, height_px], np.float32)
    return Letters("".join(text), placed.reshape(-1, 4))


@functools.lru_cache(maxsize=256)
def _mupdf_font(face: Face, part: int = 0):  # pymupdf.Font; its stubs are incomplete
    import pymupdf

    return pymupdf.Font(fontbuffer=typeface(face).sfnts[part])


def coverage(lines: Iterable[Line], width_px: int, height_px: int) -> UInt8[np.ndarray, "H W"]:
    """Draws the lines: 0 where there is no ink, 255 where it is full."""
    from pymupdf import mupdf

    text = mupdf.FzText()
    for line in lines:
        for x, y, word in zip(line.x_px, line.y_px, line.words, strict=True):
            _show(text, line, word, x, y)
    return _filled(text, width_px, height_px)


def draw_runs(
    font: Typeface,
    runs: Iterable[tuple[str, tuple[float, float, float, float], float, float]],
    width_px: int,
    height_px: int,
) -> UInt8[np.ndarray, "H W"]:
    """Draws runs as `coverage` does, each under its own matrix.

    Args:
        runs: characters of one file of the face; where one em to the right and one em up lead, in pixels to the right
            and up (a, b, c, d); x and y of the baseline's beginning.
    """
    from pymupdf import mupdf

    text = mupdf.FzText()
    for characters, (a, b, c, d), x, y in runs:
        matrix = mupdf.FzMatrix(a, -b, c, -d, x, y)
        _run(text, font, characters, font.part[characters[0]], matrix)
    return _filled(text, width_px, height_px)


def _filled(text, width_px: int, height_px: int) -> UInt8[np.ndarray, "H W"]:  # text: mupdf.FzText
    from pymupdf import mupdf

    def draw(device: Any, grey: Any) -> None:
        mupdf.fz_fill_text(device, text, mupdf.FzMatrix(), grey, [0.0], 1.0, mupdf.FzColorParams())

    return opacity(draw, width_px, height_px)


def opacity(draw: Callable[[Any, Any], None], width_px: int, height_px: int) -> UInt8[np.ndarray, "H W"]:
    """The opacity that MuPDF gives each pixel of what `draw` sends to a device, in colours of a space of greys.

    The pixmap has no separations: even with none in the list, MuPDF draws on a second pixmap and converts its colours,
    which takes longer than the drawing.
    """
    import pymupdf
    from pymupdf import mupdf

    grey = mupdf.FzColorspace(mupdf.FzColorspace.Fixed_GRAY)
    pixels = mupdf.FzPixmap(grey, mupdf.FzIrect(0, 0, width_px, height_px), mupdf.FzSeparations(), 1)
    mupdf.fz_clear_pixmap(pixels)
    device = mupdf.fz_new_draw_device(mupdf.FzMatrix(), pixels)
    draw(device, grey)
    mupdf.fz_close_device(device)
    samples = np.frombuffer(pymupdf.Pixmap("raw", pixels).samples, np.uint8)
    return np.ascontiguousarray(samples.reshape(height_px, width_px, 2)[..., 1])


def _run(text, font: Typeface, characters: str, part: int, matrix) -> None:
    from pymupdf import mupdf

    mupdf_font = _mupdf_font(font.face, part).this
    mupdf.fz_show_string(text, mupdf_font, matrix, characters, 0, 0, mupdf.FZ_BIDI_LTR, mupdf.FZ_LANG_UNSET)


def _show(text, line: Line, word: str, x: float, y: float) -> None:  # text: mupdf.FzText
    """Adds a run of a line to MuPDF's text."""
    font, size = typeface(line.face), line.size_px
    across, down = (size, 0.0), (0.0, -size)  # of a unit of the font, in pixels
    if line.vertical:
        if len(word) > 1 or word in TURNED:
            across, down = (0.0, size), (size, 0.0)
            x += 0.12 * size
        elif word in CORNERED:
            x, y = x + 0.55 * size, y + 0.35 * size
        else:
            y += 0.88 * size
    show_run(text, font, word, size, x, y, (*across, *down))


def show_run(
    text,  # mupdf.FzText
    font: Typeface,
    run: str,
    size_px: float,
    x_px: float,
    y_px: float,
    lead: tuple[float, float, float, float] = (),  # type: ignore[assignment]
) -> float:
    """Adds a run to MuPDF's text, file by file of its face, and returns where the next would begin.

    Args:
        lead: where one em to the right and one em up lead, in pixels to the right and down; upright by default.
    """
    from pymupdf import mupdf

    lead = lead or (size_px, 0.0, 0.0, -size_px)
    x, y = x_px, y_px
    for part, piece in itertools.groupby(run, font.part.__getitem__):
        characters = "".join(piece)
        _run(text, font, characters, part, mupdf.FzMatrix(*lead, x, y))
        advance = font.width(characters)
        x, y = x + advance * lead[0], y + advance * lead[1]
    return x
