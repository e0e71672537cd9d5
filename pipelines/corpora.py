"""Text that the engines typeset: embedded corpora in eight languages, and any folder of .txt, .jsonl or .pdf files.

A corpus is a tuple of paragraphs. `texts/manifest.json` lists the embedded ones with language, origin, licence, hash
and the set ("train" or "held_out") each belongs to: the split is by name, so a held-out text never enters training.

    python -m pipelines.corpora build      # rebuild texts/ from Debian's documentation packages
    python -m pipelines.corpora list
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import lzma
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from got_jax.errors import GotError, require

TEXTS = Path(__file__).parent / "texts"
# What every Latin text font of the manifest can show: Basic Latin, Latin-1 letters, and typographic punctuation.
ALPHABET = frozenset(map(chr, (*range(0x20, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)))) | frozenset("–—‘’“”•…")
SHORTEST_PARAGRAPH = 40
HAN, KANA, HANGUL = "\u3400-\u4dbf\u4e00-\u9fff", "\u3040-\u30ff", "\uac00-\ud7a3"


@dataclass(frozen=True)
class Script:
    """How a language's paragraphs are told from others.

    Attributes:
        letters: its letters, as a regular expression's class; they are `share` of a paragraph at least.
        also: what a paragraph may hold besides `ALPHABET`, as a class.
        words: small words, of which a paragraph in a Latin alphabet has more than of the English ones.
        shortest: characters of the shortest paragraph.
    """

    letters: str = ""
    also: str = ""
    share: float = 0.5
    words: frozenset[str] = frozenset()
    shortest: int = SHORTEST_PARAGRAPH

    @functools.cached_property
    def known(self) -> re.Pattern[str]:
        """A paragraph of nothing but known characters."""
        return re.compile(f"[{re.escape(''.join(sorted(ALPHABET)))}{self.also}]*")


NEWLINE = "\u23ce"  # parts the lines of a paragraph of code
ASIAN_SIGNS = "\u3000-\u303f\uff00-\uffef"
ASIAN = f"{HAN}{KANA}{HANGUL}{ASIAN_SIGNS}"
ENGLISH = frozenset("the of and to in is that for you are with as be this it not on or by if".split())
LATIN = "A-Za-zÀ-ÖØ-öø-ÿœŒ"
SCRIPTS = {
    "en": Script(),
    "de": Script(LATIN, "„‚", words=frozenset("der die das und zu nicht ist mit für von den ein eine auf sie".split())),
    "fr": Script(LATIN, "œŒ", words=frozenset("le la les de des et un une pour est que vous dans par ce".split())),
    "es": Script(LATIN, words=frozenset("el la los las de que y en un una para por con se del no".split())),
    "ru": Script("\u0400-\u04ff", "А-яЁё№„"),
    "zh": Script(HAN, ASIAN, shortest=12),
    "ja": Script(HAN + KANA, ASIAN, shortest=12),
    "ko": Script(HANGUL, HANGUL + "「」『』·", share=0.4, shortest=16),
    "code": Script(also=NEWLINE),
}


@functools.lru_cache(maxsize=1)
def manifest() -> dict[str, dict]:
    """name -> {split, package, licence, chars, sha256} of every embedded corpus."""
    return json.loads((TEXTS / "manifest.json").read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=16)
def embedded(name: str) -> tuple[str, ...]:
    """Paragraphs of an embedded corpus, checked against the manifest's hash."""
    entry = manifest().get(name)
    require(entry, f"corpus '{name}' is unknown; choose one of {', '.join(manifest())}.")
    data = lzma.decompress((TEXTS / f"{name}.txt.xz").read_bytes())
    require(
        hashlib.sha256(data).hexdigest() == entry["sha256"],  # type: ignore[index]
        f"corpus '{name}' differs from its hash in texts/manifest.json; restore the file.",
    )
    return tuple(data.decode("utf-8").splitlines())


def split(name: str, language: str = "en") -> tuple[tuple[str, ...], ...]:
    """All embedded corpora of the set "train" or "held_out" in a language, one tuple of paragraphs each."""
    require(name in ("train", "held_out"), f"corpus set '{name}' is unknown; choose 'train' or 'held_out'.")
    require(language in SCRIPTS, f"language '{language}' is unknown; choose one of {', '.join(SCRIPTS)}.")
    names = [key for key, entry in manifest().items() if (entry["split"], entry["language"]) == (name, language)]
    return tuple(embedded(key) for key in names)


