"""Typesetting with PyMuPDF: words -> lines -> positions -> a coverage map (how much ink each pixel holds)."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8

from got_jax.data.example import Letters
from pipelines.fonts import Face, Typeface, typeface


@dataclass(frozen=True)
class Line:
    """A set line: its words with the x of each, its baseline and its size, in pixels."""

    words: tuple[str, ...]
    x_px: tuple[float, ...]
    baseline_px: float
    size_px: float
    face: Face

    @property
    def text(self) -> str:
        return " ".join(self.words)


def shifted(line: Line, x_px: float, y_px: float) -> Line:
    """The line moved right and down."""
    return replace(line, x_px=tuple(x + x_px for x in line.x_px), baseline_px=line.baseline_px + y_px)


def break_lines(words: Iterable[str], font: Typeface, width_ems: float, indent_ems: float = 0.0) -> list[list[str]]:
    """Greedy line breaking; a word wider than the column is cut where the column ends."""
    space = font.width(" ")
    lines: list[list[str]] = [[]]
    used = indent_ems
    for word in words:
        for piece in _pieces(word, font, width_ems):
            advance = font.width(piece)
            if lines[-1] and used + advance > width_ems:
                lines.append([])
                used = 0.0
            lines[-1].append(piece)
            used += advance + space
    return lines if lines[0] else []


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
) -> Line:
    """Puts a line's words at their x; `align` is "left", "right", "center" or "justify" (left if gaps would gape)."""
    advances = [font.width(word) * size_px for word in words]
    gap = font.width(" ") * size_px
    slack = width_px - indent_px - sum(advances) - gap * (len(words) - 1)
    start = left_px + indent_px
    if align == "justify" and len(words) > 1 and 0 < slack / (len(words) - 1) < 2.5 * gap:
        gap += slack / (len(words) - 1)
    elif align in ("right", "center"):
        start += slack if align == "right" else slack / 2
    xs = start + np.concatenate([[0.0], np.cumsum(np.add(advances, gap))[:-1]])
    return Line(tuple(words), tuple(float(x) for x in xs), baseline_px, size_px, font.face)


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
        top, bottom = line.baseline_px - 0.75 * size, line.baseline_px + 0.15 * size
        for x, word in zip(line.x_px, line.words, strict=True):
            for character in word:
                right = x + font.advances[character] * size
                text.append(character)
                boxes.append((x, top, right, bottom))
                x = right
    placed = np.array(boxes, np.float32).reshape(-1, 2, 2)
    middle = placed.mean(1)
    from_centre = middle - np.array([width_px / 2, height_px / 2], np.float32)
    cos, sin = np.cos(np.radians(skew_degrees)), np.sin(np.radians(skew_degrees))
    turned = from_centre @ np.array([[cos, -sin], [sin, cos]], np.float32)
    placed = (placed + (turned - from_centre)[:, None]) / np.array([width_px, height_px], np.float32)
    return Letters("".join(text), placed.reshape(-1, 4))


@functools.lru_cache(maxsize=256)
def _mupdf_font(face: Face):  # pymupdf.Font; its stubs are incomplete
    import pymupdf

    return pymupdf.Font(fontbuffer=typeface(face).sfnt)


def coverage(lines: Iterable[Line], width_px: int, height_px: int) -> UInt8[np.ndarray, "H W"]:
    """Draws the lines: 0 where there is no ink, 255 where it is full."""
    import pymupdf

    document = pymupdf.open()
    try:
        page = document.new_page(width=width_px, height=height_px)  # one point = one pixel
        writer = pymupdf.TextWriter(page.rect)
        for line in lines:
            font = _mupdf_font(line.face)
            for x, word in zip(line.x_px, line.words, strict=True):
                writer.append((x, line.baseline_px), word, font=font, fontsize=line.size_px)  # type: ignore[arg-type]
        writer.write_text(page)
        pixels = page.get_pixmap(colorspace=pymupdf.csGRAY)
        return 255 - np.frombuffer(pixels.samples, np.uint8).reshape(pixels.height, pixels.width)
    finally:
        document.close()
