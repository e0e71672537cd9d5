"""Whether LaTeX set the same page again: its letters exactly, its ink to less than a pixel.

Where a page stands in a run of LaTeX may move its letters below a pixel (PDF rounds places from where it was before).
"""

from __future__ import annotations

import zlib
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from pipelines.backends.latex import Page

FIELDS = 32  # a page is looked at in so many fields each way
MOST, MOST_FIELDS, MOVED = 16, 10, 2  # tones that a field may differ; fields that may differ by more than `MOVED`


def seal(page: Page, ink: UInt8[np.ndarray, "H W"]) -> dict[str, Any]:
    """What `meta` keeps of a page with this ink: how dark each of its fields is, and a sum of its letters."""
    fields = cv2.resize(ink, (FIELDS, FIELDS), interpolation=cv2.INTER_AREA)
    return {"ink": fields.tobytes().hex(), "letters": zlib.crc32(page.text().encode())}


def broken(page: Page, ink: UInt8[np.ndarray, "H W"], meta: dict[str, Any]) -> bool:
    """Whether the page is another one than that which `meta` holds the seal of."""
    seen = seal(page, ink)
    now, was = (np.frombuffer(bytes.fromhex(text), np.uint8).astype(int) for text in (seen["ink"], meta["ink"]))
    far = np.abs(now - was)
    return bool(seen["letters"] != meta["letters"] or far.max() > MOST or (far > MOVED).sum() >= MOST_FIELDS)
