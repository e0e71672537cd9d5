"""The papers engine: pages of real documents with their markdown: LaTeX sources beside their PDF, and Word files.

Sources: Nougat (LaTeX source and PDF; pages are split by fuzzy matching), DeepSeek-OCR's Word data (.docx content with
HTML tables and LaTeX formulas). A page is used when its words are found again in the source; the rest is left out with
a reason.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import GotError, require
from pipelines import mmd
from pipelines.backends import office
from pipelines.mmd import Block
from pipelines.paper import photograph, plain, to_png
from pipelines.tries import generator

LEAST_MATCH = 0.75


@dataclass(frozen=True)
class Papers:
    """A finite engine over a folder: X.tex with X.pdf beside it, and X.docx (with X.pdf, or LibreOffice makes it).

    Attributes:
        folder: with these files, in any depth.
        page_px: least and most of a page's height.
        least_match: share of a page's words that must be found in the source in their order.
        effects: share of pictures that look printed and scanned.
    """

    folder: str = ""
    page_px: tuple[int, int] = (1100, 1500)
    least_match: float = LEAST_MATCH
    effects: float = 0.5

    def __post_init__(self) -> None:
        require(0 < self.least_match <= 1, f"papers: least_match is {self.least_match}; it must be above 0, at most 1.")

    def __len__(self) -> int:
        """Pages that are used."""
        return len(_pages(self.folder, self.least_match)[0])

    @property
    def rejected(self) -> tuple[str, ...]:
        """Why files and pages are left out."""
        return _pages(self.folder, self.least_match)[1]

    def example(self, seed: int, index: int) -> Example:
        """Page `index`; its paper and scale follow from the seed."""
        import pymupdf

        page = _pages(self.folder, self.least_match)[0][index]
        rng = generator("papers", seed, index)
        sheet = pymupdf.open("pdf", _pdf(page.path))[page.number]
        scale = float(rng.uniform(*self.page_px)) / sheet.rect.height
        made = sheet.get_pixmap(matrix=pymupdf.Matrix(scale, scale), colorspace=pymupdf.csGRAY, alpha=False)
        ink = 255 - np.frombuffer(made.samples, np.uint8).reshape(made.height, made.width)
        meta: dict[str, Any] = {
            "engine": "papers",
            "kind": Path(page.path).suffix[1:],
            "file": Path(page.path).name,
            "page": page.number + 1,
            "match": round(page.match, 3),
        }
        if rng.random() < self.effects:
            pixels, meta["effects"] = photograph(ink, rng)
        else:
            pixels = plain(ink)
        return Example((to_png(pixels),), prompts.FORMAT, page.text, meta)


@dataclass(frozen=True)
class Page:
    """A page that is used: its file, its number from 0, its markdown, and the share of its words that were found."""

    path: str
    number: int
    text: str
    match: float


@functools.lru_cache(maxsize=4)
def _pages(folder: str, least_match: float) -> tuple[tuple[Page, ...], tuple[str, ...]]:
    require(bool(folder), "papers: no folder is set; give --set folder=DIR with .tex and .pdf, or .docx files.")
    root = Path(folder)
    require(root.is_dir(), f"papers: {folder} is no folder; check the path.")
    good: list[Page] = []
    bad: list[str] = []
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in (".tex", ".docx"))
    for path in files:
        try:
            blocks = _blocks(path)
            require(bool(blocks), "nothing in it can be read.")
            pdf = _pdf(str(path))
            for number, (text, match) in enumerate(split(blocks, page_words(pdf))):
                if match < least_match:
                    bad.append(f"{path} page {number + 1}: {match:.0%} of its words are found in the source")
                elif not text.strip():
                    bad.append(f"{path} page {number + 1}: it holds no text")
                else:
                    good.append(Page(str(path), number, text, match))
        except (GotError, OSError) as err:
            bad.append(f"{path}: {err}")
    if not good:
        raise GotError(
            f"papers: no page of {folder} can be used" + (f"; the first: {bad[0]}" if bad else "; it is empty.")
        )
    return tuple(good), tuple(bad)


def _blocks(path: Path) -> list[Block]:
    from pipelines import tex_pages, word

    if path.suffix.lower() == ".docx":
        return word.read(path.read_bytes())
    return tex_pages.read(path.read_text(encoding="utf-8", errors="replace"))


@functools.lru_cache(maxsize=8)
def _pdf(path: str) -> bytes:
    beside = Path(path).with_suffix(".pdf")
    if beside.exists():
        return beside.read_bytes()
    require(path.lower().endswith(".docx"), f"its PDF is missing; put {beside.name} beside it.")
    data = Path(path).read_bytes()
    return _converted(hashlib.sha256(data).hexdigest(), data)


@functools.lru_cache(maxsize=8)
def _converted(digest: str, data: bytes) -> bytes:
    del digest
    return office.to_pdf(data)


def page_words(pdf: bytes) -> list[list[str]]:
    """The words of each page, hyphens at line ends undone. Raises GotError for what is no PDF."""
    import pymupdf

    try:
        document = pymupdf.open(stream=io.BytesIO(pdf), filetype="pdf")
    except Exception as err:  # MuPDF raises several kinds
        raise GotError(f"its PDF cannot be read ({str(err).splitlines()[0]}).") from None
    require(not document.needs_pass, "its PDF is encrypted; remove the password.")
    flags = pymupdf.TEXT_DEHYPHENATE | pymupdf.TEXT_PRESERVE_WHITESPACE
    return [mmd.plain_words(str(page.get_text("text", flags=flags))) for page in document]


def split(blocks: list[Block], pages: list[list[str]]) -> list[tuple[str, float]]:
    """The markdown of each page, and the share of its words that the source has.

    The words of all blocks are aligned with those of all pages; a block belongs to the page where its words lie, and
    one that runs over is cut at the word where the next page begins (Nougat, section 3.1).
    """
    counts = [mmd.plain_words(_printed(block)) for block in blocks]
    source = [word.lower() for words in counts for word in words]
    printed = [word.lower() for words in pages for word in words]
    starts = np.cumsum([0, *map(len, pages)])
    page_of = np.full(len(source), -1)
    found = np.zeros(len(printed), bool)
    for part in Levenshtein.opcodes(source, printed):
        if part.tag == "equal":
            places = np.arange(part.dest_start, part.dest_end)
            page_of[part.src_start : part.src_end] = np.searchsorted(starts, places, side="right") - 1
            found[places] = True
    texts: list[list[Block]] = [[] for _ in pages]
    at, last = 0, 0
    for block, words in zip(blocks, counts, strict=True):
        own = page_of[at : at + len(words)]
        known = own[own >= 0]
        if not len(known):
            texts[last].append(block)  # a formula by itself: it follows what was before
        elif block.label == "text" and known.min() != known.max() and (own == known.max()).sum() > 3:
            first, second = _cut(block.text, int(np.argmax(own >= known.max())))
            texts[int(known.min())].append(Block("text", first))
            texts[int(known.max())].append(Block("text", second))
            last = int(known.max())
        else:
            last = int(np.bincount(known).argmax())
            texts[last].append(block)
        at += len(words)
    matches = [float(found[a:b].mean()) if b > a else 0.0 for a, b in itertools.pairwise(starts)]
    return [(mmd.write(part), match) for part, match in zip(texts, matches, strict=True)]


def _printed(block: Block) -> str:
    if block.label == "table":
        return " ".join(cell.text for row in mmd.table_of(block.text).rows for cell in row)
    return " ".join([block.text, *block.items])


def _cut(text: str, words: int) -> tuple[str, str]:
    """Text before and from its word number `words` on; a formula is not cut."""
    pieces = mmd.pieces(text)
    count, before = 0, []
    for i, piece in enumerate(pieces):
        if count >= words:
            return "".join(before).strip(), "".join(pieces[i:]).strip()
        count += len(mmd.plain_words(piece))
        before.append(piece)
    return "".join(before).strip(), ""
