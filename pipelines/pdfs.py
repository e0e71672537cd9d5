"""The PDF engine: pages of real PDF files with the text that stands in them, whole and as paragraphs and lines.

Source: GOT paper 3.2.2 (pages parsed by fitz, which is PyMuPDF; slices cut out by the parsed boxes). A page is used
when its text layer tells all that can be seen; `survey` tells of every other page why it is left out.
"""

from __future__ import annotations

import functools
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import GotError, require
from pipelines import reading_order
from pipelines.paper import scanned, to_png

MOST_BYTES, MOST_PAGES = 512 * 2**20, 5000
SHORTEST_PAGE = 20  # characters
UNKNOWN = re.compile("[\ufffd\ue000-\uf8ff\x00-\x08]")  # what no text layer should hold: unmapped glyphs


@dataclass(frozen=True)
class TextLine:
    """A line of a page: its text, its box in points, the number of its block in reading order."""

    text: str
    box: tuple[float, float, float, float]
    block: int


@dataclass(frozen=True)
class Survey:
    """The pages of a folder's PDF files.

    Attributes:
        pages: (file, page number from 0) of those that can be used. rejected: a sentence for each other page or file.
    """

    pages: tuple[tuple[str, int], ...]
    rejected: tuple[str, ...]


@dataclass(frozen=True)
class Pdfs:
    """Settings of the engine: a finite set, `1 + slices` examples of every usable page.

    Attributes:
        folder: searched for .pdf files.
        slices: paragraphs and lines cut out of each page besides the page itself.
        page_px: the longer side of a page's picture.
        effects: share of pictures that look scanned.
    """

    folder: str = ""
    slices: int = 3
    page_px: int = 1024
    effects: float = 0.5
    name: str = "pdfs"

    def __post_init__(self) -> None:
        require(self.slices >= 0, f"pdfs: slices is {self.slices}; it must be at least 0.")
        require(self.page_px >= 200, f"pdfs: page_px is {self.page_px}; it must be at least 200.")

    @property
    def rejected(self) -> tuple[str, ...]:
        """Why pages and files are left out."""
        return self._survey().rejected

    def __len__(self) -> int:
        return len(self._survey().pages) * (1 + self.slices)

    def example(self, seed: int, index: int) -> Example:
        """Example `index`, whatever the seed: a page, or one of its slices."""
        del seed
        path, number = self._survey().pages[index // (1 + self.slices)]
        view = index % (1 + self.slices)
        rng = np.random.default_rng([zlib.crc32(b"pdfs"), index])
        with opened(path) as document:
            page = document[number]
            set_upright(page)
            lines, strange = read_lines(page)
            meta: dict[str, Any] = {"engine": "pdfs", "file": Path(path).name, "page": number + 1}
            if view == 0:
                pixels = picture(page, self.page_px, strange)
                chosen = lines
                meta["kind"] = "page"
            else:
                chosen = _slice(lines, rng)
                meta["kind"] = "lines" if len({line.block for line in chosen}) > 1 or len(chosen) == 1 else "paragraph"
                pixels = _cut_out(page, chosen, lines, rng, self.page_px)
        meta["lines"] = len(chosen)
        if rng.random() < self.effects:
            pixels, meta["effects"] = scanned(pixels, rng)
        return Example((to_png(pixels),), prompts.PLAIN, "\n".join(line.text for line in chosen), meta)

    def _survey(self) -> Survey:
        require(self.folder, "pdfs: folder is not given; point it to a folder of PDF files.")
        return survey(self.folder)


@functools.lru_cache(maxsize=4)
def survey(folder: str) -> Survey:
    """Looks at every page of every PDF file under a folder.

    Raises:
        GotError: when there is no PDF file, or no page of them can be used.
    """
    from tqdm import tqdm

    root = Path(folder)
    require(root.is_dir(), f"PDF folder {folder} does not exist; point to a folder of PDF files.")
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() == ".pdf")
    require(files, f"PDF folder {folder} holds no .pdf file; add some.")
    pages: list[tuple[str, int]] = []
    rejected: list[str] = []
    for path in tqdm(files, desc="look at PDF files", unit="file", disable=None):
        try:
            with opened(str(path)) as document:
                for number in range(len(document)):
                    why = _fault(document, number)
                    if why:
                        rejected.append(f"{path} page {number + 1}: {why}.")
                    else:
                        pages.append((str(path), number))
        except GotError as err:
            rejected.append(str(err))
    if not pages:
        raise GotError(f"no page of the {len(files)} PDF files in {folder} can be used; the first: {rejected[0]}")
    return Survey(tuple(pages), tuple(rejected))


