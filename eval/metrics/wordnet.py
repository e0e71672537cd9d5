"""WordNet for METEOR, from Debian's wordnet-base or nltk's own data; where there is none, METEOR has no synonyms."""

from __future__ import annotations

import functools
import io
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple, Protocol

DEBIAN = Path("/usr/share/wordnet")
MISSING = "WordNet is not installed, so METEOR finds no synonyms; run apt-get install wordnet-base."
FILES = 45  # of the lexicographers; their names do not matter here


class Lemma(Protocol):
    def name(self) -> str: ...


class Synset(Protocol):
    def lemmas(self) -> list[Lemma]: ...


class Synonyms(Protocol):
    """What METEOR asks of WordNet."""

    def synsets(self, word: str) -> list[Synset]: ...


class Nothing:
    """No synonyms: METEOR by words and stems alone."""

    def synsets(self, word: str) -> list[Synset]:
        return []


class _Names(NamedTuple):
    """A lemma by its name alone: nltk's hold the whole of WordNet."""

    text: str

    def name(self) -> str:
        return self.text


class _Sets(NamedTuple):
    words: tuple[_Names, ...]

    def lemmas(self) -> Any:
        return self.words


class _Cached:
    def __init__(self, reader: Any) -> None:
        self.reader = reader
        self.synsets = functools.lru_cache(maxsize=200_000)(self._synsets)

    def _synsets(self, word: str) -> list[Synset]:
        return [_Sets(tuple(_Names(lemma.name()) for lemma in found.lemmas())) for found in self.reader.synsets(word)]


def folder() -> Path | None:
    """Where WordNet's files lie: $WNSEARCHDIR, Debian's folder, or nltk's data; None: nowhere."""
    for place in (os.environ.get("WNSEARCHDIR"), DEBIAN):
        if place and (Path(place) / "index.noun").exists():
            return Path(place)
    import nltk

    try:
        return Path(str(nltk.data.find("corpora/wordnet")))
    except LookupError:
        return None


@functools.lru_cache(maxsize=1)
def synonyms() -> Synonyms:
    """WordNet, or nothing where it is not installed (`MISSING` says how to change that)."""
    place = folder()
    return _Cached(_reader(place)) if place else Nothing()


def _reader(place: Path) -> Any:
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    if str(place) not in nltk.data.path:
        nltk.data.path.append(str(place))  # nltk opens files under these folders alone

    class Debian(WordNetCorpusReader):
        """Debian leaves `lexnames` out, the list of names of the lexicographers' files."""

        def open(self, file: str) -> Any:
            if file == "lexnames" and not (place / file).exists():
                return io.StringIO("".join(f"{n:02}\tfile.{n}\t0\n" for n in range(FILES)))
            return super().open(file)

        def map_wn(self, version: str = "wordnet") -> None:
            """Needed for other languages alone, and from files that Debian has not."""

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other languages than English are not there
        return Debian(str(place), None)


def version() -> str:
    """What METEOR works with, for reports."""
    place = folder()
    return f"WordNet in {place}" if place else "without WordNet"
