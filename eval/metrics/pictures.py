"""How alike the pictures of two TikZ answers are: intersection over union of their ink where they fit best.

The pictures are drawn by the TeX-free rasteriser of the geometry engine: model output never reaches TeX.
"""

from __future__ import annotations

from got_jax.errors import GotError
from pipelines import tikz

SCALE = 2.0  # pixels a PDF point
MOST_PX = 4_000_000


def tikz_likeness(label: str, answer: str) -> float | None:
    """From 0 to 1; 0 for an answer that cannot be drawn, None for a label that cannot (not counted)."""
    try:
        truth = tikz.cover(label, SCALE)
    except GotError:
        return None
    try:
        found = tikz.cover(answer, SCALE)
    except GotError:
        return 0.0
    return tikz.agreement(truth, found) if found.size <= MOST_PX else 0.0