def opened(path: str):  # pymupdf.Document
    """A PDF file, open. Raises GotError for one that is empty, encrypted, broken or huge."""
    import pymupdf

    pymupdf.TOOLS.mupdf_display_errors(False)
    size = Path(path).stat().st_size
    require(size > 0, f"{path} is empty.")
    require(size <= MOST_BYTES, f"{path} has {size:,} bytes, over the limit of {MOST_BYTES:,}.")
    try:
        document = pymupdf.open(path, filetype="pdf")
    except Exception as err:  # PyMuPDF raises many kinds for broken files
        raise GotError(f"{path} is no PDF that can be read ({str(err).splitlines()[0]}).") from None
    require(not document.needs_pass, f"{path} is encrypted; decrypt it first, e.g. with qpdf.")
    require(len(document) > 0, f"{path} has no pages.")
    require(len(document) <= MOST_PAGES, f"{path} has {len(document):,} pages, over the limit of {MOST_PAGES:,}.")
    return document


def _fault(document: Any, number: int) -> str:
    """Why a page cannot be used; nothing if it can."""
    try:
        page = document[number]
        if min(page.rect.width, page.rect.height) < 20:
            return "it is smaller than 20 points"
        set_upright(page)
        lines, strange = read_lines(page)
        area = abs(page.rect.width * page.rect.height)
        largest = max((_area(info["bbox"]) for info in page.get_image_info()), default=0.0)
    except Exception as err:  # MuPDF raises many kinds for broken pages
        return f"it cannot be read ({(str(err) or type(err).__name__).splitlines()[0]})"
    if largest > 0.8 * area:
        return "it is a scanned page" + (" whose text layer is another reader's" if lines else " without a text layer")
    chars = sum(len(line.text) for line in lines)
    if strange and sum(_area(box) for box in strange) > 0.02 * sum(_area(line.box) for line in lines):
        return "too much of its text is turned or has no Unicode"
    if chars < SHORTEST_PAGE:
        return f"its text layer has {chars} characters"
    return ""


def _area(box: Any) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def set_upright(page: Any) -> None:
    """Turns a page so that most of its text runs to the right; its coordinates are then those of the picture."""
    lengths: dict[tuple[int, int], int] = {}
    page.remove_rotation()
    for block in page.get_text("dict")["blocks"]:
        for line in block.get("lines", ()):
            way = (round(line["dir"][0]), round(line["dir"][1]))
            lengths[way] = lengths.get(way, 0) + sum(len(span["text"]) for span in line["spans"])
    if lengths:
        turn = {(1, 0): 0, (0, -1): 90, (-1, 0): 180, (0, 1): 270}.get(max(lengths, key=lambda way: lengths[way]), 0)
        if turn:
            page.set_rotation(turn)
            page.remove_rotation()


def read_lines(page: Any) -> tuple[list[TextLine], list[tuple[float, float, float, float]]]:
    """The lines of an upright page in reading order, and the boxes of text that can be seen but not told.

    Ligatures are spelt out, soft hyphens at a line's end are hyphens, runs of spaces are one.
    """
    import pymupdf

    flags = pymupdf.TEXT_PRESERVE_WHITESPACE | pymupdf.TEXT_MEDIABOX_CLIP
    blocks: list[list[tuple[str, tuple[float, float, float, float]]]] = []
    strange: list[tuple[float, float, float, float]] = []
    for block in page.get_text("dict", flags=flags)["blocks"]:
        found: list[tuple[str, tuple[float, float, float, float]]] = []
        for line in block.get("lines", ()):
            text = " ".join("".join(span["text"] for span in line["spans"]).replace("\u00ad", "-").split())
            box = tuple(float(v) for v in line["bbox"])
            if not text or box[2] <= 0 or box[3] <= 0 or box[0] >= page.rect.width or box[1] >= page.rect.height:
                continue
            if abs(line["dir"][1]) > 0.05 or line["dir"][0] < 0 or UNKNOWN.search(text):
                strange.append(box)  # type: ignore[arg-type]
            elif found and _same_row(found[-1][1], box):
                joined = f"{found[-1][0]} {text}"  # a gap or another font parts what stands on one line
                found[-1] = (joined, _union(found[-1][1], box))
            else:
                found.append((text, box))  # type: ignore[arg-type]
        if found:
            blocks.append(found)
    boxes = [functools.reduce(_union, (box for _, box in block)) for block in blocks]
    size = float(np.median([box[3] - box[1] for block in blocks for _, box in block])) if blocks else 10.0
    ordered = reading_order.order(boxes, 0.8 * size)
    lines = [TextLine(text, box, i) for i, number in enumerate(ordered) for text, box in blocks[number]]
    return lines, strange


