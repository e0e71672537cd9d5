r"""The geometry engine: plane and solid geometry in TikZ, set by pdfLaTeX.

Source: GOT paper 3.3.2 (TikZ points and lines in simple relations: circles, rectangles, triangles, combined shapes;
straight lines, parabolas, ellipses, hyperbolas).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from jaxtyping import UInt8

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import GotError, require
from pipelines import geometry_scenes, seals, tikz
from pipelines.backends import latex
from pipelines.blocks import drawn
from pipelines.paper import scanned, to_png, uncoloured, wobbled
from pipelines.tries import Unusable, generator

LEAST_AGREEMENT = 0.8


@dataclass(frozen=True)
class Source:
    """A scene before it is drawn."""

    text: str
    kind: str
    scale: float

    def body(self) -> str | None:
        """LaTeX of the page."""
        return self.text


@dataclass(frozen=True)
class Geometry:
    """Settings of the engine; `example` is a pure function of them and (seed, index).

    Attributes:
        corpus: a file of tikzpictures, one after another, instead of the generated scenes.
        scale: least and most pixels a point.
        effects: share of pictures that look printed and scanned; a part of them is drawn with an unsteady hand.
        block: how many examples one run of LaTeX sets; pictures do not depend on it.
    """

    corpus: str = ""
    scale: tuple[float, float] = (1.8, 4.0)
    effects: float = 0.4
    block: int = 96

    tools: ClassVar[tuple[str, ...]] = ("latex",)

    def __post_init__(self) -> None:
        low, high = self.scale
        require(0 < low <= high, f"geometry: scale {self.scale} must be ascending, above 0.")
        require(self.block >= 1, f"geometry: block is {self.block}; it must be at least 1.")

    @property
    def rejected(self) -> tuple[str, ...]:
        """Why pictures of the corpus are left out."""
        return read_pictures(self.corpus)[1] if self.corpus else ()

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        source, page, turn = drawn(self, "geometry", latex.TIKZ, seed, index)
        assert page is not None
        pixels = page.paint(source.scale)
        if pixels.size > 3 * 4000 * 4000:
            raise GotError("geometry: the picture is larger than 4000 x 4000 px; lower scale.")
        meta: dict[str, Any] = {
            "engine": "geometry",
            "kind": source.kind,
            "scale": source.scale,
            **seals.seal(page, _ink(pixels)),
        }
        if turn:
            meta["redrawn"] = turn
        rng = generator("geometry paper", seed, index)
        if rng.random() < self.effects:
            if rng.random() < 0.3:
                pixels, meta["hand"] = wobbled(pixels, 1.2, 60, rng), True
            pixels, meta["effects"] = scanned(pixels, rng)
        else:
            pixels = uncoloured(pixels)
        return Example((to_png(pixels),), prompts.FORMAT, source.text, meta)

    def compose(self, rng: np.random.Generator) -> Source:
        """A scene to draw."""
        scale = float(np.round(rng.uniform(*self.scale), 2))
        if self.corpus:
            found = read_pictures(self.corpus)[0]
            return Source(found[int(rng.integers(len(found)))], "corpus", scale)
        text, kind = geometry_scenes.draw(rng)
        try:
            picture = tikz.parse(text)
        except GotError as err:
            raise Unusable(str(err)) from None
        width, height = (picture.high[i] - picture.low[i] for i in (0, 1))
        if not (30 < width < 420 and 30 < height < 420):
            raise Unusable("the scene is too small or too large.")
        return Source(text, kind, scale)


def read_pictures(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tikzpictures of a file, and why others are left out. Raises GotError when there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError as err:
        raise GotError(f"TikZ file {path} cannot be read ({err.strerror}); check the path.") from None
    good, bad = [], []
    for number, found in enumerate(re.findall(r"\\begin\{tikzpicture\}.*?\\end\{tikzpicture\}", text, re.DOTALL), 1):
        if command := latex.hostile(found):
            bad.append(f"{path} picture {number}: it holds {command}, which is not allowed")
        else:
            good.append(found)
    require(bool(good), f"TikZ file {path} holds no usable tikzpicture; give one with \\begin{{tikzpicture}}.")
    return tuple(good), tuple(bad)


def _ink(pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
    """How dark each pixel is."""
    return 255 - np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))


def without_labels(text: str) -> str:
    """The picture without its nodes."""
    return re.sub(r"\\node[^;]*;\n?", "", text)


def proof(example: Example) -> str:
    """What is wrong with an example: its answer must compile to its picture; a rasteriser without TeX must agree."""
    meta = example.meta
    whole, bare = latex.typeset([example.text, without_labels(example.text)], latex.PLAIN_TIKZ)
    if isinstance(whole, str) or isinstance(bare, str):
        return f"the answer does not compile ({whole if isinstance(whole, str) else bare})"
    if seals.broken(whole, _ink(whole.paint(meta["scale"])), meta):
        return "the answer's picture is another"
    if meta["kind"] == "corpus":
        return ""
    found = tikz.agreement(255 - bare.paint(10.0).min(-1), tikz.cover(without_labels(example.text), 10.0))
    return "" if found >= LEAST_AGREEMENT else f"a rasteriser without TeX agrees by {found:.2f} only"
