"""SCRM: how much of a chart's data was read, at three tolerances.

Source: OneChart `ChartSE_eval` after StructChart (2309.11268); EVALUATION_FACTS.md 2.2. A chart's values are triples
of two names and a value; a predicted triple is right when its names and value are within the tolerance of a true one.
The similarity of a chart is what is in both over what is in either; AP is the mean over thresholds 0.50, 0.55 ... 0.95
of the share of charts that reach them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from rapidfuzz.distance import Levenshtein
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from got_jax.errors import GotError, require

Mode = Literal["paper", "correct"]
TOLERANCES = {"strict": (0, 0.0), "slight": (2, 0.05), "high": (5, 0.1)}  # characters of the names, share of the value
TITLES = ("title", "source", "x_title", "y_title")
ABSENT = "None"
Triple = tuple[str, str, float | str]


@dataclass(frozen=True)
class Chart:
    """What stands in a chart: titles by name ("None" where there is none) and values, flat or by series."""

    titles: dict[str, Any]
    values: dict[str, Any]


def read(text: str) -> Chart:
    """A chart's dict, with closing braces added where the text ends before them.

    Raises:
        GotError: when it is no JSON object with OneChart's five keys (`data` may stand for `values`).
    """
    try:
        found = json.loads(text + "}" * max(0, text.count("{") - text.count("}")))
    except (ValueError, RecursionError) as err:
        raise GotError(f"the answer is no JSON ({err}).") from None
    return chart(found)


def chart(found: Any) -> Chart:
    """A chart from parsed JSON. Raises GotError as `read` does."""
    require(isinstance(found, dict), "the answer is no JSON object.")
    missing = [key for key in TITLES if key not in found]
    require(not missing, f"the answer has no {', '.join(missing)}.")
    values = found.get("values", found.get("data"))
    require(isinstance(values, dict), "the answer has no values by name.")
    return Chart({key: found[key] for key in TITLES}, values)  # type: ignore[arg-type]


def triples(values: dict[str, Any]) -> list[Triple]:
    """(series, name, value) in lower case; ("name", "value", value) where there are no series."""
    flat: list[tuple[str, str, Any]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            flat += [(key, name, inner) for name, inner in value.items()]
        else:
            flat.append((key, "value", value))
    return [(str(a).lower(), str(b).lower(), _number(value)) for a, b, value in flat]


def _number(value: Any) -> float | str:
    """Digits, points and dashes of a value, as a number where they are one."""
    text = re.sub(r"[^\d.-]", "", str(value))
    try:
        return float(text)
    except ValueError:
        return text


def similarity(predicted: dict[str, Any], truth: dict[str, Any], tolerance: str, mode: Mode = "correct") -> float:
    """Of one chart, from 0 to 1.

    `paper`: a name within the other counts as the same, several predictions may match one truth (and leave the union,
    so that the value may exceed 1), and names beyond the shorter list stay unsorted, as published. `correct`: one to
    one, by names and values alone.
    """
    mine, theirs = triples(predicted), triples(truth)
    return _published(mine, theirs, tolerance) if mode == "paper" else _matched(mine, theirs, tolerance)


def _published(mine: list[Triple], theirs: list[Triple], tolerance: str) -> float:
    for i in range(min(len(mine), len(theirs))):
        mine[i], theirs[i] = _sorted(mine[i], theirs[i][1] == "value"), _sorted(theirs[i])
    found, true = set(mine), set(theirs)
    right = {p for p in found if any(_same(p, t, tolerance, inside=True) for t in true)}
    either = (found | true) - (right - (found & true))
    return len(right) / len(either) if either else 1.0


def _matched(mine: list[Triple], theirs: list[Triple], tolerance: str) -> float:
    flat = any(triple[1] == "value" for triple in theirs)
    found = sorted({_sorted(p, flat) for p in mine}, key=str)
    true = sorted({_sorted(t) for t in theirs}, key=str)
    if not found or not true:
        return float(not found and not true)
    fits = np.array([[_same(p, t, tolerance, inside=False) for t in true] for p in found])
    right = int((maximum_bipartite_matching(csr_matrix(fits), perm_type="column") >= 0).sum())
    return right / (len(found) + len(true) - right)


def _sorted(triple: Triple, flat: bool = False) -> Triple:
    """Names in alphabetic order, so that a table and its transpose agree; a flat truth has no series."""
    first, second, value = triple
    if flat and "value" not in (first, second):
        second = "value"
    first, second = sorted((first, second))
    return first, second, value


def _same(p: Triple, t: Triple, tolerance: str, inside: bool) -> bool:
    letters, share = TOLERANCES[tolerance]
    if isinstance(p[2], float) and isinstance(t[2], float):
        if not abs(p[2] - t[2]) / (abs(t[2]) + 1e-6) <= share:
            return False
        a, b = p[0] + p[1], t[0] + t[1]
        return Levenshtein.distance(a, b) <= letters or (inside and (a in b or b in a))
    return Levenshtein.distance("".join(map(str, p)), "".join(map(str, t))) <= letters


def average_precision(similarities: Sequence[float], mode: Mode = "correct") -> float:
    """Mean over ten thresholds of the share of charts that reach them; 0 for no charts.

    `paper`: 0.6, 0.75 ... are a bit more than that in floating point, so a chart of exactly 0.6 fails its threshold.
    """
    if not similarities:
        return 0.0
    near = 0.0 if mode == "paper" else 1e-9
    shares = [np.mean([s >= t - near for s in similarities]) for t in np.arange(0.5, 1, 0.05)]
    return float(np.mean(shares))


def title_score(predicted: Any, truth: Any) -> float | None:
    """1 - edit distance over the longer length, in lower case; None where the truth is "None" (not counted)."""
    truths = [str(t) for t in truth] if isinstance(truth, list) else [str(truth)]
    if all(t == ABSENT for t in truths):
        return None
    guesses = [str(p) for p in predicted] if isinstance(predicted, list) and predicted else [str(predicted)]
    if len(guesses) == 1 and guesses[0] != ABSENT and ABSENT not in truths:
        return max(_likeness(guesses[0], t) for t in truths)
    pairs = [(guesses[i] if i < len(guesses) else guesses[0], t) for i, t in enumerate(truths) if t != ABSENT]
    return sum(0.0 if p == ABSENT else _likeness(p, t) for p, t in pairs) / len(pairs)


def _likeness(a: str, b: str) -> float:
    return Levenshtein.normalized_similarity(a.lower(), b.lower())
