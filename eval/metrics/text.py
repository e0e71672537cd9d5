"""Text metrics of Fox's and GOT's scripts: BLEU, METEOR, precision, recall, F1, edit distance.

Sources: Fox `eval_ocr_test.py`, GOT `eval_ocr.py` and `eval_ocr_scene.py` (EVALUATION_FACTS.md 2.1). Nothing is
normalised: no case, width or white space is folded.
"""

from __future__ import annotations

import functools
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from nltk.translate.meteor_score import single_meteor_score
from rapidfuzz.distance import Levenshtein

from eval.metrics.wordnet import Synonyms, synonyms

Unit = Literal["words", "characters"]
HAN = re.compile(r"[\u4e00-\u9fa5]")
RUN = re.compile(r"([\u4e00-\u9fd5a-zA-Z0-9+#&._%\-]+)")  # jieba's own
NAMES = ("bleu", "meteor", "f1", "precision", "recall", "edit_distance")
MULTISET = ("multiset_f1", "multiset_precision", "multiset_recall")
ORDERS = 4  # BLEU-4


def tokens(one: str, other: str, unit: Unit = "words") -> tuple[list[str], list[str]]:
    """Both texts cut up: by jieba where either holds a Chinese character, else by white space; or in characters."""
    if unit == "characters":
        return list(one), list(other)
    if HAN.search(one) or HAN.search(other):
        return list(_jieba(one)), list(_jieba(other))
    return one.split(), other.split()


def _jieba(text: str) -> tuple[str, ...]:
    """`jieba.lcut`. It cuts each run of Chinese and Latin by itself, and two readings of a page share most runs."""
    return tuple(word for run in RUN.split(text) if run for word in _words(run))


@functools.lru_cache(maxsize=200_000)
def _words(run: str) -> tuple[str, ...]:
    return tuple(_segmenter().lcut(run))


@functools.lru_cache(maxsize=1)
def _segmenter() -> Any:
    import logging

    import jieba

    jieba.setLogLevel(logging.ERROR)
    return jieba


def bleu(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    """nltk's `sentence_bleu([reference], hypothesis)`: BLEU-4, not smoothed; orders without a match count 2e-308."""
    return bleu_both(reference, hypothesis)[0]


def bleu_both(one: Sequence[str], other: Sequence[str]) -> tuple[float, float]:
    """(BLEU of `other` against `one`, BLEU of `one` against `other`): both ways share the n-grams in common."""
    common = []
    for n in range(1, ORDERS + 1):
        a, b = (Counter(zip(*(words[i:] for i in range(n)), strict=False)) for words in (one, other))
        small, large = (a, b) if len(a) <= len(b) else (b, a)
        common.append(sum(min(count, large[gram]) for gram, count in small.items() if gram in large))
    return _bleu(common, len(one), len(other)), _bleu(common, len(other), len(one))


def _bleu(common: Sequence[int], reference: int, hypothesis: int) -> float:
    if common[0] == 0:
        return 0.0
    terms = []
    for n, matched in enumerate(common):
        share = matched / max(1, hypothesis - n) if matched else sys.float_info.min
        terms.append(math.log(share) / ORDERS)
    brevity = 1.0 if hypothesis > reference else math.exp(1 - reference / hypothesis)
    return brevity * math.exp(math.fsum(terms))


def meteor(reference: Sequence[str], hypothesis: Sequence[str], known: Synonyms | None = None) -> float:
    """nltk's METEOR: exact words, then Porter stems, then WordNet synonyms (none where WordNet is not installed)."""
    known = synonyms() if known is None else known
    return float(single_meteor_score(reference, hypothesis, stemmer=_stemmer(), wordnet=known))  # type: ignore[arg-type]


@functools.lru_cache(maxsize=1)
def _stemmer() -> Any:
    from nltk.stem import PorterStemmer

    class Cached:
        stem = staticmethod(functools.lru_cache(maxsize=200_000)(PorterStemmer().stem))

    return Cached()


def set_scores(reference: Iterable[str], hypothesis: Iterable[str]) -> tuple[float, float, float]:
    """(precision, recall, F1) of the SETS of tokens, as the scripts take them; empty sets score 0."""
    truth, found = set(reference), set(hypothesis)
    return _scores(len(truth & found), len(truth), len(found))


def multiset_scores(reference: Iterable[str], hypothesis: Iterable[str]) -> tuple[float, float, float]:
    """(precision, recall, F1) of the tokens, each counted as often as it stands."""
    truth, found = Counter(reference), Counter(hypothesis)
    return _scores((truth & found).total(), truth.total(), found.total())


def _scores(common: int, truth: int, found: int) -> tuple[float, float, float]:
    precision, recall = common / max(found, 1), common / max(truth, 1)
    return precision, recall, 1 / (0.5 / precision + 0.5 / recall) if common else 0.0


def edit_distance(label: str, answer: str) -> float:
    """Levenshtein distance in characters over the longer length; 0 for two empty texts."""
    return Levenshtein.normalized_distance(label, answer)


class Row(TypedDict):
    """A row's scores by metric; `paper` None: the published scripts leave the row out."""

    paper: dict[str, float] | None
    correct: dict[str, float]


def score(label: str, answer: str, unit: Unit = "words") -> Row:
    """Both modes of a row.

    `paper`: label and answer change places, as in the published scripts, so that "precision" is in truth the recall.
    None: the script leaves the row out (an empty text) or stops at it (white space alone).
    `correct`: the right order. Nothing read of a text scores nothing; nothing read where nothing stands is right.
    """
    truth, read = tokens(label, answer, unit)
    distance = edit_distance(label, answer)
    if not label or not answer or not truth or not read:
        same = float(not truth and not read)
        return {"paper": None, "correct": dict.fromkeys(NAMES + MULTISET, same) | {"edit_distance": distance}}
    ahead, back = bleu_both(truth, read)
    precision, recall, f1 = set_scores(truth, read)
    common = {"f1": f1, "edit_distance": distance}
    right = {"bleu": ahead, "meteor": meteor(truth, read), "precision": precision, "recall": recall, **common}
    swapped = {"bleu": back, "meteor": meteor(read, truth), "precision": recall, "recall": precision, **common}
    counted = zip(("multiset_precision", "multiset_recall", "multiset_f1"), multiset_scores(truth, read), strict=True)
    return {"paper": swapped, "correct": right | dict(counted)}


def mean(rows: Iterable[Mapping[str, float] | None]) -> dict[str, float]:
    """The unweighted mean of each metric over the rows that have scores; nothing for no rows."""
    scored = [row for row in rows if row is not None]
    return {name: math.fsum(row[name] for row in scored) / len(scored) for name in (scored[0] if scored else ())}
