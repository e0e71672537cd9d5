"""Readers of handwriting data sets as users download them: lines of ink with their text.

- "casia": CASIA-HWDB2.x, .dgrl files (binary; a page's lines one after another, GB-coded labels).
- "iam": the IAM database, `lines.txt` (also as ascii/lines.txt) with lines/a01/a01-000u/a01-000u-00.png; where the
  forms' XML lies beside, its text is preferred, for lines.txt parts punctuation from words.
- "page": PAGE XML, as NorHand-v3: pictures and XML files with TextLine, Coords and TextEquiv.
"""

from __future__ import annotations

import functools
import html
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from got_jax.errors import GotError, require
from got_jax.images import decode

PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


@dataclass(frozen=True)
class HandLine:
    """One line: where its picture lies, and its text.

    Attributes:
        at: for "casia", the bytes' offset, height and width in the file; for "page", the line's polygon in pixels.
    """

    path: str
    text: str
    at: tuple = ()


@functools.lru_cache(maxsize=4)
def lines(folder: str, format: str) -> tuple[HandLine, ...]:
    """Every line of a data set with a text, in the order of its files.

    Raises:
        GotError: for a folder without lines in the format, or a damaged file.
    """
    root = Path(folder)
    require(root.is_dir(), f"handwriting folder {folder} does not exist; point to a downloaded data set.")
    found = tuple(line for line in READERS[format](root) if line.text)
    require(found, f"handwriting folder {folder} holds no line in the format '{format}'; see pipelines/handsets.py.")
    return found


def ink(line: HandLine) -> UInt8[np.ndarray, "h w"]:
    """A line's strokes: 0 on paper, 255 in the darkest ink."""
    if line.path.endswith(".dgrl"):
        offset, height, width = line.at
        with open(line.path, "rb") as file:
            file.seek(offset)
            grey = np.frombuffer(file.read(height * width), np.uint8).reshape(height, width)
    else:
        grey = np.asarray(_picture(line.path))
        if line.at:
            grey = _inside(grey, np.array(line.at, np.int32))
    paper = float(np.percentile(grey, 90))
    dark = float(np.percentile(grey, 1))
    share = (0.92 * paper - grey) / max(0.92 * paper - dark, 1.0)
    return (255 * share.clip(0, 1)).astype(np.uint8)


def _inside(grey: UInt8[np.ndarray, "H W"], polygon: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """The polygon's part of a page, the paper's grey around it."""
    left, top, width, height = cv2.boundingRect(polygon)
    left, top = max(left, 0), max(top, 0)
    part = grey[top : top + height, left : left + width]
    mask = np.zeros(part.shape, np.uint8)
    cv2.fillPoly(mask, [polygon - [left, top]], 1)
    paper = np.uint8(np.percentile(part[mask == 1], 90)) if mask.any() else np.uint8(255)
    return np.where(mask == 1, part, paper)


@functools.lru_cache(maxsize=8)
def _picture(path: str):  # PIL.Image.Image
    return decode(Path(path), path).convert("L")


def _casia(root: Path) -> Iterator[HandLine]:
    for path in sorted(root.rglob("*.dgrl")):
        try:
            yield from _dgrl(path)
        except (struct.error, IndexError):
            raise GotError(f"{path} is cut short or no .dgrl file; download it again or remove it.") from None


def _dgrl(path: Path) -> Iterator[HandLine]:
    """A page: header (its size, "DGRL", a note, the code's name, bytes a character, bits a pixel), then the lines."""
    data = path.read_bytes()
    (header,) = struct.unpack_from("<i", data)
    require(data[4:8] == b"DGRL", f"{path} is no .dgrl file; remove it.")
    code_bytes, bits = struct.unpack_from("<hh", data, header - 4)
    require(code_bytes in (1, 2) and bits == 8, f"{path} has {bits} bits a pixel; only 8-bit grey is known.")
    _, _, count = struct.unpack_from("<iii", data, header)
    at = header + 12
    for _ in range(count):
        (length,) = struct.unpack_from("<i", data, at)
        raw = data[at + 4 : at + 4 + code_bytes * length]
        at += 4 + code_bytes * length
        _, _, height, width = struct.unpack_from("<iiii", data, at)
        at += 16
        if height < 1 or width < 1 or at + height * width > len(data):
            raise IndexError
        codes = [raw[i : i + code_bytes].rstrip(b"\x00\xff") for i in range(0, len(raw), code_bytes)]
        yield HandLine(str(path), b"".join(codes).decode("gb18030", errors="ignore"), (at, height, width))
        at += height * width


def _iam(root: Path) -> Iterator[HandLine]:
    index = next((p for p in (root / "lines.txt", root / "ascii" / "lines.txt") if p.exists()), None)
    require(index, f"{root} has no lines.txt; unpack ascii.tgz, lines.tgz and, for better text, xml.tgz there.")
    texts = _iam_texts(root)
    for row in index.read_text(encoding="utf-8", errors="replace").splitlines():  # type: ignore[union-attr]
        fields = row.split(" ", 8)
        if row.startswith("#") or len(fields) < 9 or fields[1] != "ok":  # "err": the line was segmented badly
            continue
        name = fields[0]
        form = "-".join(name.split("-")[:2])
        picture = root / "lines" / form.split("-")[0] / form / f"{name}.png"
        if picture.exists():
            yield HandLine(str(picture), texts.get(name) or _joined(fields[8].split("|")))


def _iam_texts(root: Path) -> dict[str, str]:
    found = {}
    for path in sorted((root / "xml").glob("*.xml")):
        try:
            for line in ElementTree.parse(path).iter("line"):
                found[line.get("id", "")] = html.unescape(line.get("text", ""))  # escaped twice
        except ElementTree.ParseError as err:
            raise GotError(f"{path} is no valid XML ({err}); download it again.") from None
    return found


def _joined(words: list[str]) -> str:
    """Words and marks as lines.txt parts them, spaced as they were written."""
    text, opened = "", False
    for word in words:
        closing = word in {",", ".", ";", ":", "!", "?", ")", "...", "'s", "'ll", "n't"} or (word == '"' and opened)
        text += word if not text or closing or text[-1] == "(" or (text[-1] == '"' and opened) else f" {word}"
        opened ^= word == '"'
    return text


def _page_xml(root: Path) -> Iterator[HandLine]:
    pictures = {p.stem: p for p in sorted(root.rglob("*")) if p.suffix.lower() in PICTURES}
    for path in sorted(root.rglob("*.xml")):
        try:
            tree = ElementTree.parse(path).getroot()
        except ElementTree.ParseError as err:
            raise GotError(f"{path} is no valid XML ({err}); download it again.") from None
        name = lambda element: element.tag.rsplit("}", 1)[-1]
        page = next((e for e in tree.iter() if name(e) == "Page"), None)
        if page is None:
            continue  # METS and other files lie beside the pages
        stem = Path(page.get("imageFilename", path.name)).stem
        picture = pictures.get(stem) or pictures.get(path.stem)
        require(picture, f"the picture {page.get('imageFilename')} of {path} is missing; unpack the pictures too.")
        for element in (e for e in tree.iter() if name(e) == "TextLine"):
            points = next((e.get("points", "") for e in element if name(e) == "Coords"), "")
            texts = [e for e in element if name(e) == "TextEquiv"]
            text = next((e.text or "" for t in texts for e in t if name(e) == "Unicode"), "").strip()
            corners = tuple(tuple(int(float(v)) for v in point.split(",")) for point in points.split())
            if text and len(corners) >= 3:
                yield HandLine(str(picture), text, corners)


READERS = {"casia": _casia, "iam": _iam, "page": _page_xml}
