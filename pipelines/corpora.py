"""Text that the engines typeset: embedded corpora in eight languages, and any folder of .txt, .jsonl or .pdf files.

A corpus is a tuple of paragraphs. `texts/manifest.json` lists the embedded ones with language, origin, licence, hash
and the set ("train" or "held_out") each belongs to: the split is by name, so a held-out text never enters training.

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
# What every Latin text font of the manifest can show: Basic Latin, Latin-1 letters, and typographic punctuation.
ALPHABET = frozenset(map(chr, (*range(0x20, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)))) | frozenset("–—‘’“”•…")
SHORTEST_PARAGRAPH = 40
HAN, KANA, HANGUL = "\u3400-\u4dbf\u4e00-\u9fff", "\u3040-\u30ff", "\uac00-\ud7a3"
ASIAN = re.compile(f"[{HAN}{KANA}{HANGUL}\u3000-\u303f\uff00-\uffef]")


@dataclass(frozen=True)
class Script:
    """How a language's paragraphs are told from others: they hold `share` of `letters`, or its commonest words.

    Attributes:
        letters: a regular expression class; also what the alphabet has beyond ASCII letters.
        words: small words, of which a paragraph in a Latin alphabet has more than of the English ones.
        shortest: characters of the shortest paragraph.
    """

    letters: str
    share: float = 0.5
    words: frozenset[str] = frozenset()
    shortest: int = SHORTEST_PARAGRAPH


ENGLISH = frozenset("the of and to in is that for you are with as be this it not on or by if".split())
LATIN_LETTERS = "A-Za-zÀ-ÖØ-öø-ÿœŒ"
SCRIPTS = {
    "en": Script(LATIN_LETTERS),
    "de": Script(
        LATIN_LETTERS, words=frozenset("der die das und zu nicht ist mit für von den ein eine auf sie".split())
    ),
    "fr": Script(LATIN_LETTERS, words=frozenset("le la les de des et un une pour est que vous dans par ce".split())),
    "es": Script(LATIN_LETTERS, words=frozenset("el la los las de que y en un una para por con se del no".split())),
    "ru": Script("\u0400-\u04ff"),
    "zh": Script(HAN, shortest=12),
    "ja": Script(HAN + KANA, shortest=12),
    "ko": Script(HANGUL, share=0.4, shortest=16),
    "code": Script("!-~", share=0.0),
}
NEWLINE = "\u23ce"  # parts the lines of a paragraph of code
EXTRA = {
    "en": "",
    "de": "„‚",
    "fr": "œŒ",
    "es": "",
    "ru": "".join(map(chr, range(0x410, 0x450))) + "Ёё№„",
    "ko": "「」『』·",
    "code": NEWLINE,
}


@dataclass(frozen=True)
class Source:
    """An embedded corpus: where it comes from and how much of it is kept."""

    name: str
    split: str
    package: str
    licence: str
    limit_chars: int
    language: str = "en"


HANDBOOK, GPL = "GPL-2+ or CC-BY-SA-3.0", "GPL-2+"
SOURCES = (
    Source("king-james-bible", "train", "bible-kjv-text", "public domain", 1_200_000),
    Source("jargon-file", "train", "jargon-text", "public domain", 1_300_000),
    Source("debian-handbook", "train", "debian-handbook", "GPL-2+ or CC-BY-SA-3.0", 1_200_000),
    Source("anarchist-faq", "train", "anarchism", "GPL-2", 1_200_000),
    Source("wordnet-glosses", "train", "wordnet-base", "WordNet 3.0 licence", 1_200_000),
    Source("debian-reference", "held_out", "debian-reference-en", "GPL-2+", 400_000),
    Source("developers-reference", "held_out", "developers-reference", "GPL-2+", 400_000),
    Source("maint-guide", "held_out", "maint-guide", "GPL-2+", 250_000),
    Source("debian-handbook-zh", "train", "debian-handbook", HANDBOOK, 600_000, "zh"),
    Source("installation-guide-zh", "train", "installation-guide-amd64", GPL, 300_000, "zh"),
    Source("maint-guide-zh", "train", "maint-guide-zh-cn", GPL, 200_000, "zh"),
    Source("debian-faq-zh", "train", "debian-faq-zh-cn", GPL, 200_000, "zh"),
    Source("poems-and-sayings-zh", "train", "fortunes-zh", "GPL-3+", 400_000, "zh"),
    Source("debian-reference-zh", "held_out", "debian-reference-zh-cn", GPL, 200_000, "zh"),
    Source("debian-handbook-de", "train", "debian-handbook", HANDBOOK, 300_000, "de"),
    Source("debian-reference-de", "held_out", "debian-reference-de", GPL, 100_000, "de"),
    Source("debian-handbook-fr", "train", "debian-handbook", HANDBOOK, 300_000, "fr"),
    Source("debian-reference-fr", "held_out", "debian-reference-fr", GPL, 100_000, "fr"),
    Source("debian-handbook-es", "train", "debian-handbook", HANDBOOK, 300_000, "es"),
    Source("debian-reference-es", "held_out", "debian-reference-es", GPL, 100_000, "es"),
    Source("debian-handbook-ru", "train", "debian-handbook", HANDBOOK, 300_000, "ru"),
    Source("maint-guide-ru", "held_out", "maint-guide-ru", GPL, 100_000, "ru"),
    Source("debian-handbook-ja", "train", "debian-handbook", HANDBOOK, 200_000, "ja"),
    Source("debian-reference-ja", "held_out", "debian-reference-ja", GPL, 80_000, "ja"),
    Source("installation-guide-ko", "train", "installation-guide-amd64", GPL, 200_000, "ko"),
    Source("debian-faq-ko", "held_out", "debian-faq-ko", GPL, 80_000, "ko"),
    Source("python-library", "train", "libpython3.11-stdlib", "PSF-2.0", 300_000, "code"),
    Source("perl-library", "held_out", "perl-modules-5.36", "GPL-1+ or Artistic", 100_000, "code"),
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
    letter = re.compile(f"[{script.letters}]")
    alphabet = None if language in ("zh", "ja") else ALPHABET | frozenset(EXTRA[language])
    for paragraph in paragraphs:
        text = paragraph.replace("\u00ad", "").replace("\u200b", "")
        text = text if language == "code" else " ".join(text.split())
        if language == "ru":
            text = text.replace("\u0301", "")  # stress marks
        if alphabet is None:
            text = re.sub(f"(?<={ASIAN.pattern}) (?={ASIAN.pattern})", "", text)
        elif language == "ko":
            if not all(ch in alphabet or HANGUL[0] <= ch <= HANGUL[-1] for ch in text):
                continue
        elif not set(text) <= alphabet:
            continue
        if len(text) < script.shortest:
            continue
        if language != "en" and len(letter.findall(text)) < script.share * len(text):
            continue
        if alphabet is None and not all(ch in ALPHABET or ASIAN.match(ch) for ch in text):
            continue
        if script.words:
            words = text.lower().split()
            if sum(w in script.words for w in words) <= sum(w in ENGLISH for w in words):
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
    for number, line in enumerate(text.splitlines(), 1):
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


def _html(pattern: str) -> Iterator[str]:
    """The paragraphs of the files under /usr/share that match, without those that stand in several of them."""
    for path in sorted(Path("/usr/share").glob(pattern)):
        parser = _Paragraphs()
        parser.feed(path.read_text(encoding="utf-8", errors="replace"))
        yield from parser.found


def _code(pattern: str) -> Iterator[str]:
    """Pieces of source files: up to forty lines between blank ones, none over 100 characters."""
    for path in sorted(Path("/").glob(pattern)):
        text = path.read_text(encoding="utf-8", errors="replace").expandtabs(4)
        for piece in re.split(r"\n\s*\n", text):
            lines = [line.rstrip() for line in piece.strip("\n").splitlines()][:40]
            if len(lines) >= 3 and all(len(line) <= 100 for line in lines):
                yield NEWLINE.join(lines)


def _fortunes(names: Iterable[str]) -> Iterator[str]:
    """Sayings, and a poem as one paragraph; colours of the terminal go."""
    for name in names:
        text = Path(f"/usr/share/games/fortunes/{name}").read_text(encoding="utf-8", errors="replace")
        for saying in re.sub(r"\x1b\[\d*m", "", text).split("\n%\n"):
            yield from re.split(r"\n\s*\n", saying)


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
    handbook = {"de": "de-DE", "fr": "fr-FR", "es": "es-ES", "ru": "ru-RU", "zh": "zh-CN", "ja": "ja-JP"}
    language = source.language.replace("zh", "zh-cn")
    readers = {
        "king-james-bible": _bible,
        "jargon-file": lambda: _prose(_gzip_text("/usr/share/doc/jargon-text/jargon.txt.gz")),
        "debian-handbook": lambda: _html("doc/debian-handbook/html/en-US/*.html"),
        "python-library": lambda: _code("usr/lib/python3.11/*.py"),
        "perl-library": lambda: _code("usr/share/perl/5.36*/*/*.pm"),
        "poems-and-sayings-zh": lambda: _fortunes(["tang300", "song100", "chinese"]),
        "anarchist-faq": _faq,
        "wordnet-glosses": _wordnet,
        "debian-reference": lambda: _prose(_gzip_text("/usr/share/debian-reference/debian-reference.en.txt.gz")),
        "developers-reference": lambda: _prose(
            _gzip_text("/usr/share/developers-reference/developers-reference.txt.gz")
        ),
        "maint-guide": lambda: _prose(_gzip_text("/usr/share/doc/maint-guide/maint-guide.en.txt.gz")),
    }
    if source.name in readers:
        return readers[source.name]()
    pattern = {
        "debian-handbook": f"doc/debian-handbook/html/{handbook.get(source.language)}/*.html",
        "installation-guide": f"doc/installation-guide-amd64/{language.replace('zh-cn', 'zh_CN')}/*.html",
        "maint-guide": f"doc/maint-guide-{language}/html/*.html",
        "debian-faq": f"doc/debian/FAQ/{language}/*.html",
        "debian-reference": f"debian-reference/*.{language}.html",
    }
    return _html(pattern[source.name.rsplit("-", 1)[0]])


def build() -> None:
    """Writes texts/*.txt.xz and the manifest; held-out paragraphs that also stand in a training text are dropped."""
    entries: dict[str, dict] = {}
    training: set[str] = set()
    for source in sorted(SOURCES, key=lambda s: s.split != "train"):
        paragraphs = list(dict.fromkeys(clean(_read(source), source.language)))
        if not paragraphs:
            raise FileNotFoundError(source.package)
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
            "language": source.language,
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
            words = f"{entry['split']:9} {entry['language']} {entry['chars']:9,} {name:22}"
            print(f"{words} {entry['licence']} (Debian {entry['package']})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