def _same_row(one: Any, other: Any) -> bool:
    """Whether the second box goes on to the right on the first one's line."""
    middle = (other[1] + other[3]) / 2
    return one[1] < middle < one[3] and one[1] < (one[1] + one[3]) / 2 < other[3] and other[0] >= one[2] - 1


def _union(one: Any, other: Any) -> tuple[float, float, float, float]:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def picture(page: Any, longest_px: float, hidden: list, clip: Any = None) -> UInt8[np.ndarray, "H W 3"]:
    """The page, or a part of it, at a scale that gives the whole page the longer side asked for."""
    import pymupdf

    scale = longest_px / max(page.rect.width, page.rect.height)
    pixmap = page.get_pixmap(matrix=pymupdf.Matrix(scale, scale), colorspace=pymupdf.csRGB, alpha=False, clip=clip)
    pixels = np.frombuffer(pixmap.samples, np.uint8).reshape(pixmap.height, pixmap.width, 3).copy()
    for left, top, right, bottom in hidden:  # text whose letters nobody knows would teach to leave text out
        spot = np.array([left, top, right, bottom]) * scale
        cv2.rectangle(pixels, tuple(map(int, spot[:2] - 1)), tuple(map(int, spot[2:] + 1)), (255, 255, 255), -1)
    return pixels


def _slice(lines: list[TextLine], rng: np.random.Generator) -> list[TextLine]:
    """A line, some lines of a block, or a whole block."""
    blocks: dict[int, list[TextLine]] = {}
    for line in lines:
        blocks.setdefault(line.block, []).append(line)
    block = list(blocks.values())[rng.integers(len(blocks))]
    first = int(rng.integers(len(block)))
    kind = rng.random()
    return [block[first]] if kind < 0.4 else block[first : first + int(rng.integers(2, 9))] if kind < 0.6 else block


def _cut_out(
    page: Any, chosen: list[TextLine], lines: list[TextLine], rng: np.random.Generator, page_px: int
) -> UInt8[np.ndarray, "h w 3"]:
    """The chosen lines' part of the page; neighbours that reach into it are painted over."""
    import pymupdf

    left, top, right, bottom = functools.reduce(_union, (line.box for line in chosen))
    room = rng.uniform(1, 6, 4)
    clip = pymupdf.Rect(left - room[0], top - room[1], right + room[2], bottom + room[3]) & page.rect
    scale = float(rng.uniform(1.2, 2.2))
    longest = page_px * scale
    scale = longest / max(page.rect.width, page.rect.height)
    pixels = picture(page, longest, [], clip)
    origin = np.floor(np.array([clip.x0, clip.y0]) * scale)
    keep = np.zeros(pixels.shape[:2], np.uint8)
    for line in chosen:
        x0, y0, x1, y1 = np.array(line.box) * scale - [*origin, *origin]
        cv2.rectangle(keep, (int(x0) - 1, int(y0)), (int(x1) + 1, int(y1)), 1, -1)
    for line in lines:
        if line not in chosen:
            x0, y0, x1, y1 = np.array(line.box) * scale - [*origin, *origin]
            if x1 > 0 and y1 > 0 and x0 < pixels.shape[1] and y0 < pixels.shape[0]:
                cover = np.zeros(pixels.shape[:2], np.uint8)
                cv2.rectangle(cover, (int(x0), int(y0)), (int(x1), int(y1)), 1, -1)
                pixels[(cover == 1) & (keep == 0)] = np.median(pixels.reshape(-1, 3), 0)
    return pixels
