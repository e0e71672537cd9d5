"""Text that the engines typeset: an embedded corpus, and any folder of .txt or .pdf files.

A corpus is a tuple of paragraphs. `texts/manifest.json` lists the embedded ones with origin, licence, hash and the set
("train" or "held_out") each belongs to: the split is by name, so a held-out text never enters training.

    python -m pipelines.corpora build      # rebuild texts/ from Debian's documentation packages
    python -m pipelines.corpora list
"""

from __future__ import annotations

import argparse
import functools
import gzip
import hashlib
import html.parser
import json
import lzma
import random
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from got_jax.errors import GotError, require

TEXTS = Path(__file__).parent / "texts"
# What every text font of the manifest can show: Basic Latin, Latin-1 letters, and typographic punctuation.
ALPHABET = frozenset(map(chr, (*range(0x20, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)))) | frozenset("–—‘’“”•…")
SHORTEST_PARAGRAPH = 40


@dataclass(frozen=True)
class Source:
    """An embedded corpus: where it comes from and how much of it is kept."""

    name: str
    split: str
    package: str
    licence: str
    limit_chars: int


SOURCES = (
    Source("king-james-bible", "train", "bible-kjv-text", "public domain", 1_200_000),
    Source("jargon-file", "train", "jargon-text", "public domain", 1_300_000),
    Source("debian-handbook", "train", "debian-handbook", "GPL-2+ or CC-BY-SA-3.0", 1_200_000),
    Source("anarchist-faq", "train", "anarchism", "GPL-2", 1_200_000),
    Source("wordnet-glosses", "train", "wordnet-base", "WordNet 3.0 licence", 1_200_000),
    Source("debian-reference", "held_out", "debian-reference-en", "GPL-2+", 400_000),
    Source("developers-reference", "held_out", "developers-reference", "GPL-2+", 400_000),
    Source("maint-guide", "held_out", "maint-guide", "GPL-2+", 250_000),
)


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


def split(name: str) -> tuple[tuple[str, ...], ...]:
    """All embedded corpora of the set "train" or "held_out", one tuple of paragraphs each."""
    names = [key for key, entry in manifest().items() if entry["split"] == name]
    require(names, f"corpus set '{name}' is unknown; choose 'train' or 'held_out'.")
    return tuple(embedded(key) for key in names)


@functools.lru_cache(maxsize=4)
def folder(path: str) -> tuple[tuple[str, ...], ...]:
    """The .txt and .pdf files under a folder, in name order, one tuple of paragraphs each."""
    root = Path(path)
    require(root.is_dir(), f"corpus folder {path} does not exist; point to a folder of .txt or .pdf files.")
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in (".txt", ".pdf"))
    found = [tuple(clean(_file_paragraphs(file))) for file in files]
    found = [paragraphs for paragraphs in found if paragraphs]
    require(found, f"corpus folder {path} holds no .txt or .pdf file with text; add some.")
    return tuple(found)


def clean(paragraphs: Iterable[str]) -> Iterator[str]:
    """Single-spaced paragraphs of at least 40 characters, all of them in `ALPHABET`; the others are left out."""
    for paragraph in paragraphs:
        text = " ".join(paragraph.replace("\u00ad", "").split())
        if len(text) >= SHORTEST_PARAGRAPH and set(text) <= ALPHABET:
            yield text


def _file_paragraphs(path: Path) -> list[str]:
    if path.suffix.lower() == ".txt":
        return re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace"))
    import pymupdf

    try:
        with pymupdf.open(path) as document:
            return [block[4] for page in document for block in page.get_text("blocks") if block[6] == 0]
    except Exception as err:  # PyMuPDF raises many kinds for broken files
        raise GotError(f"{path} cannot be read as a PDF ({err}); remove it from the corpus folder.") from None


# --- building the embedded corpora -----------------------------------------------------------------------------