def folder(path: str, language: str = "en") -> tuple[tuple[str, ...], ...]:
    """The .txt, .jsonl and .pdf files under a folder, in name order, one tuple of paragraphs each.

    A line of a .jsonl file is a string, or an object whose "text" is one. A file that cannot be read is left out
    (`faults` tells why).

    Raises:
        GotError: for a folder without usable text.
    """
    return _folder(path, language)[0]


def faults(path: str, language: str = "en") -> tuple[str, ...]:
    """Why files of a corpus folder are left out, a sentence each."""
    return _folder(path, language)[1]


@functools.lru_cache(maxsize=8)
def _folder(path: str, language: str) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    root = Path(path)
    require(root.is_dir(), f"corpus folder {path} does not exist; point to a folder of .txt, .jsonl or .pdf files.")
    found, left_out = [], []
    shortest = SCRIPTS[language].shortest
    for file in sorted(p for p in root.rglob("*") if p.suffix.lower() in (".txt", ".jsonl", ".pdf")):
        try:
            paragraphs = tuple(clean(_file_paragraphs(file), language))
            require(paragraphs, f"{file} has no paragraph of {shortest} characters in '{language}'.")
            found.append(paragraphs)
        except GotError as err:
            left_out.append(str(err))
    if not found:
        why = f"; the first: {left_out[0]}" if left_out else "; add some."
        raise GotError(f"corpus folder {path} holds no .txt, .jsonl or .pdf file with text in '{language}'{why}")
    return tuple(found), tuple(left_out)


def clean(paragraphs: Iterable[str], language: str = "en") -> Iterator[str]:
    """Single-spaced paragraphs long enough, in the language's letters; the others are left out.

    Spaces between Chinese or Japanese characters are line breaks of the source, and go.
    """
    script = SCRIPTS[language]
    for paragraph in paragraphs:
        text = re.sub("[\u00ad\u200b\u0301]", "", paragraph)  # soft hyphens, Russian stress marks
        text = text if language == "code" else " ".join(text.split())
        if language in ("zh", "ja"):
            text = re.sub(f"(?<=[{ASIAN}]) (?=[{ASIAN}])", "", text)
        if len(text) < script.shortest or not script.known.fullmatch(text):
            continue
        if script.letters and len(re.findall(f"[{script.letters}]", text)) < script.share * len(text):
            continue
        words = text.lower().split() if script.words else []
        if words and sum(w in script.words for w in words) <= sum(w in ENGLISH for w in words):
            continue
        yield text


def _file_paragraphs(path: Path) -> list[str]:
    if path.suffix.lower() == ".pdf":
        import pymupdf

        try:
            with pymupdf.open(path) as document:
                require(not document.needs_pass, f"{path} is encrypted; decrypt it first, e.g. with qpdf.")
                return [block[4] for page in document for block in page.get_text("blocks") if block[6] == 0]
        except GotError:
            raise
        except Exception as err:  # PyMuPDF raises many kinds for broken files
            raise GotError(f"{path} cannot be read as a PDF ({err}); remove it from the corpus folder.") from None
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise GotError(f"{path} is not UTF-8 (byte {err.start}); convert it, e.g. with iconv.") from None
    except OSError as err:
        raise GotError(f"{path} cannot be read ({err.strerror}).") from None
    if path.suffix.lower() == ".txt":
        return re.split(r"\n\s*\n", text)
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            value = value.get("text") if isinstance(value, dict) else value
            require(
                isinstance(value, str),
                f'{path} line {number} is neither a JSON string nor an object with a "text"; mend or remove it.',
            )
            found += str(value).split("\n")
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.corpora", description="The embedded corpora.")
    from pipelines import corpora_sources

    packages = " ".join(dict.fromkeys(source.package for source in corpora_sources.SOURCES))
    parser.add_argument("action", choices=["list", "build"], help=f"build needs: apt-get install {packages}")
    names = [source.name for source in corpora_sources.SOURCES]
    parser.add_argument("names", nargs="*", metavar="NAME", help="build these alone (default: all)")
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(names):
        parser.error(f"no corpus is named {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    if args.action == "build":
        try:
            corpora_sources.build(args.names)
        except (OSError, subprocess.CalledProcessError) as err:
            print(f"A source text is missing ({err}); run: apt-get install {packages}", file=sys.stderr)
            return 2
    else:
        for name, entry in manifest().items():
            words = f"{entry['split']:9} {entry['language']} {entry['chars']:9,} {name:22}"
            print(f"{words} {entry['licence']} (Debian {entry['package']})")
        for language in SCRIPTS:
            texts = (*split("train", language), *split("held_out", language))
            size = sum(len(paragraph.encode()) for text in texts for paragraph in text)
            print(f"all of {language:5} {size / 1e6:6.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
