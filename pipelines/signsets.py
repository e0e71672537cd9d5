"""Photographs with marked texts, as RCTW-17, ReCTS, ShopSign and COCO-Text are downloaded.

rctw: image_0.jpg beside image_0.txt: eight numbers, difficulty (0 or 1), "text" a line
rects: img/train_0.jpg, gt/train_0.json: {"chars": ..., "lines": [{"points": [8], "transcription", "ignore"}]}
shopsign: like rctw; without a difficulty, or without quotes, also where the text holds commas
coco: one .json with "imgs", "anns" ({"image_id", "bbox": [x, y, width, height], "utf8_string", "legibility"}), pictures
    anywhere below

Texts that are marked as hard to read, or are ###, are no regions but must not lie in one.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from got_jax.errors import GotError, require
from pipelines.photos import SUFFIXES

EXIF_ORIENTATION = 0x0112
CORNERS = re.compile(r"((?:\s*-?\d+(?:\.\d+)?\s*,){7}\s*-?\d+(?:\.\d+)?)\s*,(.*)")


@dataclass(frozen=True)
class Sign:
    """A marked text: left, top, right, bottom in pixels round its corners, and its text, "" if that is not told."""

    box: tuple[float, float, float, float]
    text: str


@dataclass(frozen=True)
class Photo:
    """A picture's path and its signs."""

    path: Path
    signs: tuple[Sign, ...]


Found = Iterator[tuple[str, Path | None, list[tuple[list[float], str]]]]  # where it is told, picture, (corners, text)


@functools.lru_cache(maxsize=4)
def photos(folder: str, format: str) -> tuple[tuple[Photo, ...], tuple[str, ...]]:
    """The pictures with at least one readable text, and why pictures and texts are left out.

    Left out, never mended: texts whose box is empty, inverted or outside the picture; pictures that are missing or
    cannot be read; annotations that are none.

    Raises:
        GotError: for an unknown format, or when nothing can be used.
    """
    require(format in READERS, f"format '{format}' is unknown; choose {', '.join(READERS)}.")
    require(Path(folder).is_dir(), f"{folder} is no folder; give the one that the data set was unpacked into.")
    good: list[Photo] = []
    bad: list[str] = []
    for told, path, marked in READERS[format](Path(folder), bad):
        if path is None:
            bad.append(f"{told}: its picture is missing")
            continue
        try:
            with Image.open(path) as picture:
                width, height = picture.size
                turned = picture.getexif().get(EXIF_ORIENTATION, 1) != 1
        except (OSError, ValueError, Image.DecompressionBombError):
            bad.append(f"{path}: it cannot be read as a picture")
            continue
        if turned:
            bad.append(f"{path}: it is to be shown turned, and its boxes may not be")
            continue
        signs = []
        for corners, text in marked:
            xs, ys = corners[::2], corners[1::2]
            box = (min(xs), min(ys), max(xs), max(ys))
            if box[0] >= box[2] or box[1] >= box[3]:
                bad.append(f"{told}: the box of {text[:30]!r} is empty")
            elif box[0] < -1 or box[1] < -1 or box[2] > width + 1 or box[3] > height + 1:
                bad.append(f"{told}: the box of {text[:30]!r} reaches outside the picture")
            else:
                inside = (max(0.0, box[0]), max(0.0, box[1]), min(float(width), box[2]), min(float(height), box[3]))
                signs.append(Sign(inside, text))
        if any(sign.text for sign in signs):
            good.append(Photo(path, tuple(signs)))
        else:
            bad.append(f"{told}: it has no readable text")
    if not good:
        why = f"the first: {bad[0]}" if bad else "give the folder with pictures and annotations"
        raise GotError(f"{folder} holds no usable photograph of format {format}; {why}.")
    return tuple(good), tuple(bad)


def _beside(path: Path, folders: tuple[Path, ...]) -> Path | None:
    for folder in folders:
        for suffix in (*SUFFIXES, *map(str.upper, SUFFIXES)):
            if (found := folder / f"{path.stem}{suffix}").exists():
                return found
    return None


def _text_files(folder: Path, bad: list[str]) -> Found:
    """RCTW-17's and ShopSign's text files."""
    for path in sorted(folder.rglob("*.txt")):
        marked = []
        try:
            lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        except OSError as err:
            bad.append(f"{path}: it cannot be read ({err.strerror})")
            continue
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            found = CORNERS.fullmatch(line.strip())
            if not found:
                bad.append(f"{path} line {number}: it is not eight numbers and a text")
                continue
            hard, text = _hard(found[2])
            marked.append(([float(v) for v in found[1].split(",")], "" if hard else text))
        if marked:
            yield str(path), _beside(path, (path.parent, path.parent.parent, *_image_folders(folder))), marked


def _hard(rest: str) -> tuple[bool, str]:
    """Whether a text is hard to read, and the text: after a 0 or 1, if there is one, with or without quotes."""
    found = re.fullmatch(r"\s*([01])\s*,(.+)", rest)
    hard, text = (found[1] == "1", found[2]) if found else (False, rest)
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return hard or text == "###", text


@functools.lru_cache(maxsize=16)
def _image_folders(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted({path.parent for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES}))


def _rects(folder: Path, bad: list[str]) -> Found:
    for path in sorted(folder.rglob("*.json")):
        try:
            lines = json.loads(path.read_text(encoding="utf-8-sig"))["lines"]
            marked = [
                ([float(v) for v in line["points"]], "" if line.get("ignore") else _told(line["transcription"]))
                for line in lines
                if len(line["points"]) == 8
            ]
        except (OSError, ValueError, KeyError, TypeError):
            bad.append(f"{path}: it is no annotation of ReCTS")
            continue
        if marked:
            yield str(path), _beside(path, (path.parent.parent / "img", path.parent, *_image_folders(folder))), marked


def _told(text: str) -> str:
    return "" if text.strip() == "###" else text.strip()


def _coco(folder: Path, bad: list[str]) -> Found:
    where = {path.name: path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES}
    for path in sorted(folder.rglob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
            images: dict[str, Any] = content["imgs"]
            texts: dict[str, list[tuple[list[float], str]]] = {}
            for mark in content["anns"].values():
                x, y, width, height = (float(v) for v in mark["bbox"])
                legible = mark.get("legibility", "legible") == "legible"
                text = _told(str(mark.get("utf8_string", ""))) if legible else ""
                texts.setdefault(str(mark["image_id"]), []).append(([x, y, x + width, y + height], text))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            bad.append(f"{path}: it is no annotation of COCO-Text")
            continue
        for key in texts.keys() - images.keys():
            bad.append(f"{path}: texts belong to picture {key}, which it does not name")
        for key, image in images.items():
            if key in texts:
                name = Path(str(image["file_name"])).name
                yield f"{path} picture {name}", where.get(name), texts[key]


READERS: dict[str, Callable[[Path, list[str]], Found]] = {
    "rctw": _text_files,
    "rects": _rects,
    "shopsign": _text_files,
    "coco": _coco,
}
