"""The glyphs engine: one to a few characters on a small picture, cheap enough to see a million.

A transformer encoder has to learn from examples what a convolution knows by its shape: that a letter is the same
letter wherever it stands relative to the patches. That takes many pictures and little text on each.
"""

from __future__ import annotations

import functools
import io
import string
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import require
from pipelines import corpora, fonts
from pipelines.paper import photograph, to_png


@dataclass(frozen=True)
class Glyphs:
    """Settings of the engine; `example` is a pure function of them and (seed, index).

    Attributes:
        split: "train" or "held_out": which corpora and font families are used.
        px: side of the picture. chars: fewest and most characters. size_px: smallest and largest font size; text that
            would not fit is set smaller.
        scrambled: share of texts drawn at random from printable ASCII instead of the corpora.
        ramp: over the first so many indices more and more pictures get effects (0 = no ramp).
    """

    split: str = "train"
    px: int = 96
    chars: tuple[int, int] = (1, 4)
    size_px: tuple[float, float] = (16.0, 48.0)
    scrambled: float = 0.5
    ramp: int = 0

    def __post_init__(self) -> None:
        require(1 <= self.chars[0] <= self.chars[1], f"glyphs: chars {self.chars} must be ascending, from 1 on.")
        require(0 < self.size_px[0] <= self.size_px[1], f"glyphs: size_px {self.size_px} must be ascending, above 0.")
        require(self.px >= 16, f"glyphs: px is {self.px}; it must be at least 16.")

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        rng = np.random.default_rng([zlib.crc32(b"glyphs"), seed, index])
        kind = str(rng.choice(["serif", "sans", "mono"], p=[0.5, 0.32, 0.18]))
        style = str(rng.choice(["normal", "italic", "bold"], p=[0.76, 0.12, 0.12]))
        found = fonts.choose(self.split, kind, style)
        font = fonts.typeface(found[rng.integers(len(found))])
        text = self._text(rng, font)
        size = float(np.exp(rng.uniform(*np.log(self.size_px))))
        size = min(size, 0.94 * self.px / max(font.width(text), 0.3))
        face = _truetype(font.face, max(6, round(size)))
        left, top, right, bottom = face.getbbox(text)
        x = rng.uniform(0, max(0.0, self.px - (right - left))) - left
        y = rng.uniform(0, max(0.0, self.px - (bottom - top))) - top
        ink = Image.new("L", (self.px, self.px))
        ImageDraw.Draw(ink).text((x, y), text, fill=255, font=face)
        real = index >= self.ramp or rng.random() < index / self.ramp
        effects = rng if real else np.random.default_rng(0)
        picture, done = photograph(np.asarray(ink), effects, screen=not real)
        meta = {"engine": "glyphs", "font": font.face.name, "lines": 1, "effects": done}
        return Example((to_png(picture),), prompts.PLAIN, text, meta)

    def _text(self, rng: np.random.Generator, font: fonts.Typeface) -> str:
        count = int(rng.integers(self.chars[0], self.chars[1] + 1))
        if rng.random() >= self.scrambled:
            texts = corpora.split(self.split)
            words = texts[rng.integers(len(texts))]
            paragraph = font.shown(words[rng.integers(len(words))])
            at = int(rng.integers(max(1, len(paragraph) - count)))
            text = paragraph[at : at + count].strip()
            if text:
                return text
        letters = string.ascii_letters + string.digits
        pool = letters if rng.random() < 0.7 else string.printable[:94]
        return "".join(pool[i] for i in rng.integers(0, len(pool), count))


@functools.lru_cache(maxsize=4096)
def _truetype(face: fonts.Face, size_px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(io.BytesIO(fonts.typeface(face).sfnt), size_px)
