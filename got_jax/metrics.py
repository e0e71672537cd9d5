"""Character error rate, the figure that training watches. The benchmarks' metrics live in `eval/metrics`."""

from __future__ import annotations

from collections.abc import Iterable

from rapidfuzz.distance import Levenshtein


def character_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Edits needed to turn the answers into the truths, per character of truth; `pairs` are (truth, answer).

    Summed over all pairs before dividing, so long texts count more. Line breaks are characters like any other.
    """
    edits = chars = 0
    for truth, answer in pairs:
        edits += Levenshtein.distance(truth, answer)
        chars += len(truth)
    return edits / max(chars, 1)
