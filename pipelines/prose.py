"""Running text for the engines: endless paragraphs of one corpus, cut to what a font can show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from got_jax.errors import require
from pipelines import corpora, fonts
from pipelines.typeset import atoms

UNSPACED = ("zh", "ja")  # languages that part words by nothing
Languages = tuple[tuple[str, float], ...]  # (language, weight)
HALF: Languages = (("en", 0.5), ("zh", 0.5))  # half English, half Chinese, as in GOT's stage 1


def check_languages(engine: str, languages: Languages, known: tuple[str, ...] = fonts.LANGUAGES) -> None:
    """Raises GotError, in the engine's name, for no languages, unknown ones, or weights that are none."""
    require(
        bool(languages) and all(weight > 0 for _, weight in languages),
        f"{engine}: languages is {languages}; give (language, weight) pairs with weights above 0.",
    )
    for language, _ in languages:
        require(language in known, f"{engine}: language '{language}' is unknown; choose from {', '.join(known)}.")


def weighted(rng: np.random.Generator, pairs: Sequence[tuple[str, float]]) -> str:
    """One of the names (languages, say) by its weight; a single one costs no draw."""
    if len(pairs) == 1:
        return pairs[0][0]
    weights = np.array([weight for _, weight in pairs])
    return pairs[rng.choice(len(weights), p=weights / weights.sum())][0]


def left_out(corpus: str, languages: Languages) -> tuple[str, ...]:
    """Why files of an engine's corpus folder are left out, if it has one."""
    return tuple(why for language, _ in languages if corpus for why in corpora.faults(corpus, language))


@dataclass(frozen=True)
class Prose:
    """Where text comes from.

    Attributes:
        split: "train" or "held_out", of the embedded corpora.
        corpus: a folder of .txt, .jsonl or .pdf files instead of them, in the language asked for.
        mixed: share of texts in another script than the Latin whose paragraphs are partly English.
    """

    split: str = "train"
    corpus: str = ""
    mixed: float = 0.0

    def paragraphs(self, rng: np.random.Generator, font: fonts.Typeface, language: str) -> Iterator[list[str]]:
        """Endless paragraphs, from a random place of a random text on, English ones between in a mixed text.

        Yields:
            Words; atoms in Chinese and Japanese (`typeset.atoms`); of "code" the whole paragraph, its lines parted by
            `corpora.NEWLINE`.
        """
        texts = corpora.folder(self.corpus, language) if self.corpus else corpora.split(self.split, language)
        text = texts[rng.integers(len(texts))]
        at = int(rng.integers(len(text)))
        cut = atoms if language in UNSPACED else str.split
        other = None
        if self.mixed and language not in (*fonts.LATIN, "code") and rng.random() < self.mixed:
            other = Prose(self.split).paragraphs(rng, font, "en")
        shown = 0
        for turn in range(10**9):
            if other and rng.random() < 0.4:
                words = cut(" ".join(next(other)))
            elif language == "code":
                words = [text[(at + turn) % len(text)]]
            else:
                words = cut(font.shown(text[(at + turn) % len(text)]))
            shown += bool(words)
            require(
                shown or turn < len(text),
                f"font {font.face.name} shows no character of the corpus in '{language}'; is it another language's?",
            )
            if words:
                yield words
