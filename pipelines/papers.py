"""The papers engine: pages of real documents with their markdown: LaTeX sources beside their PDF, and Word files.

Sources: Nougat (LaTeX source and PDF; pages are split by fuzzy matching), DeepSeek-OCR's Word data (.docx content with
HTML tables and LaTeX formulas). A page is used when its words are found again in the source; the rest is left out with
a reason.
"""

from __future__ import annotations

import bisect
import collections
import functools
import hashlib
import io
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from rapidfuzz.distance import LCSseq, Levenshtein

from got_jax import prompts
from got_jax.data.example import Example
from got_jax.errors import GotError, require
from pipelines import formulas, mmd, tex, tex_pages
from pipelines.backends import office
from pipelines.mmd import Block
from pipelines.paper import photograph, plain, to_png
from pipelines.tries import Unusable, generator

LEAST_MATCH = 0.75
LEAST_GROUNDED = 0.9
INPUT = re.compile(r"\\(?:input|include)\s*\{([^{}]*)\}")
MOST_PARTS = 1000
WORD = re.compile(r"[\u3400-\u9fff]|[^\W_]+")
SHOWN = re.compile(  # of a reference: [3], (Knuth, 1984), Figure 2.1, A
    r"\[[^\[\]\n]{1,60}\]|\([^()\n]{1,60}\)|(?:[^\W\d_]{2,12}\.?\s+)?\d+(?:\.\d+)*[a-z]?|[A-Z](?:\.\d+)*(?!\w)"
)
NUMBERED = re.compile(r"(?<![^\n])(?:[A-Z]\.)?\d+(?:\.\d+)*\.?\s*$")  # before a heading, where its line begins
NAMED = re.compile(r"[^\W\d_]{2,10}\.?\s+(?:[A-Z]\.)?\d+(?:\.\d+)*[.:]?\s*$")  # before a caption: Table 2:
FAR = 64  # characters at most that a reference shows
ANCHOR = 4  # words in a row
MOST_CELLS = 25_000_000  # of words compared with words, between two anchors


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

    tools: ClassVar[tuple[str, ...]] = ("node",)

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
            "layer": page.layer,
        }
        if rng.random() < self.effects:
            pixels, meta["effects"] = photograph(ink, rng)
        else:
            pixels = plain(ink)
        return Example((to_png(pixels),), prompts.FORMAT, page.text, meta)


@dataclass(frozen=True)
class Page:
    """A page that is used: its file, its number from 0, its markdown, the share of its words that were found, and the
    PDF's own text of it.
    """

    path: str
    number: int
    text: str
    match: float
    layer: str


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
            layers = page_texts(_pdf(str(path)))
            for number, (text, match) in enumerate(split(blocks, layers)):
                if match < least_match:
                    why = f"{match:.0%} of its words are found in the source"
                elif not text.strip():
                    why = "it holds no text"
                else:
                    why = fault(text, layers[number])
                if why:
                    bad.append(f"{path} page {number + 1}: {why}")
                else:
                    good.append(Page(str(path), number, text, match, layers[number]))
        except (GotError, OSError) as err:
            bad.append(f"{path}: {err}")
    if not good:
        raise GotError(
            f"papers: no page of {folder} can be used" + (f"; the first: {bad[0]}" if bad else "; it is empty.")
        )
    return tuple(good), tuple(bad)


def _blocks(path: Path) -> list[Block]:
    from pipelines import word

    if path.suffix.lower() == ".docx":
        return word.read(path.read_bytes())
    source = _source(path, path.parent.resolve())
    try:
        return tex_pages.read(source)
    except GotError:
        raise
    except Exception as err:  # pylatexenc walks what strangers wrote, and may fail in any way
        raise GotError(f"the source cannot be taken apart ({type(err).__name__}).") from None


def _source(path: Path, folder: Path, above: tuple[Path, ...] = (), read: list[Path] | None = None) -> str:
    r"""A LaTeX source with what it \inputs and \includes from its own folder; other parts stay out.

    Raises:
        GotError: for more than `MOST_PARTS` parts, or too many characters.
    """
    read = [] if read is None else read
    require(len(read) < MOST_PARTS, f"it has over {MOST_PARTS:,} parts.")
    read.append(path)

    def part(found: re.Match[str]) -> str:
        wanted = folder / found[1].strip()
        for file in (wanted, wanted.with_name(wanted.name + ".tex")):
            real = file.resolve()
            if real.is_file() and real.is_relative_to(folder) and real not in (path.resolve(), *above):
                return _source(real, folder, (*above, path.resolve()), read)
        return ""

    source = path.read_text(encoding="utf-8", errors="replace")
    source = INPUT.sub(part, tex.COMMENT.sub("", source))
    require(len(source) <= tex.MOST_CHARS, f"with its parts it has over {tex.MOST_CHARS:,} characters.")
    return source


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


