"""matplotlib's Agg canvas with our own fonts, which stay in memory.

matplotlib's own renderer looks a font up for every text, lets FreeType read every glyph from the file through Python,
and reads three of the font's tables to know the height of a line.
"""

from __future__ import annotations

import functools
import io
import math
import os
from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg, get_hinting_flag
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font, RenderMode

from pipelines.fonts import Face, Typeface, typeface

UPRIGHT = [[0x10000, 0], [0, 0x10000]]


class Canvas(FigureCanvasAgg):
    """A figure's canvas, whose texts are all set in the first font that has the letter."""

    def __init__(self, figure: Figure, typefaces: Sequence[Typeface]) -> None:
        super().__init__(figure)
        self.got_faces = tuple(font.face for font in typefaces)

    def get_renderer(self) -> RendererAgg:
        """A renderer of the figure's size; there is one, since a figure is drawn once."""
        if not hasattr(self, "renderer"):
            width, height = self.get_width_height(physical=True)
            self.renderer = _Renderer(width, height, self.figure.dpi, self.got_faces)
        return self.renderer


class _Renderer(RendererAgg):
    def __init__(self, width: float, height: float, dpi: float, faces: tuple[Face, ...]) -> None:
        super().__init__(width, height, dpi)
        self.font: Any
        self.font, *self.line = _font(faces, os.getpid())

    def _prepare_font(self, font_prop: Any) -> Any:  # FT2Font, whose stub lacks what draws
        self.font.clear()
        self.font.set_size(font_prop.get_size_in_points(), self.dpi)
        self.font._set_transform(UPRIGHT, [0, 0])
        return self.font

    def _get_font_height_metrics(self, font_prop: Any) -> tuple[float, ...]:
        """(ascent, descent, gap) of a line in pixels."""
        pixels = font_prop.get_size_in_points() * self.dpi / 72
        return tuple(part * pixels for part in self.line)

    def draw_text(self, gc, x, y, s, prop, angle, ismath=False, mtext=None) -> None:
        radians, height, hinting = math.radians(angle), int(self.height), get_hinting_flag()
        cos, sin = math.cos(radians), math.sin(radians)
        turned = [[round(0x10000 * part) for part in row] for row in ((cos, -sin), (sin, cos))]
        for item in self._prepare_font(prop)._layout(s, flags=hinting):
            right = round(64 * (x + item.x * cos - item.y * sin))
            up = round(64 * (self.height - y + item.x * sin + item.y * cos))
            font = item.ft_object
            font._set_transform(turned, [right, up])
            glyph = font._render_glyph(item.glyph_index, hinting, RenderMode.NORMAL)
            pixels = glyph.buffer
            self._renderer.draw_text_image(pixels, glyph.left, height - glyph.top + pixels.shape[0], 0, gc)


@functools.lru_cache(maxsize=64)
def _font(faces: tuple[Face, ...], process: int) -> tuple[FT2Font, float, float, float]:
    """The first font with the others behind it, and its ascent, descent and line gap in ems.

    FreeType's objects do not outlive a fork, so they are kept for a process.
    """
    load = lambda face, **more: FT2Font(io.BytesIO(typeface(face).sfnts[0]), **more)
    font = load(faces[0], _fallback_list=[load(face) for face in faces[1:]], _kerning_factor=0)
    head, table = font.get_sfnt_table("head"), font.get_sfnt_table("OS/2")
    assert head
    assert table
    em = head["unitsPerEm"]
    return font, table["sTypoAscender"] / em, -table["sTypoDescender"] / em, table["sTypoLineGap"] / em
