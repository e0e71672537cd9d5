"""Huge pictures and many pages: pages joined to one picture and cut into tiles, or given one after another.

Source: GOT paper 3.4 (multi-crop: pages stitched horizontally and vertically, tiled by dynamic resolution, up to 12
tiles; multi-page: 2 to 8 formatted pages, each under 650 tokens, together under 8,000).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from got_jax import images, prompts
from got_jax.data.example import Example
from got_jax.errors import require
from pipelines import posters
from pipelines.budget import row_tokens, tokens
from pipelines.formatted import FormattedPages
from pipelines.paper import from_png, to_png, uncoloured
from pipelines.posters import padded
from pipelines.prose import HALF, Languages, check_languages, weighted
from pipelines.tries import Unusable, first_usable, generator

KINDS = ("horizontal", "vertical", "poster")
TOGETHER = 8  # neighbouring examples in one language


@dataclass(frozen=True)
class Tiles:
    """Settings of the huge pictures; `example` is a pure function of them and (seed, index).

    Attributes:
        split: "train" or "held_out", of the sources.
        languages: (language, weight) pairs, of "en" and "zh"; all parts of a picture are in one, and so are
            neighbouring pictures, whose pages LaTeX sets in one run.
        kinds: (kind, weight) pairs: "horizontal" and "vertical" rows of pages; "poster" of texts, formulas, tables and
            charts.
        pages: fewest and most pages of a row.
        tile_px: side of a tile. most_tiles: of a picture; a thumbnail follows them.
        row_tokens: an example with more tokens in all is drawn again.
        effects: share of parts that look printed and scanned.
        block: how many examples' pages one run of LaTeX sets; pictures do not depend on it.
    """

    split: str = "train"
    languages: Languages = HALF
    kinds: tuple[tuple[str, float], ...] = (("horizontal", 0.4), ("vertical", 0.3), ("poster", 0.3))
    pages: tuple[int, int] = (2, 3)
    tile_px: int = 1024
    most_tiles: int = 12
    row_tokens: int = 8192
    effects: float = 0.4
    block: int = TOGETHER

    tools: ClassVar[tuple[str, ...]] = ("latex", "node", "matplotlib")

    def __post_init__(self) -> None:
        check_languages("tiles", self.languages, ("en", "zh"))
        require(
            bool(self.kinds) and {kind for kind, _ in self.kinds} <= set(KINDS),
            f"tiles: kinds is {self.kinds}; give (kind, weight) pairs of {', '.join(KINDS)}.",
        )
        low, high = self.pages
        require(1 <= low <= high, f"tiles: pages {self.pages} must be two ascending numbers from 1 on.")
        require(self.tile_px >= 64, f"tiles: tile_px is {self.tile_px}; it must be at least 64.")
        require(self.most_tiles >= 2, f"tiles: most_tiles is {self.most_tiles}; it must be at least 2.")
        require(self.row_tokens >= 1024, f"tiles: row_tokens is {self.row_tokens}; it must be at least 1024.")

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        return first_usable("tiles", seed, index, lambda rng: self._example(rng, seed, index))

    def _example(self, rng: np.random.Generator, seed: int, index: int) -> Example:
        kind = weighted(rng, self.kinds)
        language = weighted(generator("tiles language", seed, index // TOGETHER), self.languages)
        if kind == "poster":
            sheet, blocks = posters.draw(rng, seed, index, self.split, language, posters.TABLES * self.block)
            texts = [block["text"] for block in blocks]
        else:
            sheet, texts = self._row(rng, seed, index, kind, language)
        columns, rows = images.tile_grid(sheet.shape[1], sheet.shape[0], self.tile_px, 1, self.most_tiles)
        if columns * rows < 2:
            raise Unusable("the picture is one tile.")
        size = (columns * self.tile_px, rows * self.tile_px)
        shrinks = size[0] * size[1] < sheet.shape[0] * sheet.shape[1]
        sheet = np.asarray(cv2.resize(sheet, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC))
        cut = images.tiles(Image.fromarray(sheet), self.tile_px, 1, self.most_tiles)
        text = "\n\n".join(texts)
        count = row_tokens(prompts.PATCHES, len(cut), text)
        if count > self.row_tokens:
            raise Unusable(f"it has {count} tokens, over {self.row_tokens}.")
        meta: dict[str, Any] = {"engine": "tiles", "kind": kind, "language": language, "grid": [columns, rows]}
        meta |= {"tokens": count, "sheet": zlib.crc32(sheet.tobytes())}
        return Example(tuple(to_png(uncoloured(tile)) for tile in cut), prompts.PATCHES, text, meta)

    def _row(
        self, rng: np.random.Generator, seed: int, index: int, kind: str, language: str
    ) -> tuple[UInt8[np.ndarray, "H W 3"], list[str]]:
        """Pages side by side, or one below another, with a gap between."""
        most = self.pages[1]
        engine = FormattedPages(self.split, ((language, 1.0),), effects=self.effects, block=most * self.block)
        count = int(rng.integers(self.pages[0], most + 1))
        pages = [engine.example(seed, index * most + i) for i in range(count)]
        pixels = [from_png(page.images[0]) for page in pages]
        across = kind == "horizontal"
        side = max(part.shape[0 if across else 1] for part in pixels)
        gap = int(rng.integers(0, 60))
        parts = []
        for part in pixels:
            short = side - part.shape[0 if across else 1]
            if across:
                parts.append(padded(part, 0, short, 0, gap))
            else:
                parts.append(padded(part, 0, gap, short // 2, short - short // 2))
        return np.concatenate(parts, axis=1 if across else 0), [page.text for page in pages]


@dataclass(frozen=True)
class ManyPages:
    """Settings of the many pages; `example` is a pure function of them and (seed, index).

    Attributes:
        split: "train" or "held_out", of texts.
        languages: (language, weight) pairs, of "en" and "zh", drawn for each page.
        pages: fewest and most.
        page_tokens: most of a page's text. row_tokens: of the whole example; with more it is drawn again.
        effects: share of pages that look printed and scanned.
        block: how many pages one run of LaTeX sets; pictures do not depend on it.
    """

    split: str = "train"
    languages: Languages = HALF
    pages: tuple[int, int] = (2, 8)
    page_tokens: int = 649
    row_tokens: int = 8000
    effects: float = 0.5
    block: int = 64

    tools: ClassVar[tuple[str, ...]] = ("latex",)

    def __post_init__(self) -> None:
        check_languages("manypages", self.languages, ("en", "zh"))
        low, high = self.pages
        require(1 <= low <= high, f"manypages: pages {self.pages} must be two ascending numbers from 1 on.")
        require(self.page_tokens >= 100, f"manypages: page_tokens is {self.page_tokens}; it must be at least 100.")

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        return first_usable("manypages", seed, index, lambda rng: self._example(rng, seed, index))

    def _example(self, rng: np.random.Generator, seed: int, index: int) -> Example:
        engine = FormattedPages(
            self.split,
            self.languages,
            fill=(0.15, 0.55),
            effects=self.effects,
            most_tokens=self.page_tokens,
            block=self.block,
        )
        count = int(rng.integers(self.pages[0], self.pages[1] + 1))
        pages = [engine.example(seed, index * self.pages[1] + i) for i in range(count)]
        text = "\n\n".join(page.text for page in pages)
        used = row_tokens(prompts.PAGES, count, text)
        if used > self.row_tokens:
            raise Unusable(f"it has {used} tokens, over {self.row_tokens}.")
        meta: dict[str, Any] = {"engine": "manypages", "kind": f"{count} pages", "tokens": used}
        meta["languages"] = [page.meta["language"] for page in pages]
        meta["page_tokens"] = [tokens(page.text) for page in pages]
        return Example(tuple(page.images[0] for page in pages), prompts.PAGES, text, meta)


def reassembled(example: Example) -> UInt8[np.ndarray, "H W 3"]:
    """The huge picture again, from its tiles (the thumbnail is left out)."""
    columns, rows = example.meta["grid"]
    tiles = [from_png(data) for data in example.images]
    return np.concatenate(
        [np.concatenate(tiles[row * columns : (row + 1) * columns], axis=1) for row in range(rows)], axis=0
    )


def proof(example: Example) -> str:
    """What is wrong with an example: its tiles must give the huge picture again, to the bit."""
    columns, rows = example.meta["grid"]
    if len(example.images) != columns * rows + 1:
        return f"{len(example.images)} pictures do not make {columns} x {rows} tiles and a thumbnail"
    same = zlib.crc32(reassembled(example).tobytes()) == example.meta["sheet"]
    return "" if same else "the tiles do not give the picture"