def page_texts(pdf: bytes) -> list[str]:
    """The text layer of each page, hyphens at line ends undone. Raises GotError for what is no PDF."""
    import pymupdf

    try:
        document = pymupdf.open(stream=io.BytesIO(pdf), filetype="pdf")
    except Exception as err:  # MuPDF raises several kinds
        raise GotError(f"its PDF cannot be read ({str(err).splitlines()[0]}).") from None
    require(not document.needs_pass, "its PDF is encrypted; remove the password.")
    flags = pymupdf.TEXT_DEHYPHENATE | pymupdf.TEXT_PRESERVE_WHITESPACE
    return [str(page.get_text("text", flags=flags)) for page in document]


def grounded(text: str, layer: str) -> float:
    """The share of an answer's letters and digits, its formulas' too, that its page's own text has in order.

    The answer was read from the source, so this tells whether the page shows it: a macro without its text, a part that
    was not printed, or the wrong place of a cut would lower it. Commands count as nothing, Greek letters and signs
    too (fonts of formulas often have no Unicode for them).
    """
    said = re.sub(r"\\begin\{(?:tabular|array)\}\{.*?\}|\\[a-zA-Z]+|<[^>]*>|\[\^\d+\]", " ", text)
    plain = lambda text: [ch for ch in unicodedata.normalize("NFKC", text).lower() if ch.isalnum() and _told(ch)]
    letters = plain(said)
    return LCSseq.similarity(letters, plain(layer)) / len(letters) if letters else 1.0


def _told(character: str) -> bool:
    return character.isascii() or character >= "\u3400"


def fault(text: str, layer: str) -> str:
    """What is wrong with a page's answer: letters that the page lacks, a broken table, a formula MathJax refuses."""
    share = grounded(text, layer)
    if share < LEAST_GROUNDED:
        return f"{share:.0%} of the answer's letters stand on it"
    try:
        for block in mmd.read(text):
            if block.label == "table":
                mmd.table_of(block.text)
    except GotError as err:
        return str(err)
    found = [(m[1] or m[2], m[2] is not None) for m in formulas.MATH.finditer(text)]
    try:
        formulas.render(found, 8.0)
    except Unusable as err:
        return str(err)
    return ""


def proof(example: Example) -> str:
    """What is wrong with an example: `fault` of its answer and the text layer of its page."""
    return fault(example.text, example.meta["layer"])


