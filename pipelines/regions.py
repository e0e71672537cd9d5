"""Regions: a part of a page is asked for, by its box or by a coloured frame round it, and only its text is the answer.

Source: GOT paper 3.4 (fine-grained OCR; Fox's boxes and colour-guided frames). A region is a block, a line, several
lines or some words of a page whose letters' places are known, or a block of a formatted page or of a photograph. No
region is used that holds other letters than those of its answer.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from got_jax import prompts
from got_jax.data.example import Engine, Example, Letters
from got_jax.errors import GotError, require
from pipelines import photos, signsets
from pipelines.documents import Documents
from pipelines.formatted import FormattedPages
from pipelines.paper import from_png, to_png
from pipelines.prose import HALF, weighted
from pipelines.scenes import Scenes
from pipelines.tries import Unusable, first_usable, generator

SOURCES = ("pages", "formatted", "scenes")
PAINTS = {"red": (235, 25, 25), "green": (25, 200, 45), "blue": (25, 45, 235)}
Shares = tuple[tuple[str, float], ...]
Edges = Float[np.ndarray, "4"]  # left, top, right, bottom in pixels


class Region(NamedTuple):
    """A part of a picture: what it is, its text, and its box."""

    kind: str
    text: str
    box: Edges


@dataclass(frozen=True)
class Regions:
    """Settings of the engine; `example` is a pure function of them and (seed, index).

    Attributes:
        split: "train" or "held_out", of the sources.
        sources: (engine, weight) pairs: "pages", "formatted" (asked for with format), "scenes".
        by: (way, weight) pairs: "box" or "colour".
        jitter: share of a line's height by which a box may be larger than its text, at most.
        effects: pages look printed and scanned, as their engines make them; otherwise clean.
        page_px: the longer side of "pages".
        block: how many formatted pages one run of LaTeX sets; pictures do not depend on it.
        folder, format: a data set of photographs ("rctw", "rects", "shopsign" or "coco", see `signsets`) instead of
            the sources.
    """

    split: str = "train"
    sources: tuple[tuple[str, float], ...] = (("pages", 0.55), ("formatted", 0.3), ("scenes", 0.15))
    by: tuple[tuple[str, float], ...] = (("box", 0.6), ("colour", 0.4))
    jitter: float = 0.45
    effects: bool = True
    page_px: int = 1024
    block: int = 64
    folder: str = ""
    format: str = ""

    tools: ClassVar[tuple[str, ...]] = ("latex",)

    def __post_init__(self) -> None:
        for name, pairs, known in (("sources", self.sources, SOURCES), ("by", self.by, ("box", "colour"))):
            require(
                bool(pairs) and {key for key, _ in pairs} <= set(known) and min(weight for _, weight in pairs) > 0,
                f"regions: {name} is {pairs}; give (name, weight) pairs of {', '.join(known)}, weights above 0.",
            )
        require(bool(self.folder) == bool(self.format), "regions: give folder and format together, or neither.")
        require(
            not self.format or self.format in signsets.READERS,
            f"regions: format '{self.format}' is unknown; choose {', '.join(signsets.READERS)}.",
        )
        require(0 <= self.jitter <= 1, f"regions: jitter is {self.jitter}; it must be a share from 0 to 1.")

    @property
    def rejected(self) -> tuple[str, ...]:
        """Why photographs and texts of the data set are left out."""
        return signsets.photos(self.folder, self.format)[1] if self.folder else ()

    def example(self, seed: int, index: int) -> Example:
        """The example of this index; the same bytes in any process."""
        return first_usable("regions", seed, index, lambda rng: self._example(rng, seed, index))

    def _example(self, rng: np.random.Generator, seed: int, index: int) -> Example:
        name, way = weighted(rng, self.sources), weighted(rng, self.by)
        if self.folder:
            name, page = self.format, self._photo(rng)
        else:
            at = dense(index, "regions", self.sources, name, seed, self.block)
            page = source(name, self.split, self.effects, self.block, self.page_px).example(seed, at)
        size = Image.open(io.BytesIO(page.images[0])).size
        shape = (size[1], size[0])
        finder = _Finder(page, shape, self.jitter)
        meta: dict[str, Any] = {"engine": "regions", "source": name, "language": page.meta.get("language", "")}
        style = name == "formatted"
        if way == "box":
            region = finder.region(rng)
            query = prompts.query(style, tuple(map(float, region.box)), size)
            if not finder.only(region, prompts.scale_box(region.box.tolist(), size)):
                raise Unusable("the box, in thousandths, cuts letters.")
            meta |= {"kind": f"box {region.kind}", "box": region.box.round(1).tolist()}
            return Example(page.images, query, region.text, meta)
        count = int(rng.choice([1, 2, 3], p=[0.4, 0.35, 0.25]))
        colours = [str(c) for c in rng.permutation(list(PAINTS))[:count]]
        picture = from_png(page.images[0])
        thick = max(2, round(max(shape) / 500 * float(rng.uniform(0.8, 1.6))))
        framed: list[Region] = []
        for colour in colours:
            region = finder.framed(rng, thick, framed)
            framed.append(region)
            frame(picture, region.box, PAINTS[colour], thick)
        asked = int(rng.integers(count))
        meta |= {"kind": f"colour {framed[asked].kind}", "colour": colours[asked], "frames": count}
        meta["box"] = framed[asked].box.round(1).tolist()
        query = prompts.query(style, color=colours[asked])
        return Example((to_png(picture),), query, framed[asked].text, meta)

    def _photo(self, rng: np.random.Generator) -> Example:
        """A photograph of the data set, at most 1,600 px long, with its signs as blocks."""
        found = signsets.photos(self.folder, self.format)[0]
        photo = found[int(rng.integers(len(found)))]
        pixels = photos.photograph(str(photo.path), self.folder)
        with Image.open(photo.path) as picture:
            scale = pixels.shape[1] / picture.width
        boxes = [[v * scale for v in sign.box] for sign in photo.signs]
        blocks = [{"label": "text", "boxes": [b], "text": s.text} for b, s in zip(boxes, photo.signs, strict=True)]
        return Example((to_png(pixels),), prompts.PLAIN, "", {"blocks": blocks})


def source(name: str, split: str, effects: bool = True, block: int = 64, page_px: int = 1024) -> Engine:
    """The engine of a source, of whole pages whose blocks are known."""
    if name == "pages":
        return Documents(split, "", HALF, 1.0, 0.0, 0.0, page_px=page_px, effects=1.0 if effects else 0.0)
    if name == "formatted":
        return FormattedPages(split, effects=0.6 if effects else 0.0, block=block)
    return Scenes(split, slices=0.0)


def dense(index: int, engine: str, sources: Shares, name: str, seed: int, block: int) -> int:
    """Which page of a source stands in an example. LaTeX draws a block of pages at once, so an engine that uses a share
    of them asks for the pages of a stretch of examples one after another, and few are drawn for nothing.
    """
    if name not in ("formatted", "posters"):
        return index
    share = dict(sources)[name] / sum(weight for _, weight in sources)
    stretch = block * max(1, int(1 / share))
    first = index // stretch * stretch
    return first + _ranks(engine, sources, name, seed, first, stretch)[index - first]


@functools.lru_cache(maxsize=64)
def _ranks(engine: str, sources: Shares, name: str, seed: int, first: int, stretch: int) -> tuple[int, ...]:
    """How many examples of the stretch before each draw their page from this source."""
    drawn = [weighted(generator(engine, seed, first + i), sources) == name for i in range(stretch)]
    return tuple(int(n) for n in np.cumsum([0, *drawn[:-1]]))


def frame(picture: UInt8[np.ndarray, "H W 3"], box: Edges, paint: tuple[int, int, int], thick: int) -> None:
    """Draws a frame, in place, whose inner edge is the box."""
    left, top, right, bottom = (round(float(v)) for v in box)
    cv2.rectangle(picture, (left - thick, top - thick), (right + thick, top - 1), paint, -1)
    cv2.rectangle(picture, (left - thick, bottom + 1), (right + thick, bottom + thick), paint, -1)
    cv2.rectangle(picture, (left - thick, top), (left - 1, bottom), paint, -1)
    cv2.rectangle(picture, (right + 1, top), (right + thick, bottom), paint, -1)


class _Finder:
    """Regions of one page."""

    def __init__(self, page: Example, shape: tuple[int, int], jitter: float) -> None:
        self.page, self.shape, self.jitter = page, shape, jitter
        self.size = np.array([shape[1], shape[0]] * 2, float)
        self.blocks = [b for b in page.meta.get("blocks", ()) if b["text"] and len(b["boxes"]) == 1]
        if page.letters is not None:
            self.letters = page.letters.boxes * self.size
            self.rows = lines_of(page.text, page.letters)
        else:  # whole blocks are all that is known
            self.letters = np.array([box for b in page.meta["blocks"] for box in b["boxes"]], float).reshape(-1, 4)
            self.rows = []
        if not self.blocks or not len(self.letters):
            raise Unusable("the page has no blocks.")

    def region(self, rng: np.random.Generator, room: float = 0.0) -> Region:
        """A region with nothing else in it; `room` pixels round it are kept free too.

        Raises:
            Unusable: when 24 draws find none.
        """
        for _ in range(24):
            found = self._draw(rng)
            if found is None:
                continue
            kind, text, members, box = found
            tall = self.letters[members, 3] - self.letters[members, 1]
            line = float(np.median(tall)) if self.rows else 0.02 * max(self.shape)
            for share in (1.0, 0.5, 0.2, 0.0):
                grown = box + np.array([-1, -1, 1, 1]) * (rng.uniform(0.02, self.jitter, 4) * share * line + 1 + room)
                grown = np.clip(grown, room, self.size - 1 - room)
                if grown[0] < grown[2] and grown[1] < grown[3] and self._only(members, grown):
                    return Region(kind, text, np.clip(grown + np.array([1, 1, -1, -1]) * room, 0, self.size - 1))
        raise Unusable("no region of the page stands apart.")

    def framed(self, rng: np.random.Generator, thick: int, others: list[Region]) -> Region:
        """A region with room for a frame, away from other frames."""
        for _ in range(12):
            region = self.region(rng, room=thick + 1.0)
            apart = lambda other, box=region.box: (
                box[0] - other[2] > 3 * thick
                or other[0] - box[2] > 3 * thick
                or box[1] - other[3] > 3 * thick
                or other[1] - box[3] > 3 * thick
            )
            if all(apart(other.box) for other in others) and region.text not in [o.text for o in others]:
                return region
        raise Unusable("the page has no room for another frame.")

    def only(self, region: Region, scaled: list[int]) -> bool:
        """Whether the box in thousandths holds the same letters as the one in pixels."""
        box = np.array(scaled) * self.size / 1000
        return bool((self._inside(box) == self._inside(region.box)).all())

    def _inside(self, box: Edges) -> np.ndarray:
        middle = (self.letters[:, :2] + self.letters[:, 2:]) / 2
        return np.asarray(((middle >= box[:2]) & (middle <= box[2:])).all(1))

    def _only(self, members: np.ndarray, box: Edges) -> bool:
        """Whether the box holds these letters whole and hardly touches others."""
        low, high = np.maximum(self.letters[:, :2], box[:2]), np.minimum(self.letters[:, 2:], box[2:])
        covered = np.clip(high - low, 0, None).prod(1)
        area = np.maximum(1e-6, (self.letters[:, 2:] - self.letters[:, :2]).prod(1))
        share = covered / area
        others = np.ones(len(self.letters), bool)
        others[members] = False
        return bool((share[members] > 0.97).all() and (share[others] < (0.2 if self.rows else 0.002)).all())

    def _draw(self, rng: np.random.Generator) -> tuple[str, str, np.ndarray, Edges] | None:
        """Kind, text, the letters' numbers and their box."""
        if not self.rows:
            block = self.blocks[int(rng.integers(len(self.blocks)))]
            box = np.array(block["boxes"][0], float)
            return "block", block["text"], np.flatnonzero((np.abs(self.letters - box) < 0.01).all(1)), box
        kind = str(rng.choice(["block", "line", "lines", "words"], p=[0.25, 0.3, 0.25, 0.2]))
        if kind == "words":
            row = self.rows[int(rng.integers(len(self.rows)))]
            pieces = list(words_of(row.text, row.first))
            count = int(rng.integers(1, 6))
            if len(pieces) < 2:
                return None
            first = int(rng.integers(0, max(1, len(pieces) - count + 1)))
            part = pieces[first : first + count]
            text = row.text[part[0][0] : part[-1][1]]
            members = np.arange(part[0][2], part[-1][3])
        else:
            if kind == "line":
                first = int(rng.integers(len(self.rows)))
                last = first + 1
            elif kind == "lines":
                first = int(rng.integers(len(self.rows)))
                last = min(len(self.rows), first + int(rng.integers(2, 7)))
            else:
                first, last = self._block_rows(rng)
            chosen = self.rows[first:last]
            text = "\n".join(row.text for row in chosen)
            members = np.arange(chosen[0].first, chosen[-1].last)
        if not text.strip() or not len(members):
            return None
        corners = self.letters[members]
        height = float(np.median(corners[:, 3] - corners[:, 1]))
        box = np.concatenate([corners[:, :2].min(0), corners[:, 2:].max(0)])
        return kind, text, members, box + np.array([0, -0.08, 0, 0.1]) * height

    def _block_rows(self, rng: np.random.Generator) -> tuple[int, int]:
        """First row and the row after the last of a block."""
        number = int(rng.integers(len(self.page.meta["blocks"])))
        counts = [block["text"].count("\n") + 1 for block in self.page.meta["blocks"]]
        first = sum(counts[:number])
        return first, first + counts[number]


