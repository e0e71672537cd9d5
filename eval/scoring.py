"""Scores many rows: on all cores where there are enough of them, with a progress bar.

python -m eval.scoring --pairs 10000 --language en     # how long that takes here
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

from eval.metrics import text, wordnet
from got_jax.errors import GotError, require

WORTH = 400  # rows from which on a second process pays for its start
CHUNK = 50


def score_texts(
    pairs: Iterable[tuple[str, str]], unit: text.Unit = "words", processes: int | None = None
) -> list[text.Row]:
    """`text.score` of (label, answer) pairs, in order; by `processes` (default: all cores for many pairs)."""
    return spread(_score, [(label, answer, unit) for label, answer in pairs], processes)


def _score(row: tuple[str, str, text.Unit]) -> text.Row:
    return text.score(*row)


def spread(function: Callable[[Any], Any], rows: Sequence[Any], processes: int | None = None) -> list[Any]:
    """`function` of every row, in order. New processes are spawned, for forks of JAX's threads may hang."""
    if processes is None:
        processes = (os.cpu_count() or 1) if len(rows) >= WORTH else 1
    show = {"desc": "score", "unit": "row", "total": len(rows), "disable": None if len(rows) >= WORTH else True}
    if processes == 1:
        return list(tqdm(map(function, rows), **show))
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawned) as pool:
        return list(tqdm(pool.map(function, rows, chunksize=CHUNK), **show))


def page_pairs(count: int, characters: int, language: str) -> list[tuple[str, str]]:
    """(label, answer) pairs: windows of the corpus, and the same with 3% of the characters wrong."""
    from pipelines.corpora import SCRIPTS, split

    require(language in SCRIPTS, f"language '{language}' is unknown; choose one of {', '.join(SCRIPTS)}.")
    whole = "\n".join(paragraph for document in split("held_out", language) for paragraph in document)
    require(len(whole) > 2 * characters, f"the corpus of '{language}' is too short for {characters} characters.")
    rng = np.random.default_rng(0)
    pairs = []
    for start in rng.integers(0, len(whole) - characters, count):
        label = whole[start : start + characters]
        letters = np.array(list(label))
        wrong = rng.random(characters) < 0.03
        letters[wrong] = rng.permutation(letters)[wrong]
        pairs.append((label, "".join(letters)))
    return pairs


def difference(pairs: Iterable[tuple[str, str]]) -> float:
    """The largest difference between our scores of these pairs and nltk's own."""
    import nltk
    from nltk.translate.meteor_score import meteor_score

    worst = 0.0
    for label, answer in pairs:
        truth, read = text.tokens(label, answer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = {
                "bleu": float(nltk.translate.bleu([truth], read)),  # type: ignore[arg-type]
                "meteor": float(meteor_score([truth], read, wordnet=wordnet.synonyms())),  # type: ignore[arg-type]
                "edit_distance": nltk.edit_distance(label, answer) / max(len(label), len(answer)),
            }
        got = text.score(label, answer)["correct"]
        worst = max(worst, *(abs(got[name] - expected[name]) for name in expected))
    return worst


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m eval.scoring",
        description="Times the text metrics, both modes, on pairs of pages, and compares a sample with nltk.",
    )
    parser.add_argument("--pairs", type=int, default=10_000, metavar="N")
    parser.add_argument("--characters", type=int, default=2000, metavar="N", help="of a page (default: 2000)")
    parser.add_argument("--language", default="en", help="of the corpus (default: en)")
    args = parser.parse_args(argv)
    try:
        require(args.pairs >= 1 and args.characters >= 10, "--pairs must be at least 1, --characters at least 10.")
        pairs = page_pairs(args.pairs, args.characters, args.language)
    except GotError as err:
        print(f"eval: {err}", file=sys.stderr)
        return 2
    begun = time.monotonic()
    scored = score_texts(pairs)
    seconds = time.monotonic() - begun
    worst = difference((label[:400], answer[:400]) for label, answer in pairs[:20])
    average = math.fsum(row["correct"]["edit_distance"] for row in scored) / len(scored)
    print(
        f"{len(pairs):,} pairs of {args.characters:,} characters ({args.language}) scored in both modes in "
        f"{seconds:.1f} s on {os.cpu_count()} cores; mean edit distance {average:.4f}; {wordnet.version()}; at most "
        f"{worst:.1e} from nltk"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
