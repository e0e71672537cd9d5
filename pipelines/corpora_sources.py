"""Where the embedded corpora come from, and how they are made: Debian's documentation packages, read and cut.

Run by `python -m pipelines.corpora build`.
"""

from __future__ import annotations

import gzip
import hashlib
import html.parser
import json
import lzma
import random
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines import corpora


@dataclass(frozen=True)
class Source:
    """An embedded corpus: where it comes from and how much of it is kept."""

    name: str
    split: str
    package: str
    licence: str
    limit_chars: int
    language: str = "en"


RUN = 60  # characters that two texts share by more than chance
HANDBOOK, GPL = "GPL-2+ or CC-BY-SA-3.0", "GPL-2+"
SOURCES = (
    Source("king-james-bible", "train", "bible-kjv-text", "public domain", 1_200_000),
    Source("jargon-file", "train", "jargon-text", "public domain", 1_300_000),
    Source("debian-handbook", "train", "debian-handbook", HANDBOOK, 1_200_000),
    Source("anarchist-faq", "train", "anarchism", "GPL-2", 1_200_000),
    Source("wordnet-glosses", "train", "wordnet-base", "WordNet 3.0 licence", 1_200_000),
    Source("python-docs", "train", "python3.11-doc", "PSF-2.0", 1_200_000),
    Source("debian-policy", "train", "debian-policy", GPL, 500_000),
    Source("git-docs", "train", "git-doc", "GPL-2", 1_000_000),
    Source("debian-reference", "held_out", "debian-reference-en", GPL, 400_000),
    Source("developers-reference", "held_out", "developers-reference", GPL, 400_000),
    Source("maint-guide", "held_out", "maint-guide", GPL, 250_000),
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


def _texts(pattern: str) -> Iterator[str]:
    """The paragraphs of the plain files under /usr/share/doc that match."""
    for path in sorted(Path("/usr/share/doc").glob(pattern)):
        if path.suffix == ".gz":
            yield from _gzip_text(str(path))
        else:
            yield from re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace"))


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
                yield corpora.NEWLINE.join(lines)


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
        "python-docs": lambda: _html("doc/python3.11/html/[a-z]*/*.html"),
        "debian-policy": lambda: _prose(_texts("debian-policy/*.txt.gz")),
        "git-docs": lambda: _prose(_texts("git-doc/**/*.txt")),
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


def runs(paragraph: str) -> set[str]:
    """Every stretch of `RUN` characters."""
    return {paragraph[i : i + RUN] for i in range(max(1, len(paragraph) - RUN + 1))}


def build(names: Sequence[str] = ()) -> None:
    """Writes texts/*.txt.xz and the manifest: all, or those of the names beside the others as they are.

    Held-out paragraphs that also stand in a training text are dropped. Held-out texts that stay as they are go first:
    a training paragraph that shares a run of 60 characters with one of them is dropped.
    """
    entries: dict[str, dict] = {}
    training: set[str] = set()
    stay = [source for source in SOURCES if names and source.name not in names]
    held = {run for s in stay if s.split != "train" for p in corpora.embedded(s.name) for run in runs(p)}
    for source in sorted(SOURCES, key=lambda s: s.split != "train"):
        if source in stay:
            entries[source.name] = corpora.manifest()[source.name]
            training.update(corpora.embedded(source.name) if source.split == "train" else ())
            continue
        paragraphs = list(dict.fromkeys(corpora.clean(_read(source), source.language)))
        if not paragraphs:
            raise FileNotFoundError(source.package)
        if source.split == "train":
            paragraphs = [p for p in paragraphs if held.isdisjoint(runs(p))]
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
        (corpora.TEXTS / f"{source.name}.txt.xz").write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
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
    (corpora.TEXTS / "manifest.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
