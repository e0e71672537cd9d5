"""Posters: columns of texts, formulas, tables and charts that other engines made, with the place of each."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from got_jax.data.example import Engine
from pipelines.charts import Charts
from pipelines.formulas import Formulas
from pipelines.paper import from_png
from pipelines.prose import Languages
from pipelines.tables import Tables
from pipelines.tries import Unusable

LABELS = ("text", "formula", "table", "chart")
SHARES = (0.45, 0.2, 0.2, 0.15)
TABLES = 4  # of a poster at most, and of each kind but texts


def draw(
    rng: np.random.Generator, seed: int, index: int, split: str, language: str, block: int
) -> tuple[UInt8[np.ndarray, "H W 3"], list[dict[str, Any]]]:
    """A poster, read column by column, and its blocks: label, text and boxes in pixels.

    Args:
        block: how many tables one run of LaTeX sets.

    Raises:
        Unusable: when hardly anything stands on it.
    """
    spoken: Languages = ((language, 1.0),)
    sources: tuple[Engine, ...] = (
        Formulas(split, prose=1.0, languages=spoken, size_px=(18, 26), most_px=900, effects=0.0),
        Formulas(split, prose=0.0, languages=spoken, size_px=(18, 30), most_px=900, effects=0.0),
        Tables(split, spoken, columns=(2, 5), effects=0.0, block=block),
        Charts(split, spoken, renderers=(("echarts", 1.0),), effects=0.0),
    )
    wide = int(rng.integers(2, 4))
    column_px = int(rng.integers(760, 960))
    tall = int(column_px * wide * rng.uniform(0.55, 1.1))
    ground = 255 if rng.random() < 0.6 else int(rng.integers(225, 255))
    columns: list[np.ndarray] = []
    blocks: list[dict[str, Any]] = []
    used = [0] * len(sources)
    for number in range(wide):
        parts: list[np.ndarray] = [np.full((int(rng.integers(20, 70)), column_px, 3), ground, np.uint8)]
        while (down := sum(map(len, parts))) < tall:
            kind = int(rng.choice(len(sources), p=SHARES))
            kind = 0 if used[kind] == TABLES else kind
            made = sources[kind].example(seed, index * (TABLES if LABELS[kind] == "table" else 100) + used[kind])
            used[kind] += 1
            pixels = from_png(made.images[0])
            scale = min(1.0, (column_px - 40) / pixels.shape[1])
            if scale < 0.6:
                continue
            if scale < 1:
                pixels = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
            if down + len(pixels) > 1.15 * tall:
                break
            spare = column_px - pixels.shape[1]
            left, top, width, height = cv2.boundingRect((pixels.min(-1) < 200).astype(np.uint8))
            x, y = number * column_px + spare // 2 + left, down + top
            shown = np.minimum(pixels, ground).astype(np.uint8)
            parts.append(padded(shown, 0, int(rng.integers(15, 45)), spare // 2, spare - spare // 2, ground))
            blocks.append({"label": LABELS[kind], "text": made.text, "boxes": [[x, y, x + width, y + height]]})
        columns.append(np.concatenate(parts))
    high = max(map(len, columns))
    if len(blocks) < 3:
        raise Unusable("the poster is nearly empty.")
    return np.concatenate([padded(column, 0, high - len(column), 0, 0, ground) for column in columns], axis=1), blocks


def padded(
    pixels: UInt8[np.ndarray, "H W 3"], top: int, bottom: int, left: int, right: int, value: int = 255
) -> UInt8[np.ndarray, "H W 3"]:
    """With a margin of one tone."""
    return np.asarray(
        cv2.copyMakeBorder(pixels, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(value, value, value))
    )
