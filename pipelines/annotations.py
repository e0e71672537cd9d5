"""An example's blocks as an answer with boxes: from pixels in `meta["blocks"]` to `got_jax.blocks`.

Source: DeepSeek-OCR 3.4.1: coarse annotations are text alone, fine ones interleave layout and content.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from got_jax.blocks import MARK, Block, Box, write
from pipelines.tries import Unusable


def thousandths(box: Sequence[float], size: tuple[int, int]) -> Box:
    """A box in pixels of a picture of `size` (width, height), rounded outwards so that it still holds its ink.

    Raises:
        Unusable: for a box that is empty or reaches outside the picture by more than a pixel.
    """
    width, height = size
    if not (-1 <= box[0] < box[2] <= width + 1 and -1 <= box[1] < box[3] <= height + 1):
        raise Unusable(f"box {[round(v) for v in box]} is empty or outside the picture of {width} x {height} pixels.")
    low = (max(0, math.floor(box[0] / width * 1000)), max(0, math.floor(box[1] / height * 1000)))
    return *low, min(1000, math.ceil(box[2] / width * 1000)), min(1000, math.ceil(box[3] / height * 1000))


def blocks_of(found: Sequence[dict[str, Any]], size: tuple[int, int], fine: bool) -> list[Block]:
    """Blocks of `meta["blocks"]`, their boxes in thousandths.

    Args:
        fine: keep labels; otherwise every block is "text", and those without any are left out.

    Raises:
        Unusable: for a text that spells a mark, or a bad box.
    """
    made = []
    for block in found:
        if MARK.search(block["text"]):
            raise Unusable("a text of the page spells a mark.")
        if not fine and not block["text"]:
            continue
        boxes = tuple(thousandths(box, size) for box in block["boxes"])
        made.append(Block(block["label"] if fine else "text", boxes, block["text"]))
    return made


def annotated(found: Sequence[dict[str, Any]], shape: tuple[int, ...]) -> str:
    """The coarse answer with boxes of a picture of this shape."""
    return write(blocks_of(found, (shape[1], shape[0]), fine=False))
