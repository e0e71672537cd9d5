"""The flywheel: pages of no known text become training data, labelled by a model and kept where two readers agree.

A page is cut into blocks (by PaddleOCR's detector, or by the boxes that a model tells), a block into patches of a few
lines, a patch is read by a got-jax checkpoint (or by another labeller) and by a second reader; what passes every filter
is written as records that `got-jax train` reads. A run that was cut goes on with the pages that are missing.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import html
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from got_jax import prompts
from got_jax.errors import GotError, require
from got_jax.images import decode
from got_jax.metrics import character_error_rate
from pipelines import contact, corpora, pdfs, readers
from pipelines.paper import to_png
from pipelines.photos import SUFFIXES
from pipelines.truth import plain

OTHERS = ("rapidocr", "tesseract")
Pixels = UInt8[np.ndarray, "H W 3"]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Settings:
    """How the flywheel runs.

    Attributes:
        labeller: "rapidocr", "tesseract", or a model that `got_jax.load` knows: whose text becomes the label.
        judge: the second reader, which must agree.
        boxes: "detector" (PaddleOCR's), or "model": the labeller's own layout.
        language: of the pages; its letters are the charset, and tesseract's data.
        pages: most pages that are used. page_px: the longer side of a PDF page's picture.
        lines: most lines of a patch.
        disagreement: most character error between the two readings. confidence: least geometric mean of the labeller's
            probabilities. repetition: most of a text that may be one phrase over and over. strange: most of a text
            that may be outside the charset.
    """

    labeller: str = "nano"
    judge: str = "rapidocr"
    boxes: str = "detector"
    language: str = "en"
    pages: int = 50
    page_px: int = 1600
    lines: int = 6
    disagreement: float = 0.05
    confidence: float = 0.8
    repetition: float = 0.5
    strange: float = 0.02

    def __post_init__(self) -> None:
        require(self.labeller != self.judge, f"labeller and judge are both '{self.judge}'; two readers must agree.")
        require(self.boxes in ("detector", "model"), f"boxes '{self.boxes}' is unknown; choose detector or model.")
        require(
            self.boxes == "detector" or self.labeller not in OTHERS,
            f"labeller '{self.labeller}' tells no layout; choose boxes detector or a model.",
        )
        require(self.language in corpora.SCRIPTS, f"language '{self.language}' is unknown.")
        require(self.pages >= 1 and self.lines >= 1, "pages and lines must be at least 1.")
        for name in ("disagreement", "confidence", "repetition", "strange"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} is {value}; it must be from 0 to 1.")


@dataclass(frozen=True)
class Read:
    """What a reader says of a patch: its text, its confidence, and whether it came to an end."""

    text: str
    confidence: float = 1.0
    ended: bool = True


Reader = Callable[[Sequence[Pixels]], list[Read]]


def run(folder: Path, out: Path, settings: Settings) -> dict[str, Any]:
    """Writes out/labels.jsonl, out/patches/, out/report.json and out/report.html, and returns the report.

    Raises:
        GotError: for a folder without pages, another run's output, or an output that cannot be written.
    """
    pages, rejected = _pages(folder)
    pages = pages[: settings.pages]
    try:
        for name in ("patches", "pages"):
            (out / name).mkdir(parents=True, exist_ok=True)
        _same_run(out / "settings.json", {**asdict(settings), "folder": str(folder.resolve())})
        read, judge = reader(settings.labeller, settings.language), reader(settings.judge, settings.language)
        for name, number in tqdm(pages, desc="flywheel", unit="page", disable=None):
            key = hashlib.sha256(f"{name} {number}".encode()).hexdigest()[:16]
            note = out / "pages" / f"{key}.json"
            if not note.exists():
                rows = _page(name, number, key, out, settings, read, judge)
                unfinished = note.with_suffix(".unfinished")
                unfinished.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
                os.replace(unfinished, note)
        return _finish(out, settings, len(pages), rejected)
    except OSError as err:
        raise GotError(f"{out} cannot be written ({err.strerror}); free space or choose another --out.") from None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise GotError(f"{path} of an earlier run is damaged; remove it and start again.") from None


def _same_run(path: Path, told: dict[str, Any]) -> None:
    if path.exists():
        old = _json(path)
        different = sorted(key for key in told if old.get(key) != told[key])
        require(
            not different, f"{path.parent} holds another run (its {', '.join(different)} differ); choose another --out."
        )
    else:
        path.write_text(json.dumps(told, ensure_ascii=False, indent=1), encoding="utf-8")


def _pages(folder: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """(file, page from 0) of every PDF page and picture (-1) below a folder, and why files are left out."""
    require(folder.is_dir(), f"page folder {folder} does not exist; point to a folder of PDF files or pictures.")
    found: list[tuple[str, int]] = []
    rejected: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() == ".pdf":
            try:
                with pdfs.opened(str(path)) as document:
                    count = len(document)
            except GotError as err:
                rejected.append(str(err))
                continue
            found += [(str(path), number) for number in range(count)]
        elif path.suffix.lower() in SUFFIXES:
            found.append((str(path), -1))
    why = f"the first: {rejected[0]}" if rejected else "add some."
    require(bool(found), f"page folder {folder} holds no PDF file and no picture that can be read; {why}")
    return found, rejected


def _picture(name: str, number: int, longest_px: int) -> tuple[Pixels, Callable[[Box], str]]:
    """A page's pixels, and what its own text layer says of a box (nothing for pictures)."""
    if number < 0:
        return np.asarray(decode(Path(name), name)), lambda box: ""
    with pdfs.opened(name) as document:
        page = document[number]
        pdfs.set_upright(page)
        lines, _ = pdfs.read_lines(page)
        pixels = pdfs.picture(page, longest_px, [])
        scale = longest_px / max(page.rect.width, page.rect.height)

    def told(box: Box) -> str:
        inside = lambda b: (
            box[0] <= (b[0] + b[2]) / 2 * scale <= box[2] and box[1] <= (b[1] + b[3]) / 2 * scale <= box[3]
        )
        return "\n".join(line.text for line in lines if inside(line.box))

    return pixels, told


def _page(
    name: str, number: int, key: str, out: Path, settings: Settings, read: Reader, judge: Reader
) -> list[dict[str, Any]]:
    """The patches of a page with both readings, and why each is kept or not."""
    try:
        pixels, told = _picture(name, number, settings.page_px)
    except Exception as err:  # MuPDF raises many kinds for broken pages
        why = str(err).splitlines()[0] if str(err) else type(err).__name__
        return [{"page": number + 1, "file": name, "why": f"the page cannot be read ({why})"}]
    if settings.boxes == "model":
        boxes = _model_boxes(settings.labeller, pixels)
    else:
        boxes = patches([line.box for line in readers.detect(pixels)], settings.lines)
    cut = [cut_out(pixels, box) for box in boxes]
    if not cut:
        return [{"page": number + 1, "file": name, "why": "no text was found"}]
    rows = []
    for i, (box, patch, one, other) in enumerate(zip(boxes, cut, read(cut), judge(cut), strict=True)):
        why = fault(one, other, settings)
        row: dict[str, Any] = {
            "file": name, "page": number + 1, "box": [round(v) for v in box], "text": one.text, "judge": other.text,
            "confidence": round(one.confidence, 4), "why": why,
        }  # fmt: skip
        if truth := plain(told(box)):
            row |= {"cer": round(character_error_rate([(truth, plain(one.text))]), 4), "truth_chars": len(truth)}
        if not why or i % 10 == 0:  # some of the others are kept to be looked at
            row["patch"] = f"patches/{key}-{i:03}.png"
            (out / row["patch"]).write_bytes(to_png(patch))
        rows.append(row)
    return rows


def fault(one: Read, other: Read, settings: Settings) -> str:
    """Why a label is not kept; nothing if it is."""
    text = one.text.strip()
    if not text:
        return "empty"
    if not one.ended:
        return "cut at the token limit"
    if one.confidence < settings.confidence:
        return "low confidence"
    if repetition(text) > settings.repetition:
        return "repetition"
    known = corpora.SCRIPTS[settings.language].known
    if sum(not known.fullmatch(ch) for ch in text if not ch.isspace()) > settings.strange * len(text):
        return "characters outside the charset"
    if character_error_rate([(plain(other.text), plain(text))]) > settings.disagreement:
        return "the readers disagree"
    return ""


def repetition(text: str) -> float:
    """The share of a text that its most frequent phrase of 8 characters covers, if that comes more than twice."""
    bare = re.sub(r"\s+", "", text)
    counts = collections.Counter(bare[i : i + 8] for i in range(len(bare) - 7))
    if not counts:
        return 0.0
    phrase, times = counts.most_common(1)[0]
    return min(1.0, 8 * len(re.findall(re.escape(phrase), bare)) / len(bare)) if times > 2 else 0.0


def patches(boxes: Sequence[Box], most_lines: int) -> list[Box]:
    """Lines joined to blocks (next below each other, alike in height, over one another), cut to a few lines each."""
    order = sorted(boxes, key=lambda b: (b[1], b[0]))
    blocks: list[list[Box]] = []
    for box in order:
        height = box[3] - box[1]
        for block in reversed(blocks):
            last = block[-1]
            tall = last[3] - last[1]
            across = min(last[2], box[2]) - max(last[0], box[0])
            over = across > 0.3 * min(last[2] - last[0], box[2] - box[0])
            alike = 0.65 < height / max(tall, 1e-6) < 1.55 and -0.3 * tall < box[1] - last[3] < 0.9 * tall
            if len(block) < most_lines and over and alike:
                block.append(box)
                break
        else:
            blocks.append([box])
    around = lambda block: (
        min(b[0] for b in block), min(b[1] for b in block), max(b[2] for b in block), max(b[3] for b in block)
    )  # fmt: skip
    return [around(block) for block in blocks]


def cut_out(pixels: Pixels, box: Box, room: int = 4) -> Pixels:
    """A box's part of a page with a little paper round it."""
    left, top, right, bottom = (round(v) for v in box)
    return pixels[max(0, top - room) : bottom + room, max(0, left - room) : right + room]


def reader(name: str, language: str) -> Reader:
    """A reader of patches: "rapidocr", "tesseract" or a model."""
    if name == "rapidocr":

        def by_rapidocr(cut: Sequence[Pixels]) -> list[Read]:
            found = [readers.rapidocr(readers.framed(patch)) for patch in cut]
            least = lambda lines: min((line.confidence for line in lines), default=0.0)
            return [Read("\n".join(line.text for line in lines), least(lines)) for lines in found]

        return by_rapidocr
    if name == "tesseract":
        return lambda cut: [
            Read("\n".join(readers.tesseract(readers.framed(patch), language, block=True))) for patch in cut
        ]

    def by_model(cut: Sequence[Pixels]) -> list[Read]:
        from PIL import Image

        from got_jax.reader import Reading

        made = []
        for reading in _model(name).read_many([Image.fromarray(p) for p in cut], max_new_tokens=512):
            if isinstance(reading, Reading):
                made.append(Read(reading.text, reading.confidence, reading.stop == "end"))
            else:
                made.append(Read("", 0.0))
        return made

    return by_model


@functools.lru_cache(maxsize=2)
def _model(name: str):  # got_jax.reader.Reader
    from got_jax.reader import load

    return load(name)


def _model_boxes(name: str, pixels: Pixels) -> list[Box]:
    """The blocks that a model tells of a page."""
    from PIL import Image

    reading = _model(name).read(Image.fromarray(pixels), layout=True, boxes=True)
    size = (pixels.shape[1], pixels.shape[0])
    found = [box for block in reading.blocks for box in block.pixels(size)]
    return [box for box in found if box[2] - box[0] >= 8 and box[3] - box[1] >= 8]


def _finish(out: Path, settings: Settings, pages: int, rejected: list[str]) -> dict[str, Any]:
    """The new set and the report from the notes of all pages."""
    rows = [row for path in sorted((out / "pages").glob("*.json")) for row in _json(path)]
    kept = [row for row in rows if not row["why"]]
    records = (
        {"image": row["patch"], "prompt": prompts.PLAIN, "text": row["text"], "score": row["confidence"]}
        for row in kept
    )
    unfinished = out / "labels.unfinished"
    unfinished.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    os.replace(unfinished, out / "labels.jsonl")
    reasons = collections.Counter(row["why"] or "kept" for row in rows)
    report = {
        "settings": asdict(settings),
        "pages": pages,
        "rejected": rejected,
        "patches": len(rows),
        "kept": len(kept),
        "reasons": dict(reasons.most_common()),
        "truth": {
            name: {
                "patches": len(told),
                "cer": round(sum(r["cer"] * r["truth_chars"] for r in told) / sum(r["truth_chars"] for r in told), 4),
            }
            for name, group in (("kept", kept), ("not kept", [r for r in rows if r["why"]]))
            if (told := [row for row in group if "cer" in row])
        },
    }
    (out / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")
    (out / "report.html").write_text(_page_of(report, rows, out), encoding="utf-8")
    return report


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The report as a table."""
    yield f"{report['pages']} pages, {report['patches']} patches, {report['kept']} kept"
    for sentence in report["rejected"]:
        yield f"left out: {sentence}"
    for why, count in report["reasons"].items():
        yield f"{count:7} {why}"
    for name, told in report["truth"].items():
        yield f"against the pages' own text, {name}: CER {told['cer']:.2%} ({told['patches']} patches)"


def _page_of(report: dict[str, Any], rows: list[dict[str, Any]], out: Path) -> str:
    """The report with pictures: a few patches of every reason."""
    parts = [contact.head("flywheel"), f"<pre>{html.escape(chr(10).join(lines(report)))}</pre>"]
    for why in report["reasons"]:
        shown = [row for row in rows if (row["why"] or "kept") == why and "patch" in row][:6]
        parts.append(f"<h2>{html.escape(why)}</h2>")
        for row in shown:
            picture = contact.inline((out / row["patch"]).read_bytes())
            where = f"{html.escape(Path(row['file']).name)} page {row['page']}"
            parts.append(
                f"<section><div>{picture}</div><div><pre>{html.escape(row['text'])}</pre>"
                f"<pre>{html.escape(row['judge'])}</pre><small>{where}, "
                f"confidence {row['confidence']}, CER {row.get('cer', 'unknown')}</small></div></section>"
            )
    return "\n".join(parts)