def split(blocks: list[Block], layers: list[str]) -> list[tuple[str, float]]:
    """The markdown of each page from the pages' own texts, and the share of a page's words that the source has.

    The words of all blocks are aligned with those of all pages; a block belongs to the page where its words lie, and
    one that runs over is cut at the word where the next page begins (Nougat, section 3.1). What a reference or a
    citation shows, [3] or 2.1, no source tells: it is read from between the words beside it.
    """
    pages = [list(WORD.finditer(layer)) for layer in layers]
    counts = [mmd.plain_words(_printed(block)) for block in blocks]
    source = [word.lower() for words in counts for word in words]
    printed = [word[0].lower() for words in pages for word in words]
    starts = np.cumsum([0, *map(len, pages)])
    place_of = np.full(len(source), -1)
    for first, place, count in alike(source, printed):
        place_of[first : first + count] = np.arange(place, place + count)
    page_of = np.where(place_of < 0, -1, np.searchsorted(starts, place_of, side="right") - 1)

    def told(at: int) -> str:
        """What a page shows between the words at - 1 and at of the source."""
        before = int(place_of[at - 1]) if at else -1
        if before < 0:
            return ""
        page = int(page_of[at - 1])
        here, own = before - int(starts[page]), pages[page]
        follows = at < len(source) and page_of[at] == page and place_of[at] > before
        end = own[int(place_of[at] - starts[page])].start() if follows else own[here].end() + FAR
        found = SHOWN.search(layers[page][own[here].end() : min(end, own[here].end() + FAR)])
        return found[0] if found else ""

    def led(at: int, label: str) -> str:
        """What a page shows before the word at, where a block begins: the number of a heading, Table 2:."""
        if at >= len(source) or place_of[at] < 0:
            return ""
        page = int(page_of[at])
        start = pages[page][int(place_of[at] - starts[page])].start()
        pattern = NAMED if label == "caption" else NUMBERED
        found = pattern.search(layers[page][max(0, start - FAR) : start])
        return " ".join(found[0].split()) + " " if found else ""

    def filled(text: str, at: int, label: str) -> str:
        """A text that begins with the word `at` of the source, with what its references show."""
        head, *rest = text.split(tex_pages.REFERENCE)
        for part in rest:
            count = len(mmd.plain_words(head))
            shown = told(at + count) if count else led(at, label)
            head = f"{head}{shown}{part}" if shown else f"{head.rstrip()} {part.lstrip()}" if head else part.lstrip()
            at -= len(mmd.plain_words(shown))  # they are no words of the source
        return head

    texts: list[list[Block]] = [[] for _ in pages]
    at, last = 0, 0
    for block, words in zip(blocks, counts, strict=True):
        own = page_of[at : at + len(words)]
        known = own[own >= 0]
        if not len(known):
            parts = [(last, block)]  # a formula by itself: it follows what was before
        elif block.label == "text" and known.min() != known.max() and (own == known.max()).sum() > 3:
            first, second = _cut(block.text, int(np.argmax(own >= known.max())))
            parts = [(int(known.min()), Block("text", first)), (int(known.max()), Block("text", second))]
        else:
            parts = [(int(np.bincount(known).argmax()), block)]
        begin = at
        for page, part in parts:
            text = filled(part.text, begin, part.label)
            begin += len(mmd.plain_words(part.text))
            items = []
            for item in part.items:
                items.append(filled(item, begin, part.label))
                begin += len(mmd.plain_words(item))
            texts[page].append(Block(part.label, text, tuple(items)))
            last = page
        at += len(words)
    found = np.zeros(len(printed), bool)
    found[place_of[place_of >= 0]] = True
    matches = [float(found[a:b].mean()) if b > a else 0.0 for a, b in itertools.pairwise(starts)]
    return [(mmd.write(part), match) for part, match in zip(texts, matches, strict=True)]


def alike(one: Sequence[str], other: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """Runs of words that both texts have, in order: where in each, and how long.

    Four words that stand once in each text, and in the same order, tie them together (patience sorting); between these
    places the least edits tell. So a book takes no longer than its pages; a gap too wide for that holds no runs.
    """
    anchors = _anchors(one, other)
    at, to = 0, 0
    for first, place, count in [*anchors, (len(one), len(other), 0)]:
        if (first - at) * (place - to) <= MOST_CELLS:
            for part in Levenshtein.opcodes(one[at:first], other[to:place]):
                if part.tag == "equal":
                    yield at + part.src_start, to + part.dest_start, part.src_end - part.src_start
        if count:
            yield first, place, count
        at, to = first + count, place + count


def _anchors(one: Sequence[str], other: Sequence[str]) -> list[tuple[int, int, int]]:
    """Runs of `ANCHOR` words that stand once in each text, the longest chain of them that keeps both orders."""
    grams = [collections.Counter(zip(*(text[i:] for i in range(ANCHOR)), strict=False)) for text in (one, other)]
    where = {gram: i for i, gram in enumerate(zip(*(other[i:] for i in range(ANCHOR)), strict=False))}
    pairs = [
        (i, where[gram])
        for i, gram in enumerate(zip(*(one[i:] for i in range(ANCHOR)), strict=False))
        if grams[0][gram] == grams[1][gram] == 1
    ]
    tails: list[int] = []  # the least end of a chain of each length
    ends: list[int] = []  # which pair that is
    before = [-1] * len(pairs)
    for number, (_, place) in enumerate(pairs):
        length = bisect.bisect_left(tails, place)
        before[number] = ends[length - 1] if length else -1
        tails[length : length + 1], ends[length : length + 1] = [place], [number]
    chain: list[tuple[int, int, int]] = []
    number = ends[-1] if ends else -1
    while number >= 0:
        i, place = pairs[number]
        if not chain or (i + ANCHOR <= chain[-1][0] and place + ANCHOR <= chain[-1][1]):
            chain.append((i, place, ANCHOR))
        number = before[number]
    return chain[::-1]


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
