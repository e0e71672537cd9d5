"""Is the label what stands in the picture? An independent reader reads clean pages back."""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from got_jax.errors import require
from got_jax.metrics import character_error_rate
from pipelines import layouts, readers, reading_order
from pipelines.documents import Documents
from pipelines.paper import from_png
from pipelines.regions import Regions

SAME = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "•": "*", "…": "...", "″": '"', "­": "-"}
)


def plain(text: str) -> str:
    """What is compared: no white space, full-width forms and typographic marks as their plain twins."""
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text.translate(SAME)).translate(SAME))


def report(language: str, reader: str, count: int, page_px: int = 2000) -> Iterator[str]:
    """Lines of a table: the character error rate of a reader on clean pages, for each layout and in all.

    A page that the reader gets wrong (over 2%) is read a second time block by block. Where that is right, the label's
    letters are, and the order is the question: readers take the columns of a table for columns of text.

    Args:
        page_px: large enough for the reader's eyes, for the label is judged here, not the reader.
    """
    require(reader in ("tesseract", "rapidocr"), f"reader '{reader}' is unknown; choose tesseract or rapidocr.")
    engine = Documents(languages=((language, 1.0),), pages=1.0, paragraphs=0.0, lines=0.0, effects=0.0, mixed=0.0)
    names = [n for n in layouts.LAYOUTS if layouts.suits(n, language)]
    whole: dict[str, list[tuple[str, str]]] = {name: [] for name in names}
    blocks: dict[str, list[tuple[str, str]]] = {name: [] for name in names}
    worst: dict[str, tuple[float, int]] = dict.fromkeys(names, (0.0, 0))
    for number in tqdm(range(count), desc=f"read {language} with {reader}", unit="page", disable=None):
        name = names[number % len(names)]
        example = dataclasses.replace(engine, layouts=(name,), page_px=page_px).example(7, number)
        pixels = from_png(example.images[0])
        pair = plain(example.text), plain(_read(pixels, language, reader))
        whole[name].append(pair)
        if character_error_rate([pair]) > 0.02:
            pair = pair[0], plain("".join(_read_blocks(pixels, example.meta["blocks"], language, reader)))
        blocks[name].append(pair)
        worst[name] = max(worst[name], (character_error_rate([pair]), number))
    columns = f"{'CER':>8} {'median':>8} {'by blocks':>9} {'worst':>8} (its index)"
    yield f"{'layout':12} {'pages':>5} {'characters':>10} {columns}"
    for name in [*names, "all"]:
        group = whole[name] if name != "all" else [pair for pairs in whole.values() for pair in pairs]
        parts = blocks[name] if name != "all" else [pair for pairs in blocks.values() for pair in pairs]
        if group:
            median = float(np.median([character_error_rate([pair]) for pair in group]))
            most, index = worst[name] if name != "all" else max(worst.values())
            yield (
                f"{name:12} {len(group):5} {sum(len(a) for a, _ in group):10,} {character_error_rate(group):8.2%} "
                f"{median:8.2%} {character_error_rate(parts):9.2%} {most:8.2%} ({index})"
            )


def regions(count: int, page_px: int = 2000) -> Iterator[str]:
    """Lines of a table: rapidocr reads clean pages' regions, cut out by their boxes, in thousandths, alone."""
    engine = Regions(sources=(("pages", 1.0),), by=(("box", 1.0),), effects=False, page_px=page_px)
    pairs: dict[str, list[tuple[str, str]]] = {}
    for number in tqdm(range(count), desc="read regions with rapidocr", unit="region", disable=None):
        example = engine.example(7, number)
        pixels = from_png(example.images[0])
        scale = np.array([pixels.shape[1], pixels.shape[0]] * 2) / 1000
        left, top, right, bottom = (np.array(json.loads(example.prompt.split("OCR")[0])) * scale).round().astype(int)
        part = pixels[top:bottom, left:right]
        pair = plain(example.text), plain(_read(readers.framed(part), example.meta["language"], "rapidocr", block=True))
        pairs.setdefault(f"{example.meta['language']} {example.meta['kind'].removeprefix('box ')}", []).append(pair)
    yield f"{'regions':12} {'count':>5} {'characters':>10} {'CER':>8} {'median':>8} {'all right':>9}"
    for name in [*sorted(pairs), "all"]:
        group = pairs[name] if name != "all" else [pair for found in pairs.values() for pair in found]
        errors = [character_error_rate([pair]) for pair in group]
        right = float(np.mean([error == 0 for error in errors]))
        letters = sum(len(a) for a, _ in group)
        yield (
            f"{name:12} {len(group):5} {letters:10,} {character_error_rate(group):8.2%} {np.median(errors):8.2%} "
            f"{right:9.1%}"
        )


def _read(pixels: UInt8[np.ndarray, "H W 3"], language: str, reader: str, block: bool = False) -> str:
    if reader == "tesseract":
        return "\n".join(readers.tesseract(pixels, language, block))
    found = readers.rapidocr(pixels)
    if block and pixels.shape[1] > pixels.shape[0] / 2:  # rows of a table, not columns of text
        found = [found[i] for i in reading_order.rows([line.box for line in found])]
    return "\n".join(line.text for line in found)


def _read_blocks(
    pixels: UInt8[np.ndarray, "H W 3"], blocks: list[dict[str, Any]], language: str, reader: str
) -> Iterator[str]:
    """Each block's own picture, white paper round it."""
    for block in blocks:
        left, top, right, bottom = (round(v) for v in block["boxes"][0])
        part = pixels[max(top, 0) : bottom, max(left, 0) : right]
        yield _read(readers.framed(part), language, reader, block=True)