class _Paragraphs(html.parser.HTMLParser):
    """The text of every <p> and, as DocBook writes them, every <div class="para">."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "p" or ("class", "para") in attrs:
            self._inside = True
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("p", "div"):
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found[-1] += data


def _bible() -> Iterator[str]:
    """Verses, two or three to a paragraph."""
    done = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], capture_output=True, text=True, check=True)
    verses = [line.split(" ", 1)[1] for line in done.stdout.splitlines() if re.match(r"\w+:\d+ ", line)]
    size = random.Random(0)
    at = 0
    while at < len(verses):
        count = size.randint(1, 3)
        yield " ".join(verses[at : at + count])
        at += count


def _gzip_text(path: str) -> list[str]:
    return re.split(r"\n\s*\n", gzip.decompress(Path(path).read_bytes()).decode("utf-8", errors="replace"))


def _handbook() -> Iterator[str]:
    for path in sorted(Path("/usr/share/doc/debian-handbook/html/en-US").glob("*.html")):
        parser = _Paragraphs()
        parser.feed(path.read_text(encoding="utf-8"))
        yield from parser.found


def _faq() -> Iterator[str]:
    for path in sorted(Path("/usr/share/doc/anarchism/markdown").glob("sec*.md.gz")):
        for paragraph in _gzip_text(str(path)):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", paragraph)  # links
            text = re.sub(r"^> ?", "", text, flags=re.MULTILINE)
            yield re.sub(r"[*_#]+|\\(?=\W)", "", text)


def _wordnet() -> Iterator[str]:
    """Glosses with their examples, after the words they explain."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in Path(f"/usr/share/wordnet/data.{part}").read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):
                continue
            fields, gloss = line.split(" | ", 1)
            words = fields.split()
            count = int(words[3], 16)
            names = [re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in words[4 : 4 + 2 * count : 2]]
            yield f"{', '.join(names)}: {gloss.strip()}"


def _prose(paragraphs: Iterable[str]) -> Iterator[str]:
    """Drops tables, rules and indexes of plain-text manuals."""
    for paragraph in paragraphs:
        letters = sum(ch.isalpha() or ch == " " for ch in paragraph)
        if letters > 0.8 * len(paragraph) and not re.search(r"[|+]--|\|.*\||-{4}|={4}|\*{4}|\.{4}|_{3}", paragraph):
            yield paragraph


def _read(source: Source) -> Iterable[str]:
    readers = {
        "king-james-bible": _bible,
        "jargon-file": lambda: _prose(_gzip_text("/usr/share/doc/jargon-text/jargon.txt.gz")),
        "debian-handbook": _handbook,
        "anarchist-faq": _faq,
        "wordnet-glosses": _wordnet,
        "debian-reference": lambda: _prose(_gzip_text("/usr/share/debian-reference/debian-reference.en.txt.gz")),
        "developers-reference": lambda: _prose(
            _gzip_text("/usr/share/developers-reference/developers-reference.txt.gz")
        ),
        "maint-guide": lambda: _prose(_gzip_text("/usr/share/doc/maint-guide/maint-guide.en.txt.gz")),
    }
    return readers[source.name]()


def build() -> None:
    """Writes texts/*.txt.xz and the manifest; held-out paragraphs that also stand in a training text are dropped."""
    entries: dict[str, dict] = {}
    training: set[str] = set()
    for source in sorted(SOURCES, key=lambda s: s.split != "train"):
        paragraphs = list(dict.fromkeys(clean(_read(source))))
        if source.split == "train":
            training.update(paragraphs)
        else:
            paragraphs = [p for p in paragraphs if p not in training]
        random.Random(source.name).shuffle(paragraphs)
        kept, chars = [], 0
        for paragraph in paragraphs:
            if chars + len(paragraph) > source.limit_chars:
                break
            kept.append(paragraph)
            chars += len(paragraph) + 1
        data = "\n".join(kept).encode("utf-8")
        (TEXTS / f"{source.name}.txt.xz").write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
        entries[source.name] = {
            "split": source.split,
            "package": source.package,
            "licence": source.licence,
            "chars": chars,
            "paragraphs": len(kept),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        print(f"{source.name}: {len(kept)} paragraphs, {chars} characters")
    (TEXTS / "manifest.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.corpora", description="The embedded corpora.")
    packages = " ".join(s.package for s in SOURCES)
    parser.add_argument("action", choices=["list", "build"], help=f"build needs: apt-get install {packages}")
    if parser.parse_args(argv).action == "build":
        try:
            build()
        except (OSError, subprocess.CalledProcessError) as err:
            print(f"A source text is missing ({err}); run: apt-get install {packages}", file=sys.stderr)
            return 2
    else:
        for name, entry in manifest().items():
            print(f"{entry['split']:9} {entry['chars']:9,} {name:22} {entry['licence']} (Debian {entry['package']})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