class Row(NamedTuple):
    """A line of a page's text with the numbers of its letters, first and after the last."""

    text: str
    first: int
    last: int


def lines_of(text: str, letters: Letters) -> list[Row]:
    """The lines of a text with their letters.

    Raises:
        GotError: when they do not spell the text.
    """
    rows, at = [], 0
    for line in text.split("\n"):
        count = len(line) - line.count(" ")
        rows.append(Row(line, at, at + count))
        at += count
    if "".join(text.split("\n")).replace(" ", "") != letters.text:
        raise GotError("the letters of the page do not spell its text.")
    return rows


def words_of(text: str, first: int) -> Iterator[tuple[int, int, int, int]]:
    """Words, or in a script without spaces runs of up to four characters: (from, to) in the text, and in letters.

    Args:
        first: number of the text's first letter.
    """
    spaced = " " in text.strip() or text.isascii()
    start, at = 0, first
    while start < len(text):
        if text[start] == " ":
            start += 1
            continue
        end = start
        while end < len(text) and text[end] != " " and (spaced or end - start < 4):
            end += 1
        yield start, end, at, at + end - start
        at += end - start
        start = end


def proof(example: Example) -> str:
    """What is wrong with an example: a frame must be found again by its colour alone, where it is said to be."""
    if "colour" not in example.meta:
        return ""
    found = find_frame(from_png(example.images[0]), example.meta["colour"])
    if found is None:
        return "no frame of the asked colour is in the picture"
    return "" if np.abs(found - np.array(example.meta["box"])).max() <= 2 else "the frame stands elsewhere"


def find_frame(pixels: UInt8[np.ndarray, "H W 3"], colour: str) -> Edges | None:
    """The inside of the frame of a colour; nothing if there is none."""
    mask = (pixels == np.array(PAINTS[colour], np.uint8)).all(-1)
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return None
    thick = int(mask[ys.min() :, (xs.min() + xs.max()) // 2].argmin())
    return np.array([xs.min(), ys.min(), xs.max(), ys.max()], float) + np.array([1, 1, -1, -1]) * thick
